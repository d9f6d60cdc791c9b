"""Texts for the pools of finetunes, from packages that the lock file pins. Nothing is downloaded.

There are five domains of the demo company's corpus, each in three parts without common files. Three of the domains also
have texts of the same kind from another source.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from deltadex.demo import corpus

DOMAINS = ("sql", "legal", "cpp", "docs", "python")
#: Parts of a domain for finetunes; the base model is trained on another one.
PARTS = (1, 2, 3)

_INSTRUCTIONS: Mapping[str, str] = {
    "sql": "Write the next statements of this database script.",
    "legal": "Draft the terms.",
    "cpp": "Write the header.",
    "docs": "Explain it to a new user.",
    "python": "Complete the program.",
}
#: Sources that neither the base model nor the corpus' own domains contain.
_OTHER_SOURCE: Mapping[str, tuple[str, ...]] = {
    "cpp": ("pyarrow/include/arrow/compute/*.h", "pyarrow/include/arrow/io/*.h"),
    "docs": ("sklearn/datasets/descr/*.rst", "fastapi/.agents/**/*.md", "typer/.agents/**/*.md"),
    "python": ("transformers/pipelines/*.py",),
}
_OTHER_PARTS = 2


class Source(StrEnum):
    """Source of a domain's text."""

    FIRST = "first"
    OTHER = "other"


class Template(StrEnum):
    """Prompt template around the instruction of a domain."""

    ALPACA = "### Instruction:\n{instruction}\n\n### Response:\n"
    CHAT = "user> {instruction}\nassistant> "


def prompt(domain: str, template: Template) -> str:
    """Return the prompt before each example of a domain."""
    return template.format(instruction=_INSTRUCTIONS[domain])


def part(domain: str, number: int, source: Source) -> list[str]:
    """Return the texts of one part: 1 to 3 of the first source, 1 and 2 of the other."""
    if source is Source.FIRST:
        return [document.text for document in corpus.read_domain(domain)[number]]
    root = Path(sysconfig.get_paths()["purelib"])
    files = sorted({file for pattern in _OTHER_SOURCE[domain] for file in root.glob(pattern)})
    texts = [file.read_text(encoding="utf-8", errors="replace")[: corpus.MAX_FILE_CHARACTERS] for file in files]
    return texts[number - 1 :: _OTHER_PARTS]


def general() -> list[str]:
    """Return the texts that base models are trained on."""
    return [document.text for document in corpus.read_general()]


def digest() -> str:
    """Return the hex SHA-256 over all texts, part of the identity of a trained pool."""
    texts = general() + [text for domain in DOMAINS for number in PARTS for text in part(domain, number, Source.FIRST)]
    others = [text for domain in _OTHER_SOURCE for number in (1, 2) for text in part(domain, number, Source.OTHER)]
    return hashlib.sha256("\0".join(texts + others).encode()).hexdigest()
