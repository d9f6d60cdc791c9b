"""Options that filter the versions of a search."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from deltadex.access import Person
from deltadex.clusters import reads as visible_clusters
from deltadex.search.filters import Conditions
from deltadex.store.database import Transaction
from deltadex.types import State

Model = Annotated[str | None, typer.Option(help="Only this registered model.", show_default=False)]
Alias = Annotated[str | None, typer.Option(help="Only versions with this alias.", show_default=False)]
Tags = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only versions with this tag. Repeatable.")]
States = Annotated[list[State] | None, typer.Option(help="Only versions in this state. Repeatable.")]
Cluster = Annotated[str | None, typer.Option(help="Only versions in the cluster of this name.", show_default=False)]
Since = Annotated[datetime | None, typer.Option(help="Only versions registered at this time (UTC) or later.")]
Until = Annotated[datetime | None, typer.Option(help="Only versions registered before this time (UTC).")]


def conditions_from(
    tx: Transaction,
    viewer: Person,
    registry: str,
    *,
    model: str | None,
    alias: str | None,
    tag: list[str] | None,
    state: list[State] | None,
    cluster: str | None,
    since: datetime | None,
    until: datetime | None,
) -> Conditions:
    """Return the search conditions of these options; a cluster is one of the name that the viewer sees."""
    return Conditions(
        name=model,
        alias=alias,
        tags=dict(_parse_tag(one) for one in tag or ()),
        states=frozenset(state or ()),
        clusters=None if cluster is None else visible_clusters.called(tx, viewer, registry, cluster),
        created_from=since and since.replace(tzinfo=UTC),
        created_before=until and until.replace(tzinfo=UTC),
    )


def _parse_tag(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE, such as team=search")
    return key, value
