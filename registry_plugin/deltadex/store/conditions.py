"""What versions must meet to be an answer, as SQL whose cost does not hang on what the planner believes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import LiteralString

from psycopg.sql import SQL, Composable, Composed, Literal
from psycopg.types.json import Jsonb

from deltadex.domain import State

_IN_CLUSTER: LiteralString = """
    id in (select assigned.model_version_id from cluster_assignments assigned join clusters on clusters.id = cluster_id
    where assigned.recipe_id = %(recipe_id)s and shown_name = %(cluster)s)
"""


@dataclass(frozen=True)
class Conditions:
    """What a version must meet to be an answer; None and empty: anything.

    Attributes
    ----------
    name, other_than
        Versions of this registered model, or of any other.
    tags
        All of these keys with these values.
    cluster
        The name of a stored cluster of the recipe.
    created_from, created_before
        When it was registered in MLflow.
    states
        Any of these; deleted versions are never an answer.
    """

    name: str | None = None
    other_than: str | None = None
    alias: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    states: frozenset[State] = frozenset()
    cluster: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


class Route(StrEnum):
    """How the codes that a search compares are found."""

    SCAN = "scan"
    LOOKUP = "lookup"
    INDEX = "index"


@dataclass(frozen=True)
class Listed:
    """Versions that are not deleted and meet conditions, for a query on `codes`.

    Attributes
    ----------
    conditions, parameters
        On the columns of `model_versions`, and their values besides `recipe_id`; none where anything will do.
    """

    conditions: tuple[Composable, ...]
    parameters: Mapping[str, object]

    def codes(self, route: Route, recipe_id: int) -> Composed:
        """Return what follows `select … from`: the codes of these versions under one recipe, ready for `order by`."""
        return SQL(_SOURCES[route if self.conditions or route is Route.INDEX else _EVERYTHING]).format(
            recipe_id=Literal(recipe_id), met=self.met
        )

    @property
    def met(self) -> Composed:
        """Return the condition on a row of `model_versions`."""
        return SQL(" and ").join([SQL("state <> 'deleted'"), *self.conditions])


_EVERYTHING = "everything"
_SOURCES: dict[str, LiteralString] = {
    # Few are deleted, and `not in` always hashes them; a join was seen to compare each with each.
    _EVERYTHING: """
        codes where recipe_id = {recipe_id} and registry = %(registry)s
        and model_version_id not in (select id from model_versions where state = 'deleted')
    """,
    Route.SCAN: """
        codes where recipe_id = {recipe_id} and registry = %(registry)s
        and model_version_id in (select id from model_versions where {met})
    """,
    # `offset 0` keeps the planner from reading all codes of a large recipe because it takes few versions for many.
    Route.LOOKUP: """
        (select id from model_versions where {met}) as meeting
        cross join lateral (
            select * from codes
            where recipe_id = {recipe_id} and model_version_id = id and registry = %(registry)s offset 0
        ) as codes
    """,
    # Looked up for each candidate, nearest first: nothing can come between the index and its order.
    Route.INDEX: """
        codes where recipe_id = {recipe_id} and registry = %(registry)s
        and (select {met} from model_versions where id = model_version_id)
    """,
}


def listed(conditions: Conditions | None) -> Listed:
    """Return these conditions as SQL."""
    wanted = conditions or Conditions()
    clauses: dict[str, tuple[SQL, object]] = {
        "name": (SQL("name = %(name)s"), wanted.name),
        "other_than": (SQL("name <> %(other_than)s"), wanted.other_than),
        "alias": (SQL("aliases @> array[%(alias)s]"), wanted.alias),
        "tags": (SQL("tags @> %(tags)s"), Jsonb(dict(wanted.tags)) if wanted.tags else None),
        "states": (SQL("state = any(%(states)s)"), sorted(wanted.states) or None),
        "cluster": (SQL(_IN_CLUSTER), wanted.cluster),
        "created_from": (SQL("created_ms >= %(created_from)s"), _milliseconds(wanted.created_from)),
        "created_before": (SQL("created_ms < %(created_before)s"), _milliseconds(wanted.created_before)),
    }
    used = {name: value for name, (_, value) in clauses.items() if value is not None}
    return Listed(tuple(clauses[name][0] for name in used), used)


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)
