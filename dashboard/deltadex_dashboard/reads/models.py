"""Reads of the Models place: the list of registered models, and comparisons."""

from __future__ import annotations

from deltadex.catalog import listing as catalog
from deltadex.catalog.listing import ListedPage, ModelOrder
from deltadex.catalog.wanted import Choices, Wanted
from deltadex.comparison.compare_two import TwoVersions, compare_two
from deltadex.lineage.graph import Edge
from deltadex.lineage.graph import lineage as read_lineage
from deltadex.lineage.remarks import base_and_remarks
from deltadex.ownership import reads as owners
from deltadex.ownership.attestation import Ownership
from deltadex.ownership.queries import OwnershipEntry
from deltadex.types import VersionRow
from deltadex.versions.labels import known_version, parse_label
from deltadex_dashboard.reads.snapshots import Snapshot, cached


def listing(now: Snapshot, wanted: Wanted, *, number: int, order: ModelOrder) -> ListedPage:
    """Return a page of the list. Not cached: conditions rarely come twice, and the database pages."""
    with now.transaction() as tx:
        return catalog.listing(tx, now.person, now.settings.registry, wanted, number=number, order=order)


@cached
def choices(now: Snapshot) -> Choices:
    """Return the teams and domains to choose from."""
    with now.transaction() as tx:
        return catalog.choices(tx, now.person, now.settings.registry)


@cached
def labels(now: Snapshot) -> list[str]:
    """Return `NAME/VERSION` of all versions that the person may see."""
    with now.transaction() as tx:
        return catalog.labels(tx, now.person, now.settings.registry)


@cached
def labelled(now: Snapshot, label: str) -> VersionRow:
    """Return the version with one of the `labels`."""
    with now.transaction() as tx:
        return known_version(tx, now.person, now.settings.registry, *parse_label(label))


@cached
def comparison(now: Snapshot, one: int, other: int) -> TwoVersions | None:
    """Return the comparison of two versions; None if the person may not see both."""
    with now.transaction() as tx:
        return compare_two(tx, now.person, now.settings, one, other)


@cached
def ownership(now: Snapshot, name: str) -> Ownership | None:
    """Return who answers for a registered model; None if it is hidden or has no version."""
    with now.transaction() as tx:
        return owners.of_model(tx, now.person, now.settings, name)


@cached
def ownership_history(now: Snapshot, name: str) -> list[OwnershipEntry]:
    """Return who changed and attested what about a registered model, newest first."""
    with now.transaction() as tx:
        return owners.history(tx, now.person, now.settings, name)


@cached
def lineage(now: Snapshot, version_id: int) -> tuple[Edge, ...]:
    """Return the relations of one version."""
    with now.transaction() as tx:
        return read_lineage(tx, now.person, version_id)


@cached
def lineage_remarks(now: Snapshot, version_id: int) -> tuple[str, ...]:
    """Return what else is known of the origin of one version, in sentences."""
    with now.transaction() as tx:
        return base_and_remarks(tx, now.person, version_id)[1]
