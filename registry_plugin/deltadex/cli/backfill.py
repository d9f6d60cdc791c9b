"""The command `backfill`: how far it is, pause, priorities."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json
from deltadex.cli.reading import print_json, reading
from deltadex.cli.terminal import plain
from deltadex.ingest import backfill as actions
from deltadex.ingest.backfill import Backfill

console = Console(highlight=False)
backfill = typer.Typer(
    name="backfill",
    help="The versions that wait to be embedded: how many, how long; pause, resume, say what goes first.",
    invoke_without_command=True,
)

Model = Annotated[str, typer.Option("--model", metavar="PATTERN", help="Registered models, such as `support-*`.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="Only versions with this tag.")]

_MOST_REASONS = 10


@backfill.callback()
def status(
    context: typer.Context, json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Show what waits, by base, how long it will take, and what could not be embedded and why."""
    if context.invoked_subcommand:
        return
    with reading(data_dir, database_url) as (tx, viewer, settings):
        now = actions.overview(tx, viewer, settings.registry)
    if json:
        print_json({**asdict(now), "left": now.left, "minutes_left": now.minutes_left})
    else:
        _show(now)


@backfill.command()
def pause(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Pause the backfill within seconds. Fresh registrations are embedded as before."""
    with reading(data_dir, database_url, login="writer") as (tx, person, settings):
        actions.pause(tx, person, settings.registry)
    console.print("The backfill is paused; `deltadex backfill resume` lets it go on.")


@backfill.command()
def resume(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Let a paused backfill go on."""
    with reading(data_dir, database_url, login="writer") as (tx, person, settings):
        actions.resume(tx, person, settings.registry)
    console.print("The backfill goes on.")


@backfill.command()
def prioritise(
    priority: Annotated[int, typer.Argument(help="Higher goes first; 0 is ordinary.", show_default=False)],
    model: Model = "*",
    tag: Tags = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Say which of the versions that wait go first."""
    tags = _parse(tag)
    with reading(data_dir, database_url, login="writer") as (tx, person, settings):
        count = actions.prioritise(tx, person, settings.registry, model=model, tags=tags, priority=priority)
    console.print(f"priority {priority} for {count} version(s)")


@backfill.command()
def cancel(
    model: Annotated[str, typer.Option("--model", metavar="PATTERN", help="Registered models.", show_default=False)],
    tag: Tags = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Take versions that wait out of the backfill; `deltadex retry` takes one up again."""
    tags = _parse(tag)
    with reading(data_dir, database_url, login="writer") as (tx, person, settings):
        count = actions.cancel(tx, person, settings.registry, model=model, tags=tags)
    console.print(f"skipped {count} version(s)")


def _parse(tags: list[str] | None) -> dict[str, str]:
    parsed = [tag.partition("=") for tag in tags or ()]
    if any(not separator for _, separator, _ in parsed):
        raise typer.BadParameter("Write KEY=VALUE, such as domain=legal.", param_hint="--tag")
    return {key: value for key, _, value in parsed}


def _show(now: Backfill) -> None:
    console.print(f"{now.left} version(s) wait or are under way, {now.embedded} embedded{_estimate(now)}")
    if now.by_base:
        table = Table("base", "versions")
        for base, count in now.by_base.items():
            table.add_row(plain(base) or "[dim]not read yet[/]", str(count))
        console.print(table)
    for label in now.open_shards:
        console.print(f"[dim]{plain(label)}[/]")
    if now.not_embedded:
        table = Table("not embedded", "versions")
        for reason, count in list(now.not_embedded.items())[:_MOST_REASONS]:
            table.add_row(plain(reason), str(count))
        more = len(now.not_embedded) - _MOST_REASONS
        table.caption = f"and {more} more reasons" if more > 0 else None
        console.print(table)


def _estimate(now: Backfill) -> str:
    if now.is_paused:
        return "; the backfill is [bold]paused[/]"
    if now.minutes_left is None:
        return ""
    return f"; at {now.per_minute:.0f} a minute, {now.minutes_left:.0f} minutes are left"
