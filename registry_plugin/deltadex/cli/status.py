"""`status` and `retry`: where every version stands."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label, settings_from
from deltadex.domain import State, VersionRow
from deltadex.errors import DeltadexError
from deltadex.people import at_terminal
from deltadex.store import versions
from deltadex.store.database import Database
from deltadex.store.versions import StateChange

console = Console(highlight=False)

#: When it is read again at the latest: ages grow, and word of changes may be lost on its way.
_FOLLOW_SECONDS = 15

_COLOURS = {
    State.EMBEDDED: "green",
    State.WAITING: "yellow",
    State.FAILED: "red",
    State.UNSUPPORTED: "yellow",
    State.DELETED: "dim",
}


def status(
    label: Annotated[str | None, typer.Argument(metavar="[NAME[/VERSION]]", show_default=False)] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again whenever something changes.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show states, ages and errors: of all versions, of one registered model, or of one version with its history."""
    settings = settings_from(data_dir, database_url=database_url)
    with Database(settings.database_url) as database:
        if watch:
            _follow(database, settings.registry, label, json=json)
            return
        rows, history = _read(database, settings.registry, label)
    if json:
        print(json_format.dumps([_as_json(row) for row in rows], indent=2))
    else:
        console.print(_report(rows, history))


def _follow(database: Database, registry: str, label: str | None, *, json: bool) -> None:
    """Show it in place until Ctrl-C; with `json`, one line for each change."""
    shown = Live(console=console, auto_refresh=False, vertical_overflow="visible")
    with suppress(KeyboardInterrupt), nullcontext() if json else shown:
        for _ in database.changes(every_seconds=_FOLLOW_SECONDS):
            rows, history = _read(database, registry, label)
            if json:
                print(json_format.dumps([_as_json(row) for row in rows]), flush=True)
            else:
                shown.update(_report(rows, history), refresh=True)


def _read(database: Database, registry: str, label: str | None) -> tuple[Sequence[VersionRow], Sequence[StateChange]]:
    with database.transaction() as tx:
        rows = _rows(versions.listing(tx, registry), label)
        return rows, versions.history(tx, rows[0].id) if label and "/" in label else ()


def _report(rows: Sequence[VersionRow], history: Sequence[StateChange]) -> Group:
    reasons = [
        f"[bold]{row.label}[/] {escape(row.reason)}" + (f" [dim]→ {escape(row.hint)}[/]" if row.hint else "")
        for row in rows
        if row.reason and row.state is not State.EMBEDDED
    ]
    changes = [
        f"[dim]{change.at:%Y-%m-%d %H:%M:%S}[/] {change.state} (attempt {change.attempt}) {change.reason}"
        for change in history
    ]
    return Group(_table(rows), *reasons, *changes)


def retry(label: VersionLabel, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Embed a version again, whatever became of it; the watcher starts the run at its next round."""
    # MLflow takes seconds to import: only for this command.
    from deltadex import discovery

    name, number = parse_label(label)
    settings = settings_from(data_dir, database_url=database_url)
    with Database(settings.database_url) as database, database.transaction() as tx:
        found = versions.find(tx, settings.registry, name, number)
        if not found:
            raise unknown_version(label)
        attempt = discovery.retry(tx, at_terminal(settings), found[0])
    console.print(f"{label} is queued again, as attempt {attempt}")


def _rows(rows: Sequence[VersionRow], label: str | None) -> Sequence[VersionRow]:
    if label is None:
        return rows
    name, number = parse_label(label) if "/" in label else (label, None)
    chosen = [row for row in rows if row.registered.ref.name == name and number in (None, row.registered.ref.version)]
    if not chosen:
        raise unknown_version(label)
    # The newest one first, where a registered model was deleted and made again.
    return sorted(chosen, key=lambda row: (row.state is State.DELETED, -row.registered.ref.created_ms))


def unknown_version(label: str) -> DeltadexError:
    """Return the error for a model or version that has no row."""
    return DeltadexError(
        f"{label} is not known", hint="`deltadex status` lists the versions; new ones appear within seconds."
    )


def _table(rows: Sequence[VersionRow]) -> Table:
    counts = [(state, sum(row.state is state for row in rows)) for state in State]
    caption = ", ".join(f"{count} {state}" for state, count in counts if count)
    table = Table("version", "state", "since", "attempt", "weights", caption=caption or "no versions yet")
    for row in rows:
        colour = _COLOURS.get(row.state, "cyan")
        weights = (row.weights_digest or "")[:12]
        table.add_row(row.label, f"[{colour}]{row.state}[/]", _age(row.state_since), str(row.attempt), weights)
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
