"""The section `clauses.md`: which file serves which clause, what is there, and what a person must add.

The clauses are in `clauses.toml`, with their sources.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from deltadex.evidence import pictures, safety
from deltadex.evidence.source import PackSource
from deltadex.evidence.templates import templates
from deltadex.lineage.base import BaseVerdict
from deltadex.lineage.graph import Relation
from deltadex.ownership.attestation import AttestationState, Ownership


@dataclass(frozen=True)
class PackFact:
    """One fact that a pack may have, in words, with its test."""

    words: str
    is_there: Callable[[PackSource], bool]


def _of_ownership(source: PackSource, is_there: Callable[[Ownership], bool]) -> bool:
    known = source.facts.ownership
    return known is not None and is_there(known)


_FACTS: Mapping[str, PackFact] = {
    "identity": PackFact("name and date of registration", lambda _: True),
    "digests": PackFact("digests", lambda _: True),
    "aliases": PackFact("aliases", lambda each: bool(each.facts.version.registered.aliases)),
    "description": PackFact("description", lambda each: bool(each.facts.version.registered.description)),
    "earlier": PackFact(
        "relation to another version", lambda each: any(one.relation is Relation.NEXT for one in each.facts.edges)
    ),
    "purpose": PackFact("intended use", lambda each: bool(each.facts.intended_use)),
    "owner": PackFact("owner", lambda each: _of_ownership(each, lambda known: bool(known.owner))),
    "tier": PackFact("risk tier", lambda each: _of_ownership(each, lambda known: known.tier is not None)),
    "attestation": PackFact(
        "current attestation",
        lambda each: _of_ownership(each, lambda known: known.state is AttestationState.CURRENT),
    ),
    "base": PackFact("base", lambda each: bool(each.facts.base_name)),
    "base_measured": PackFact(
        "base determined by the weights",
        lambda each: each.facts.base is not None and each.facts.base.verdict is not BaseVerdict.UNDETERMINED,
    ),
    "license": PackFact("licence of the version", lambda each: bool(each.facts.licenses.of_finetune)),
    "license_base": PackFact("licence of the base", lambda each: bool(each.facts.licenses.of_base)),
    "training": PackFact("parameters of the run", lambda each: bool(each.facts.record.get("parameters"))),
    "data": PackFact("data sets", lambda each: bool(each.facts.record.get("data"))),
    "metrics": PackFact("metrics", lambda each: bool(each.facts.version.provenance.metrics)),
    "embedding": PackFact("embedding", lambda each: bool(each.facts.embeddings)),
    "noise": PackFact(
        "noise floor", lambda each: any(one.recipe.noise_floor is not None for one in each.facts.embeddings)
    ),
    "drift": PackFact("measured drift", lambda each: bool(pictures.drift(each))),
    "safety": PackFact("measured safety", lambda each: bool(safety.text(each))),
    "findings": PackFact("findings", lambda each: bool(each.facts.findings)),
    "decisions": PackFact("decisions", lambda each: any(not isinstance(one, str) for one in each.facts.log["entries"])),
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
        Names in `_FACTS` of what must be known for it; empty if only a person can know.
    """

    clause: str
    asks: str
    files: str
    there: str
    missing: str
    has: tuple[str, ...]

    def answer(self, source: PackSource) -> str:
        """Return `yes` or `no`, or `partly` with the facts that a pack lacks."""
        lacking = [_FACTS[name].words for name in self.has if not _FACTS[name].is_there(source)]
        if len(lacking) == len(self.has):
            return "no"
        return f"partly: no {', no '.join(lacking)}" if lacking else "yes"


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
        Framework(one["name"], one["remark"], tuple(_row(row) for row in one["clauses"])) for one in told["frameworks"]
    )


def _row(told: dict[str, Any]) -> ClauseRow:
    return ClauseRow(**{**told, "has": tuple(told["has"])})


def text(source: PackSource) -> str:
    """Return the section."""
    groups = [(one, [(row, row.answer(source)) for row in one.clauses]) for one in frameworks()]
    return templates(is_markup=False).get_template("clauses.md.jinja").render(label=source.facts.label, groups=groups)
