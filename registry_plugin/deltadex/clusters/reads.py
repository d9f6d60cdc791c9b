"""Clusters as a viewer may see them. Their names and terms may reveal hidden members, and are masked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from deltadex.access import HIDDEN, Person
from deltadex.clusters import queries as clusters
from deltadex.clusters.names import DOMAIN_SEPARATOR, NUMBERED, LabelOrigin, terms_of
from deltadex.clusters.queries import ClusterRow
from deltadex.embeddings import promoted_tokens
from deltadex.store.database import Transaction
from deltadex.types import VersionRow, Words
from deltadex.versions.queries import by_ids


@dataclass
class _Members:
    """Members of a cluster: ids of the visible ones, and whether these are all."""

    visible: list[int]
    are_all: bool = True


def listing(tx: Transaction, viewer: Person, recipe_id: int, registry: str) -> list[ClusterRow]:
    """Return the clusters of the latest run by number.

    For a cluster with hidden members, only terms of visible members are returned, and the generated name only if it
    consists of such terms. A given name is shown to viewers who may see at least one member.
    """
    found = clusters.listing(tx, recipe_id, registry)
    if viewer.sees_all or not found:
        return found
    members = _members(tx, viewer, recipe_id, registry)
    ids = [each for one in members.values() if not one.are_all for each in one.visible]
    rows, words = by_ids(tx, ids), promoted_tokens.of_versions(tx, recipe_id, ids)
    return [
        one
        if members[one.id].visible and members[one.id].are_all
        else _masked(one, members[one.id].visible, rows, words)
        for one in found
    ]


def names(tx: Transaction, viewer: Person, registry: str) -> dict[int, str]:
    """Return the names of the clusters of all recipes by id; without hidden names, which a filter would confirm."""
    return {
        cluster.id: cluster.name
        for recipe_id in clusters.recipes_with_clusters(tx, registry)
        for cluster in listing(tx, viewer, recipe_id, registry)
        if cluster.name != HIDDEN
    }


def called(tx: Transaction, viewer: Person, registry: str, name: str) -> frozenset[int]:
    """Return the ids of the clusters that have a name as the viewer sees them."""
    return frozenset(each for each, one in names(tx, viewer, registry).items() if one == name)


def nameless(cluster: ClusterRow) -> ClusterRow:
    """Return a cluster without anything that identifies its members."""
    return replace(
        cluster, name=HIDDEN, label=HIDDEN, label_origin="", given_name=None, given_by=None, given_at=None, terms=()
    )


def _members(tx: Transaction, viewer: Person, recipe_id: int, registry: str) -> Mapping[int, _Members]:
    found: defaultdict[int, _Members] = defaultdict(lambda: _Members([]))
    for cluster_id, version_id, name in clusters.models_of_members(tx, recipe_id, registry):
        if viewer.sees(name):
            found[cluster_id].visible.append(version_id)
        else:
            found[cluster_id].are_all = False
    return found


def _masked(
    cluster: ClusterRow, visible: Sequence[int], rows: Mapping[int, VersionRow], words: Mapping[int, Words]
) -> ClusterRow:
    if not visible:
        return nameless(cluster)
    visible_terms = {term for each in visible for term in terms_of(rows[each].registered, words.get(each))}
    terms = tuple(term for term in cluster.terms if (term.origin, term.text) in visible_terms)
    if cluster.label_origin == NUMBERED or _is_made_of(cluster.label, visible_terms):
        return replace(cluster, terms=terms)
    return replace(cluster, name=cluster.given_name or HIDDEN, label=HIDDEN, label_origin="", terms=terms)


def _is_made_of(label: str, terms: Collection[tuple[LabelOrigin, str]]) -> bool:
    """Return True if each part of a name is a term: a tag's value, a word or a token."""
    parts = {text.partition("=")[2] if origin is LabelOrigin.TAG else text for origin, text in terms}
    return {*label.split(DOMAIN_SEPARATOR)} <= parts or set(label.split()) <= {
        word for part in parts for word in part.split()
    }
