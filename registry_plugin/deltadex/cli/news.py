"""The command `news`: what is new in the registry, what it means, and what waits for the person."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal

from deltadex.cli.options import DatabaseUrl, DataDir, Json
from deltadex.cli.reading import print_json, reading
from deltadex.cli.terminal import plain
from deltadex.news import since
from deltadex.reviews import actions as reviews
from deltadex.reviews.titles import title
from deltadex.reviews.worth import Worth, worth
from deltadex.setting_groups import CostSettings
from deltadex.types import State
from deltadex.versions import reads as versions

_MOST_ENTRIES = 10_000
console = Console(highlight=False)


def news(
    days: Annotated[int, typer.Option(help="How far back.", min=1)] = 7,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Say what is new in the registry, what is open, what waits for you, and what could be freed."""
    now = datetime.now(UTC)
    begin = now - timedelta(days=days)
    with reading(data_dir, database_url) as (tx, viewer, settings):
        rows = versions.listing(tx, viewer, settings.registry, states=set(State) - {State.DELETED})
        findings = reviews.listing(tx, viewer, settings)
        log = reviews.log(tx, viewer, settings, since=begin, limit=_MOST_ENTRIES)
    said = since.news(viewer, begin, versions=rows, findings=findings, log=log, now=now)
    saved, costs = worth(findings, rows, settings.costs), settings.costs
    if json:
        begin_with = said.next and {"finding": said.next.id, "title": title(said.next)}
        texts = {"changed": said.changed, "open": said.meaning, "to_do": said.to_do}
        print_json({**texts, "begin_with": begin_with, "worth": {**asdict(saved), "currency": costs.currency}})
        return
    console.print(f"[bold]In the last {days} days:[/] {said.changed}.")
    console.print(f"[bold]Open now:[/] {said.meaning}.")
    if said.to_do:
        console.print(f"[bold]For you, {plain(viewer.name)}:[/] {said.to_do}.")
    if said.next is not None:
        console.print(f"Begin with finding {said.next.id}: {plain(title(said.next))}")
    if saved.freed_bytes:
        console.print(f"[dim]Could be freed: {plain(_worth(saved, costs))}[/]")


def _worth(saved: Worth, costs: CostSettings) -> str:
    share = [f"{saved.share:.1%} of all bytes in the registry"] if saved.share else []
    money = [text] if (text := saved.in_words(costs.currency)) else []
    return ", ".join([decimal(saved.freed_bytes), *share, *money])
