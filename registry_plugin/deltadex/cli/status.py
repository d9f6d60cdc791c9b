"""The commands `status` and `retry`: the states of versions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from deltadex.access import Person, at_terminal
from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label, settings_from
from deltadex.cli.reading import print_json, reading
from deltadex.cli.terminal import plain
from deltadex.reports.colors import STATE_COLORS
from deltadex.store.database import Database
from deltadex.types import State, VersionRow
from deltadex.versions import reads as versions
from deltadex.versions.labels import known_version, unknown
from deltadex.versions.queries import StateChange

console = Console(highlight=False)

#: Maximum time between two reads: ages grow, and a notification may be lost.
_FOLLOW_SECONDS = 15


def status(
    label: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME[/VERSION]]", help="Only this registered model, or this version.", show_default=False
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep running and update on every change.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show states, ages and errors of all versions, of one registered model, or of one version with its history."""
    settings = settings_from(data_dir, database_url=database_url)
    viewer = at_terminal(settings)
    with Database(settings.url_of("reader")) as database:
        if watch:
            _follow(database, viewer, settings.registry, label, json=json)
            return
        rows, history = _read(database, viewer, settings.registry, label)
    if json:
        print_json([_as_json(row) for row in rows])
    else:
        console.print(_report(rows, history))


def _follow(database: Database, viewer: Person, registry: str, label: str | None, *, json: bool) -> None:
    """Update the table in place until Ctrl-C; with `json`, print one line per change."""
    live = Live(console=console, auto_refresh=False, vertical_overflow="visible")
    with suppress(KeyboardInterrupt), nullcontext() if json else live:
        for _ in database.changes(every_seconds=_FOLLOW_SECONDS):
            rows, history = _read(database, viewer, registry, label)
            if json:
                print_json([_as_json(row) for row in rows], one_line=True)
            else:
                live.update(_report(rows, history), refresh=True)


def _read(
    database: Database, viewer: Person, registry: str, label: str | None
) -> tuple[Sequence[VersionRow], Sequence[StateChange]]:
    with database.transaction() as tx:
        rows = _rows(versions.listing(tx, viewer, registry), label)
        return rows, versions.history(tx, viewer, rows[0].id) if label and "/" in label else ()


def _report(rows: Sequence[VersionRow], history: Sequence[StateChange]) -> Group:
    reasons = [
        f"[bold]{plain(row.label)}[/] {plain(row.reason)}" + (f" [dim]→ {plain(row.hint)}[/]" if row.hint else "")
        for row in rows
        if row.reason and row.state is not State.EMBEDDED
    ]
    changes = [
        f"[dim]{change.at:%Y-%m-%d %H:%M:%S}[/] {change.state} (attempt {change.attempt}) {plain(change.reason)}"
        for change in history
    ]
    return Group(_table(rows), *reasons, *changes)


def retry(label: VersionLabel, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Embed a version again, in any state. The watcher starts the run on its next poll."""
    # MLflow takes seconds to import: only this command needs it.
    from deltadex.ingest import submit

    name, number = parse_label(label)
    with reading(data_dir, database_url, login="dashboard") as (tx, viewer, settings):
        attempt = submit.retry(tx, viewer, known_version(tx, viewer, settings.registry, name, number))
    console.print(f"{plain(label)} is queued again, as attempt {attempt}")


def _rows(rows: Sequence[VersionRow], label: str | None) -> Sequence[VersionRow]:
    if label is None:
        return rows
    name, number = parse_label(label) if "/" in label else (label, None)
    chosen = [row for row in rows if row.registered.ref.name == name and number in (None, row.registered.ref.version)]
    if not chosen:
        raise unknown(label)
    # Newest first: a registered model may have been deleted and created again.
    return sorted(chosen, key=lambda row: (row.state is State.DELETED, -row.registered.ref.created_ms))


def _table(rows: Sequence[VersionRow]) -> Table:
    counts = [(state, sum(row.state is state for row in rows)) for state in State]
    caption = ", ".join(f"{count} {state}" for state, count in counts if count)
    table = Table("version", "state", "since", "attempt", "weights", caption=caption or "no versions yet")
    for row in rows:
        color = STATE_COLORS[row.state].terminal
        weights = plain((row.weights_digest or "")[:12])
        table.add_row(plain(row.label), f"[{color}]{row.state}[/]", _age(row.state_since), str(row.attempt), weights)
    return table


def _age(since: datetime) -> str:
    seconds = int((datetime.now(UTC) - since).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{max(seconds, 0)} s"


def _as_json(row: VersionRow) -> dict[str, Any]:
    ref = row.registered.ref
    return {
        "name": ref.name,
        "version": ref.version,
        "created_ms": ref.created_ms,
        "state": row.state.value,
        "state_since": row.state_since.isoformat(),
        "attempt": row.attempt,
        "reason": row.reason,
        "hint": row.hint,
        "weights_digest": row.weights_digest,
        "artifact_uri": row.artifact_uri,
        "flow_run_id": row.flow_run_id,
    }
