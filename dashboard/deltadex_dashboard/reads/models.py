"""Reads of the Models place: the list of registered models, and comparisons."""

from __future__ import annotations

from deltadex.catalog import listing as catalog
from deltadex.catalog.listing import ListedPage, Order
from deltadex.catalog.wanted import Choices, Wanted
from deltadex_dashboard.reads.snapshots import Snapshot, cached


def listing(now: Snapshot, wanted: Wanted, *, number: int, order: Order) -> ListedPage:
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
