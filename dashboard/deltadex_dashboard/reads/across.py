"""Reads of the comparison across bases, cached until the data change."""

from __future__ import annotations

from deltadex.across import reads as across
from deltadex.across.queries import Coverage
from deltadex.across.reads import AcrossMap, Counterparts
from deltadex_dashboard.reads.snapshots import Snapshot, cached


@cached
def coverage(now: Snapshot) -> list[Coverage]:
    """Return how many versions of each base may be compared across bases, and of how many that is known."""
    with now.transaction() as tx:
        return across.coverage(tx, now.person, now.settings.registry)


@cached
def across_map(now: Snapshot) -> AcrossMap:
    """Return the map of all versions whose Delta Meaning is known."""
    with now.transaction() as tx:
        return across.across_map(tx, now.person, now.settings.registry)


@cached
def counterparts(now: Snapshot, version_id: int) -> Counterparts:
    """Return the versions of other bases that are most similar to a version."""
    with now.transaction() as tx:
        return across.counterparts(tx, now.person, now.settings.registry, version_id)
