"""Conditions on neighbours, as SQL whose cost does not depend on the planner's estimates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import LiteralString

from psycopg.sql import SQL, Composable, Composed, Literal
from psycopg.types.json import Jsonb

from deltadex.types import State
from deltadex.versions.queries import REGISTERED_MS

_IN_CLUSTER: LiteralString = (
    "id in (select model_version_id from cluster_assignments where cluster_id = any(%(clusters)s))"
)


@dataclass(frozen=True)
class Conditions:
    """Conditions that a neighbour must meet; None and empty values allow anything.

    Attributes
    ----------
    name, other_than
        Only versions of this registered model; only versions of other registered models.
    names
        Only versions of these registered models.
    tags
        All of these keys with these values.
    clusters
        Ids of stored clusters, as `deltadex.clusters.reads.called` returns them for a name that the viewer sees.
    created_from, created_before
        Bounds on the time of registration.
    states
        Any of these states; deleted versions are never returned.
    """

    name: str | None = None
    other_than: str | None = None
    names: frozenset[str] | None = None
    alias: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    states: frozenset[State] = frozenset()
    clusters: frozenset[int] | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


class Route(StrEnum):
    """Access path to the codes that a search compares."""

    SCAN = "scan"
    LOOKUP = "lookup"
    INDEX = "index"


@dataclass(frozen=True)
class VersionFilter:
    """SQL for the versions that are not deleted and meet conditions, for a query on `codes`.

    Attributes
    ----------
    conditions, parameters
        Conditions on columns of `model_versions`, and their parameters; empty without conditions.
    """

    conditions: tuple[Composable, ...]
    parameters: Mapping[str, object]

    def codes(self, route: Route, recipe_id: int) -> Composed:
        """Return the `from` clause for the codes of these versions under one recipe, ready for `order by`."""
        return SQL(_SOURCES[route if self.conditions or route is Route.INDEX else _EVERYTHING]).format(
            recipe_id=Literal(recipe_id), met=self.met
        )

    @property
    def met(self) -> Composed:
        """Combined condition on a row of `model_versions`."""
        return SQL(" and ").join([SQL("state <> 'deleted'"), *self.conditions])


_EVERYTHING = "everything"
_SOURCES: dict[str, LiteralString] = {
    # Few versions are deleted, and `not in` always hashes them; the planner was seen to run a join as nested loops.
    _EVERYTHING: """
        codes where recipe_id = {recipe_id} and registry = %(registry)s
        and model_version_id not in (select id from model_versions where state = 'deleted')
    """,
    Route.SCAN: """
        codes where recipe_id = {recipe_id} and registry = %(registry)s
        and model_version_id in (select id from model_versions where {met})
    """,
    # `offset 0` stops the planner from reading all codes of a large recipe if it overestimates the versions.
    Route.LOOKUP: """
        (select id from model_versions where {met}) as meeting
        cross join lateral (
            select * from codes
            where recipe_id = {recipe_id} and model_version_id = id and registry = %(registry)s offset 0
        ) as codes
    """,
    # The condition is looked up for each candidate, nearest first, so that the index scan keeps its order.
    Route.INDEX: """
        codes where recipe_id = {recipe_id} and registry = %(registry)s
        and (select {met} from model_versions where id = model_version_id)
    """,
}


def version_filter(conditions: Conditions | None) -> VersionFilter:
    """Return conditions as SQL."""
    wanted = conditions or Conditions()
    clauses: dict[str, tuple[Composable, object]] = {
        "name": (SQL("name = %(name)s"), wanted.name),
        "other_than": (SQL("name <> %(other_than)s"), wanted.other_than),
        "names": (SQL("name = any(%(names)s)"), None if wanted.names is None else sorted(wanted.names)),
        "alias": (SQL("aliases @> array[%(alias)s]"), wanted.alias),
        "tags": (SQL("tags @> %(tags)s"), Jsonb(dict(wanted.tags)) if wanted.tags else None),
        "states": (SQL("state = any(%(states)s)"), sorted(wanted.states) or None),
        "clusters": (SQL(_IN_CLUSTER), None if wanted.clusters is None else sorted(wanted.clusters)),
        "created_from": (SQL("{} >= %(created_from)s").format(REGISTERED_MS), _milliseconds(wanted.created_from)),
        "created_before": (SQL("{} < %(created_before)s").format(REGISTERED_MS), _milliseconds(wanted.created_before)),
    }
    used = {name: value for name, (_, value) in clauses.items() if value is not None}
    return VersionFilter(tuple(clauses[name][0] for name in used), used)


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)
