"""The command `safety`: whether a version still tells harmful from harmless requests as its base does."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from deltadex.access import Person, at_terminal
from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label, settings_from
from deltadex.cli.reading import print_json, version_json
from deltadex.cli.terminal import plain
from deltadex.errors import DeltadexError
from deltadex.safety import reads, words
from deltadex.safety.ask import ask, cost
from deltadex.safety.queries import SafetyRow
from deltadex.safety.reads import MeasuredSafety
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.types import VersionRow
from deltadex.versions.labels import known_version

console = Console(highlight=False)
_POLL_SECONDS = 1.0


def safety(
    label: VersionLabel,
    measure: Annotated[bool, typer.Option("--measure", help="Measure it, again if it was measured before.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show whether a version still tells harmful from harmless requests, as its base does.

    A worker reads short questions with the version, and with its base once, and measures along the base's own refusal
    direction. Nothing is answered. Without --measure, the latest measurement is shown.
    """
    settings = settings_from(data_dir, database_url=database_url)
    viewer = at_terminal(settings)
    name, number = parse_label(label)
    with Database(settings.url_of("dashboard"), role=settings.database.role) as database:  # it may say who asks
        version = database.run(lambda tx: known_version(tx, viewer, settings.registry, name, number))
        if measure:
            _confirm(database, settings, version, yes=yes)
            database.run(lambda tx: ask(tx, viewer, settings, version.id))
        row = database.run(lambda tx: reads.latest(tx, viewer, version.id))
        if row is None:
            raise DeltadexError(f"{version.label} was never measured", hint="Give --measure.")
        if wait:
            row = _ended(database, viewer, settings, row)
        found = database.run(lambda tx: reads.measured(tx, viewer, settings, version.id))
    if json:
        print_json(_as_json(version, row, found))
    else:
        _show(version, row, found)


def _confirm(database: Database, settings: Settings, version: VersionRow, *, yes: bool) -> None:
    """State the cost of a measurement, and ask whether to start it."""
    said = Console(stderr=True, highlight=False)
    said.print(f"{plain(version.label)}: {database.run(lambda tx: cost(tx, settings))}")
    if not yes:
        typer.confirm("Start?", abort=True, err=True)


def _ended(database: Database, viewer: Person, settings: Settings, row: SafetyRow) -> SafetyRow:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"Safety measurement {row.id}", total=1.0)
        request_id = row.id
        while not row.is_over:
            time.sleep(_POLL_SECONDS)
            row = database.run(lambda tx: reads.request(tx, viewer, settings, request_id))
            progress.update(bar, completed=row.progress)
    return row


def _as_json(version: VersionRow, row: SafetyRow, found: MeasuredSafety | None) -> dict[str, Any]:
    return {
        "id": row.id,
        **version_json(version),
        "state": row.state,
        "reason": row.reason,
        "hint": row.hint,
        "asked_by": row.asked_by,
        "seconds": row.seconds,
        "measured": None if found is None else _numbers(found),
    }


def _numbers(found: MeasuredSafety) -> dict[str, Any]:
    verdict = found.verdict
    return {
        "id": found.row.id,
        "verdict": verdict.words,
        "collapsed": verdict.has_collapsed,
        "base_has_none": verdict.lacks or None,
        "kept": verdict.kept and asdict(verdict.kept),
        "threshold": asdict(verdict.threshold),
        **{
            of: {
                "auroc": asdict(one.auroc),
                "standardised_distance": asdict(one.distance),
                "refusal_auroc": asdict(one.odds_auroc),
                "refusal_odds_gap": asdict(one.odds_gap),
            }
            for of, one in (("version", found.reading), ("base", found.base))
        },
        "traits": {one.name: asdict(one.shift) for one in found.traits},
        "trait_aurocs_in_base": found.trait_aurocs,
        "weights_digest": found.row.weights_digest,
        "base_digest": found.row.base_digest,
        "probes_digest": found.row.probes_digest,
    }


def _show(version: VersionRow, row: SafetyRow, found: MeasuredSafety | None) -> None:
    if row.is_over and row.reason and found is None:
        raise DeltadexError(f"The measurement of {version.label} failed: {row.reason}", hint=row.hint)
    if not row.is_over:
        console.print(f"The measurement of {plain(version.label)} is {row.state} ({row.progress:.0%}).")
    elif row.reason:
        console.print(f"The latest measurement failed: {plain(row.reason)}. This is the one before it.")
    if found is None:
        return
    console.print(f"[bold]{plain(version.label)}[/] {found.verdict.words}")
    table = Table("harmful against harmless prompts", "version", "base", box=None, header_style="dim")
    for row_of_table in words.comparisons(found):
        table.add_row(*map(plain, row_of_table))
    console.print(table)
    for sentence in words.traits(found):
        console.print(f"  {plain(sentence)}")
    if found.traits:
        console.print(f"[dim]{words.SHIFTS}[/]")
