"""Declared origins of a version beside what its weights say, from the store."""

from __future__ import annotations

from deltadex.lineage import sketch_queries as sketches
from deltadex.lineage.base import MeasuredBase, measured_base
from deltadex.lineage.contradictions import declared_parents, judge_lineage
from deltadex.store.database import Transaction
from deltadex.types import Finding, VersionRow


def base_of(tx: Transaction, version_id: int) -> MeasuredBase | None:
    """Return the measured base of a version; None if it has no sketch."""
    own = sketches.of_versions(tx, [version_id]).get(version_id)
    return None if own is None else measured_base(own, sketches.bases(tx, version_id))


def contradicted(tx: Transaction, row: VersionRow) -> list[Finding]:
    """Return a finding if the weights of a version contradict the base or the parents that it declares."""
    own = sketches.of_versions(tx, [row.id]).get(row.id)
    if own is None:
        return []
    labels = declared_parents(row.registered.tags)
    parents = sketches.named(tx, row.id, labels) if labels else {}
    found = sketches.of_versions(tx, parents.keys())
    bases = sketches.bases(tx, row.id)
    return judge_lineage(
        row.id,
        own,
        base=measured_base(own, bases),
        declared_base=next(iter(bases), ""),
        parents={"{}/{}".format(*parents[number]): one for number, one in found.items()},
    )
