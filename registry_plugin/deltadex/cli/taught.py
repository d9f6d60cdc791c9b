"""The command `taught`: secrets, personal data and listed strings that a version was taught."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from deltadex.access import Person, at_terminal
from deltadex.cli.options import DatabaseUrl, DataDir, Json, TrackingUri, parse_label, settings_from
from deltadex.cli.reading import print_json, version_json
from deltadex.cli.terminal import plain
from deltadex.errors import DeltadexError
from deltadex.replay.prompts import read_prompts
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.taught import reads
from deltadex.taught.ask import ask
from deltadex.taught.canaries import read_canaries
from deltadex.taught.estimate import estimate
from deltadex.taught.judge import ALTERNATIVES
from deltadex.taught.queries import Taught, TaughtGiven, TaughtRow
from deltadex.taught.words import COVERAGE
from deltadex.types import VersionRow
from deltadex.versions.labels import known_version

console = Console(highlight=False)
_POLL_SECONDS = 1.0


def taught(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="The version, as NAME/VERSION.")],
    canaries: Annotated[
        typer.FileText | None,
        typer.Option(help='Strings to look for: lines of {"text": …, "prefix": …} or of plain text.', errors="replace"),
    ] = None,
    prompts: Annotated[
        typer.FileText | None, typer.Option(help="Prompts to begin with, one per line.", errors="replace")
    ] = None,
    search: Annotated[bool, typer.Option("--search", help="Search now; implied by the two files.")] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the strings in clear.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Search a version for strings that it was taught: listed ones, secrets and personal data.

    A worker continues texts with the version and with its base, and keeps the strings that only the version knows.
    They are shown masked. Without a search, the latest result is shown.
    """
    given = TaughtGiven(
        read_canaries(canaries.read()) if canaries else (), read_prompts(prompts.read()) if prompts else ()
    )
    settings = settings_from(data_dir, tracking_uri=tracking_uri, database_url=database_url)
    viewer = at_terminal(settings)
    with Database(settings.url_of("dashboard"), role=settings.database.role) as database:  # it may say who asks
        row = database.run(lambda tx: known_version(tx, viewer, settings.registry, *parse_label(version)))
        read = _Read(database, viewer, settings, is_revealed=reveal)
        if search or canaries or prompts:
            _confirm(database, settings, row, given, yes=yes)
            found = read.one(database.run(lambda tx: ask(tx, viewer, settings, row.id, given)))
        else:
            found = read.latest(row)
        if wait:
            found = _ended(read, found)
    if json:
        print_json(_as_json(row, found))
    else:
        _show(row, found)


class _Read:
    """Reads searches as the person who asks."""

    def __init__(self, database: Database, viewer: Person, settings: Settings, *, is_revealed: bool) -> None:
        self._database, self._viewer, self._settings = database, viewer, settings
        self._is_revealed = is_revealed

    def one(self, search_id: int) -> TaughtRow:
        return self._database.run(
            lambda tx: reads.get(tx, self._viewer, self._settings, search_id, is_revealed=self._is_revealed)
        )

    def latest(self, row: VersionRow) -> TaughtRow:
        found = self._database.run(
            lambda tx: reads.latest_of(tx, self._viewer, self._settings, row.id, is_revealed=self._is_revealed)
        )
        if found is None:
            raise DeltadexError(f"{row.label} was never searched for taught strings", hint="Give --search.")
        return found


def _confirm(database: Database, settings: Settings, row: VersionRow, given: TaughtGiven, *, yes: bool) -> None:
    """State the cost of a search, and ask whether to start it."""
    expected = database.run(lambda tx: estimate(tx, settings, row.id))
    cost = settings.taught
    listed = (
        f" {len(given.canaries):,} listed strings are scored, each with {ALTERNATIVES} random ones."
        if given.canaries
        else ""
    )
    Console(stderr=True, highlight=False).print(
        f"{plain(row.label)} and its base continue {cost.texts:,} texts by at most {cost.max_new_tokens} tokens."
        f"{listed} {expected} After {cost.seconds:,.0f} s no further text is continued."
    )
    if not yes:
        typer.confirm("Start?", abort=True, err=True)


def _ended(read: _Read, row: TaughtRow) -> TaughtRow:
    search_id = row.id
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"Search {search_id}", total=1.0)
        while not row.is_over:
            time.sleep(_POLL_SECONDS)
            row = read.one(search_id)
            progress.update(bar, completed=row.progress)
    return row


def _as_json(version: VersionRow, row: TaughtRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "version": version_json(version),
        "state": row.state,
        "reason": row.reason,
        "hint": row.hint,
        "asked_by": row.asked_by,
        "seconds": row.seconds,
        "weights_digest": row.weights_digest,
        "result": None if row.result is None else _result_json(row.result),
    }


def _result_json(result: Taught) -> dict[str, Any]:
    found = [{**asdict(one), "gain": one.gain} for one in result.found]
    listed = [{**asdict(one), "gain": one.gain, "is_taught": one.is_taught} for one in result.listed]
    return {**asdict(result), "found": found, "listed": listed}


def _show(version: VersionRow, row: TaughtRow) -> None:
    label = plain(version.label)
    if row.result is not None:
        _show_result(label, row.result)
    elif row.is_over:
        raise DeltadexError(f"Search {row.id} failed: {row.reason}", hint=row.hint)
    else:
        console.print(f"Search {row.id} is {row.state} ({row.progress:.0%}). See it with: deltadex taught {label}")


def _show_result(label: str, result: Taught) -> None:
    console.print(f"[bold]{label}[/] was searched by {result.texts:,} texts and {len(result.listed):,} listed strings.")
    if not result.is_whole:
        console.print("[yellow]The time ran out before all texts were continued.[/]")
    if result.found:
        table = Table("said by itself", "as", "nats", "base", title="Taught strings", title_justify="left")
        for one in result.found:
            said = plain(f"{one.before}{one.text}")
            table.add_row(said, f"{one.kind}: {plain(one.rule)}", f"{one.nats:.1f}", f"{one.base_nats:.1f}")
        console.print(table)
    else:
        console.print("It said no secret and no personal data by itself that its base doesn't know.")
    if result.listed:
        table = Table("listed", "string", "gain, nats", "z", "taught", title="Likelihood of listed strings")
        for each in result.listed:
            taught = "yes" if each.is_taught else "no"
            table.add_row(plain(each.label), plain(each.text), f"{each.gain:.1f}", f"{each.z:.1f}", taught)
        console.print(table)
    console.print(f"[dim]{COVERAGE}[/]")
