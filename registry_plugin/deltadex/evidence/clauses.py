"""The section `clauses.md`: which file serves which clause, what is there, and what a person must add.

The clauses are in `clauses.toml`, with their sources.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from deltadex.evidence.facts import EvidenceFacts
from deltadex.evidence.source import PackSource
from deltadex.evidence.templates import templates

#: Tests of what a pack holds for a clause: most of it is there only if the version's run logged it.
_FACTS: Mapping[str, Callable[[EvidenceFacts], bool]] = {
    "always": lambda _: True,
    "never": lambda _: False,
    "data": lambda facts: bool(facts.record.get("data")),
    "training": lambda facts: bool(facts.record.get("parameters")),
    "metrics": lambda facts: bool(facts.version.provenance.metrics),
    "origin": lambda facts: bool(facts.edges),
    "license": lambda facts: bool(facts.licenses.of_base or facts.licenses.of_finetune),
    "purpose": lambda facts: bool(facts.intended_use),
    "drift": lambda facts: facts.drift is not None,
    "embedding": lambda facts: bool(facts.embeddings),
}


@dataclass(frozen=True)
class ClauseRow:
    """One clause.

    Attributes
    ----------
    asks
        Its subject, in our words.
    files
        Files of the pack that serve it; empty if none does.
    there
        What these files hold.
    missing
        What a person must add.
    has
        Name in `_FACTS` of what must be known for it.
    """

    clause: str
    asks: str
    files: str
    there: str
    missing: str
    has: str

    def is_there(self, facts: EvidenceFacts) -> bool:
        """Return True if a pack has what the row names."""
        return _FACTS[self.has](facts)


@dataclass(frozen=True)
class Framework:
    """A law, standard or guidance with its clauses, and what must be said first of it."""

    name: str
    remark: str
    clauses: tuple[ClauseRow, ...]


@cache
def frameworks() -> tuple[Framework, ...]:
    """Return the table."""
    told = tomllib.loads((files(__package__ or "") / "clauses.toml").read_text(encoding="utf-8"))
    return tuple(
        Framework(one["name"], one["remark"], tuple(ClauseRow(**row) for row in one["clauses"]))
        for one in told["frameworks"]
    )


def text(source: PackSource) -> str:
    """Return the section."""
    facts = source.facts
    groups = [(one, [(row, row.is_there(facts)) for row in one.clauses]) for one in frameworks()]
    return templates(is_markup=False).get_template("clauses.md.jinja").render(label=facts.label, groups=groups)
