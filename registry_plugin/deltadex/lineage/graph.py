"""The lineage of one version as a graph, for its page and `deltadex lineage`: declared and measured relations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from deltadex.access import Person
from deltadex.lineage import queries
from deltadex.lineage import sketch_queries as sketches
from deltadex.lineage.contradictions import declared_parents
from deltadex.lineage.measure import Link, LinkKind, relations
from deltadex.lineage.queries import MeasuredPair
from deltadex.store.database import Transaction
from deltadex.types import FindingKind, VersionRow
from deltadex.versions.queries import by_ids
from deltadex.versions.reads import sees_versions

#: Measured relations that are read: a group of copies may have thousands.
MOST_MEASURED = 12
_SMALLEST_SHOWN = 1e-99


class Relation(StrEnum):
    """Relation of two versions, read from the first to the second."""

    BASE = "base of"
    COPY = "copied as"
    NEXT = "next version"
    PARENT = "declared parent of"
    SAME_WEIGHTS = "same weights"
    MERGE = "adapter and its merge"
    QUANTIZED = "quantised copy"
    NEAR = "near duplicate"
    TRAINED_ON = "trained on as"
    MERGED = "merged into"
    SAME_UPDATE = "same update"
    SHARED_ORIGIN = "shared origin"

    @property
    def is_declared(self) -> bool:
        """True if the registry or the files say so, False if it was measured."""
        return self in (Relation.BASE, Relation.COPY, Relation.NEXT, Relation.PARENT)


_BY_LINK = {
    LinkKind.TRAINED_ON: Relation.TRAINED_ON,
    LinkKind.MERGED: Relation.MERGED,
    LinkKind.SAME: Relation.SAME_UPDATE,
    LinkKind.SHARED: Relation.SHARED_ORIGIN,
}


@dataclass(frozen=True)
class Edge:
    """A relation from one version, or from a base model by its declared name, to another version.

    Attributes
    ----------
    similarity
        Of near duplicates, that of their embeddings; of other measured relations, that of the updates of the weights.
    p
        p-value of a measured origin, corrected for the number of comparisons; None if there is none.
    weight
        Relative weight of a parent in a merge.
    has_order
        False if nobody knows which of the two was first.
    """

    relation: Relation
    source: VersionRow | str
    target: VersionRow
    similarity: float | None = None
    p: float | None = None
    weight: float | None = None
    has_order: bool = True

    @property
    def in_words(self) -> str:
        """The relation, with its numbers."""
        numbers = [
            f"{self.weight:.0%}" if self.weight is not None else "",
            f"{self.similarity:.3f}" if self.similarity is not None and self.weight is None else "",
            p_in_words(self.p) if self.p is not None else "",
        ]
        return ", ".join([self.relation, *filter(None, numbers)])


def p_in_words(p: float) -> str:
    """Return a p-value with one digit; very small ones by their bound."""
    return f"p = {p:.1g}" if p >= _SMALLEST_SHOWN else f"p < {_SMALLEST_SHOWN:.0e}"


def lineage(tx: Transaction, viewer: Person, version_id: int) -> tuple[Edge, ...]:
    """Return the relations of a version: declared ones first; hidden models are masked. Empty if it is hidden."""
    if not sees_versions(tx, viewer, version_id):
        return ()
    copies = queries.copies(tx, version_id)
    declared = [
        *((Relation.COPY, pair) for pair in copies),
        *((Relation.PARENT, pair) for pair in _declared_parents(tx, version_id)),
        *((Relation.NEXT, pair) for pair in queries.next_to(tx, version_id)),
    ]
    measured = queries.measured(tx, version_id, limit=MOST_MEASURED)
    known = {frozenset((one.newer, one.older)) for one in measured} | {frozenset(pair) for pair in copies}
    links = [
        link
        for link in relations(version_id, sketches.coarse(tx, version_id), partial(sketches.of_versions, tx))
        if link.kind is not LinkKind.SAME or frozenset((link.earlier, link.later)) not in known
    ][:MOST_MEASURED]
    ids = {version_id, *(each for _, pair in declared for each in pair)}
    ids |= {each for one in measured for each in (one.newer, one.older)}
    ids |= {each for link in links for each in (link.earlier, link.later)}
    rows = {row_id: viewer.view(row) for row_id, row in by_ids(tx, list(ids)).items()}
    base = viewer.shown_address(queries.declared_base(tx, version_id))
    return (
        *([Edge(Relation.BASE, base, rows[version_id])] if base else []),
        *(Edge(relation, rows[one], rows[other]) for relation, (one, other) in declared),
        *(_of_link(link, rows) for link in links),
        *(
            Edge(relation, rows[one.older], rows[one.newer], one.similarity, has_order=False)
            for relation, one in _without(measured, {frozenset(pair) for pair in copies})
        ),
    )


def _declared_parents(tx: Transaction, version_id: int) -> list[tuple[int, int]]:
    """Return the registered ones of the parents that a version's tag declares, each with the version."""
    row = by_ids(tx, [version_id])[version_id]
    labels = declared_parents(row.registered.tags)
    return [(parent, version_id) for parent in sketches.named(tx, version_id, labels)] if labels else []


def _of_link(link: Link, rows: Mapping[int, VersionRow]) -> Edge:
    return Edge(
        _BY_LINK[link.kind], rows[link.earlier], rows[link.later], link.shared, link.p, link.weight, link.is_directed
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
    return Relation.SAME_WEIGHTS if one.is_equal else Relation.MERGE
