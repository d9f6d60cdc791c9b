"""The lineage of one version as a graph, for its page and `deltadex lineage`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from deltadex.access import Person
from deltadex.lineage import queries
from deltadex.lineage.queries import MeasuredPair
from deltadex.store.database import Transaction
from deltadex.types import FindingKind, VersionRow
from deltadex.versions.queries import by_ids
from deltadex.versions.reads import sees_versions

#: Measured relations that are read: a group of copies may have thousands.
MOST_MEASURED = 12


class Relation(StrEnum):
    """Relation of two versions, read from the first to the second."""

    BASE = "base of"
    COPY = "copied as"
    NEXT = "next version"
    SAME_WEIGHTS = "same weights"
    MERGE = "adapter and its merge"
    QUANTIZED = "quantised copy"
    NEAR = "near duplicate"

    @property
    def is_declared(self) -> bool:
        """True if the registry or the files say so, False if it was measured."""
        return self in (Relation.BASE, Relation.COPY, Relation.NEXT)


@dataclass(frozen=True)
class Edge:
    """A relation from one version, or from a base model by its declared name, to another version."""

    relation: Relation
    source: VersionRow | str
    target: VersionRow
    similarity: float | None = None

    @property
    def in_words(self) -> str:
        """The relation, with its similarity if it has one."""
        return self.relation if self.similarity is None else f"{self.relation}, {self.similarity:.3f}"


def lineage(tx: Transaction, viewer: Person, version_id: int) -> tuple[Edge, ...]:
    """Return the relations of a version: declared ones first; hidden versions are masked. Empty if it is hidden."""
    if not sees_versions(tx, viewer, version_id):
        return ()
    copies, steps = queries.copies(tx, version_id), queries.next_to(tx, version_id)
    measured = queries.measured(tx, version_id, limit=MOST_MEASURED)
    declared = [(Relation.COPY, pair) for pair in copies] + [(Relation.NEXT, pair) for pair in steps]
    ids = {version_id, *(each for _, pair in declared for each in pair)}
    ids |= {each for one in measured for each in (one.newer, one.older)}
    rows = {row_id: viewer.view(row) for row_id, row in by_ids(tx, list(ids)).items()}
    base = queries.declared_base(tx, version_id)
    return (
        *([Edge(Relation.BASE, base, rows[version_id])] if base else []),
        *(Edge(relation, rows[one], rows[other]) for relation, (one, other) in declared),
        *(
            Edge(relation, rows[one.older], rows[one.newer], one.similarity)
            for relation, one in _without(measured, {frozenset(pair) for pair in copies})
        ),
    )


def _without(
    measured: list[MeasuredPair], declared_copies: set[frozenset[int]]
) -> Iterator[tuple[Relation, MeasuredPair]]:
    """Yield measured pairs with their relations; a declared copy has the same weights anyway."""
    for one in measured:
        relation = _relation(one)
        if relation is not Relation.SAME_WEIGHTS or frozenset((one.newer, one.older)) not in declared_copies:
            yield relation, one


def _relation(one: MeasuredPair) -> Relation:
    if one.kind is FindingKind.NEAR_DUPLICATE:
        return Relation.NEAR
    if "bits" in one.evidence:
        return Relation.QUANTIZED
    return Relation.SAME_WEIGHTS if one.evidence.get("weights_digest") else Relation.MERGE
