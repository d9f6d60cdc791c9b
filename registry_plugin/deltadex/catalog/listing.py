"""The list of registered models as a viewer may see it: hidden models neither appear nor are counted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from deltadex.access import Person
from deltadex.catalog import queries
from deltadex.catalog.queries import Matching
from deltadex.catalog.wanted import Choices, Wanted
from deltadex.clusters import reads as visible_clusters
from deltadex.store.database import Transaction
from deltadex.types import DOMAIN_TAG, OWNER_TAGS, VersionRow
from deltadex.versions import reads as versions
from deltadex.versions.queries import by_ids

#: Models of one page.
PAGE_SIZE = 25


class ModelOrder(StrEnum):
    """Order of the list."""

    NEWEST = "newest"
    NAME = "name"


@dataclass(frozen=True)
class ListedModel:
    """A registered model.

    Attributes
    ----------
    version
        The newest version that meets the conditions.
    versions
        Number of its versions that meet them.
    cluster
        Name of that version's cluster; empty if it is in none, or the name is hidden.
    """

    version: VersionRow
    versions: int
    cluster: str

    @property
    def domain(self) -> str:
        """The declared domain, and the cluster if it has another name."""
        declared = self.version.registered.tags.get(DOMAIN_TAG, "")
        in_cluster = f"in {self.cluster}" if self.cluster and self.cluster != declared else ""
        return ", ".join(filter(None, (declared, in_cluster)))


@dataclass(frozen=True)
class ListedPage:
    """One page of the list.

    Attributes
    ----------
    matching
        How many models and versions meet the conditions, on all pages.
    number, pages
        Number of this page, from 1, and of all pages.
    """

    entries: tuple[ListedModel, ...]
    matching: Matching
    number: int
    pages: int

    @property
    def in_words(self) -> str:
        """The numbers as a sentence."""
        if not self.matching.models:
            return "No registered model meets all conditions."
        models, versions = (
            f"{count:,} {word}{'s' * (count != 1)}"
            for count, word in ((self.matching.models, "registered model"), (self.matching.versions, "version"))
        )
        page = f", page {self.number} of {self.pages}" if self.pages > 1 else ""
        return f"{models} with {versions}{page}"


def listing(
    tx: Transaction,
    viewer: Person,
    registry: str,
    wanted: Wanted,
    *,
    number: int = 1,
    size: int = PAGE_SIZE,
    order: ModelOrder = ModelOrder.NEWEST,
) -> ListedPage:
    """Return a page of the registered models that have a version meeting the conditions.

    Parameters
    ----------
    number
        Number of the page; beyond the last page it is the last one.
    """
    names = visible_clusters.names(tx, viewer, registry)
    called = [each for each, name in names.items() if name == wanted.domain]
    condition, parameters = queries.condition(registry, wanted, names=_visible(tx, viewer, registry), clusters=called)
    matching = queries.count(tx, condition, parameters)
    pages = max(1, -(-matching.models // size))
    number = min(max(1, number), pages)
    hits = queries.page(
        tx, condition, parameters, by_name=order is ModelOrder.NAME, offset=(number - 1) * size, limit=size
    )
    ids = [hit.version_id for hit in hits]
    rows, clusters = by_ids(tx, ids), queries.clusters_of(tx, ids)
    entries = [
        ListedModel(rows[hit.version_id], hit.versions, names.get(clusters.get(hit.version_id, 0), "")) for hit in hits
    ]
    return ListedPage(tuple(entries), matching, number, pages)


def choices(tx: Transaction, viewer: Person, registry: str) -> Choices:
    """Return the teams and domains to choose from."""
    names = _visible(tx, viewer, registry)
    declared = queries.tag_values(tx, registry, [DOMAIN_TAG], names=names)
    found = set(visible_clusters.names(tx, viewer, registry).values())
    owners = {
        *queries.tag_values(tx, registry, OWNER_TAGS, names=names),
        *queries.model_owners(tx, registry, names=names),
    }
    return Choices(tuple(sorted(owners)), tuple(sorted({*declared, *found})))


def labels(tx: Transaction, viewer: Person, registry: str) -> list[str]:
    """Return `NAME/VERSION` of all versions that the viewer may see, by name and then newest first."""
    found = queries.labels(tx, registry)
    seen = {name for name in {name for name, _ in found} if viewer.sees(name)}
    return [f"{name}/{version}" for name, version in found if name in seen]


def _visible(tx: Transaction, viewer: Person, registry: str) -> list[str] | None:
    return None if viewer.sees_all else versions.names(tx, viewer, registry)
