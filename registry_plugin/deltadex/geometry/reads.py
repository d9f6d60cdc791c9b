"""The geometry of a registry for a viewer. Tags that only hidden models carry are masked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import replace

from deltadex.access import HIDDEN, Person
from deltadex.clusters import run_queries as cluster_runs
from deltadex.embeddings.queries import RecipeRow
from deltadex.geometry import measure
from deltadex.geometry.chance import Refusal
from deltadex.geometry.measure import Geometry, Measurement
from deltadex.store.database import Transaction
from deltadex.types import VersionRow
from deltadex.versions.queries import by_ids

_TAG, _BETWEEN, _ARROW = "tag ", ": ", " → "


def latest(tx: Transaction, viewer: Person, registry: str, recipe: RecipeRow) -> Measurement | None:
    """Return the stored measurement; None if there is none or it was made by another method. Computes nothing."""
    found = measure.latest(tx, registry, recipe)
    if found is None or viewer.sees_all:
        return found
    ids = cluster_runs.compared(tx, recipe.id, registry)
    visible_rows = (row for row in by_ids(tx, ids).values() if viewer.sees(row.registered.ref.name))
    return replace(found, geometry=_visible(found.geometry, _tags(visible_rows)))


def _tags(rows: Iterable[VersionRow]) -> Mapping[str, Set[str]]:
    """Return the values of each tag by key."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        for key, value in row.registered.tags.items():
            found[key].add(value)
    return found


def _visible(geometry: Geometry, tags: Mapping[str, Set[str]]) -> Geometry:
    return Geometry(
        tuple(
            replace(one, question=_name(one.question, number, tags))
            if isinstance(one, Refusal)
            else replace(one, name=_name(one.name, number, tags))
            for number, one in enumerate(geometry.differences, start=1)
        )
    )


def _name(name: str, number: int, tags: Mapping[str, Set[str]]) -> str:
    """Return a name; `tag KEY: ONE → OTHER` becomes a number if no visible version carries it."""
    if not name.startswith(_TAG):
        return name
    for key, values in tags.items():
        one, _, other = name.removeprefix(f"{_TAG}{key}{_BETWEEN}").partition(_ARROW)
        if one in values and other in values:
            return name
    return f"{_TAG}{HIDDEN} {number}"
