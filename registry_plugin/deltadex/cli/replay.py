"""The command `replay`: whether two versions answer the same prompts alike."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from deltadex.access import Person, at_terminal
from deltadex.cli.options import DatabaseUrl, DataDir, Json, TrackingUri, parse_label, settings_from
from deltadex.cli.reading import print_json, version_json
from deltadex.cli.terminal import plain
from deltadex.errors import DeltadexError
from deltadex.replay import reads as replays
from deltadex.replay.agreement import CAVEAT, ENOUGH_PROMPTS
from deltadex.replay.ask import ask
from deltadex.replay.estimate import estimate
from deltadex.replay.prompts import as_lines, read_prompts
from deltadex.replay.queries import ReplayRow
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.types import VersionRow
from deltadex.versions.labels import known_version

console = Console(highlight=False)
_POLL_SECONDS = 1.0

Pair = tuple[VersionRow, VersionRow]


def replay(
    keeper: Annotated[str, typer.Argument(metavar="KEEPER", help="The version to keep, as NAME/VERSION.")],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The version to compare with it.")],
    prompts: Annotated[
        typer.FileText | None,
        typer.Option(help='Prompts: lines of {"prompt": …} or of plain text.', errors="replace"),
    ] = None,
    from_run: Annotated[
        bool, typer.Option("--from-run", help="Take the prompts of the table that the keeper's run logged.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Let two versions answer the same prompts, and measure how far their answers agree.

    A worker does it: each version answers greedily, and judges how likely both answers are. Neither prompts nor
    answers are kept. Without prompts, the latest replay is shown.
    """
    if prompts is not None and from_run:
        raise typer.BadParameter("give either --prompts or --from-run")
    settings = settings_from(data_dir, tracking_uri=tracking_uri, database_url=database_url)
    viewer = at_terminal(settings)
    with Database(settings.url_of("dashboard"), role=settings.database.role) as database:  # it may say who asks
        pair = _pair(database, viewer, settings, keeper, other)
        if prompts is None and not from_run:
            row = _latest(database, viewer, settings, pair)
        else:
            text, origin = (prompts.read(), "file") if prompts else _logged(settings, pair[0])
            given = read_prompts(text)
            _confirm(database, settings, pair, len(given), yes=yes)
            row = _ask(database, viewer, settings, pair, given, origin)
        if wait:
            row = _ended(database, viewer, settings, row)
    if json:
        print_json(_as_json(pair, row))
    else:
        _show(pair, row)


def _pair(database: Database, viewer: Person, settings: Settings, *labels: str) -> Pair:
    keeper, other = map(parse_label, labels)
    with database.transaction() as tx:
        return (
            known_version(tx, viewer, settings.registry, *keeper),
            known_version(tx, viewer, settings.registry, *other),
        )


def _latest(database: Database, viewer: Person, settings: Settings, pair: Pair) -> ReplayRow:
    keeper, other = pair
    found = database.run(lambda tx: replays.latest_between(tx, viewer, settings, keeper.id, other.id))
    if found is None:
        raise DeltadexError(
            f"{keeper.label} and {other.label} were never replayed", hint="Give --prompts FILE or --from-run."
        )
    return found


def _logged(settings: Settings, keeper: VersionRow) -> tuple[str, str]:
    """Return the prompts that the keeper's run logged, as lines, and the artifact that holds them."""
    from deltadex.app import registry_of
    from deltadex.registry.evaluation_table import logged_prompts

    registry = registry_of(settings)
    with registry.bound():
        found = logged_prompts(registry, keeper.registered)
    return as_lines(found.cells), found.path


def _confirm(database: Database, settings: Settings, pair: Pair, prompts: int, *, yes: bool) -> None:
    """State the time and the size of a replay, and ask whether to start it."""
    expected = database.run(lambda tx: estimate(tx, settings, pair[0].id, prompts=prompts))
    few = f" Fewer than {ENOUGH_PROMPTS} show little." if prompts < ENOUGH_PROMPTS else ""
    said = Console(stderr=True, highlight=False)
    said.print(
        f"{plain(pair[0].label)} and {plain(pair[1].label)} answer {prompts:,} prompts, each with at most "
        f"{settings.replay.max_new_tokens} tokens.{few} {expected}"
    )
    if not yes:
        typer.confirm("Start?", abort=True, err=True)


def _ask(
    database: Database, viewer: Person, settings: Settings, pair: Pair, prompts: tuple[str, ...], origin: str
) -> ReplayRow:
    keeper, other = pair
    replay_id = database.run(lambda tx: ask(tx, viewer, settings, keeper.id, other.id, prompts, prompts_from=origin))
    return database.run(lambda tx: replays.get(tx, viewer, settings, replay_id))


def _ended(database: Database, viewer: Person, settings: Settings, row: ReplayRow) -> ReplayRow:
    replay_id = row.id
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"Replay {replay_id}", total=1.0)
        while not row.is_over:
            time.sleep(_POLL_SECONDS)
            row = database.run(lambda tx: replays.get(tx, viewer, settings, replay_id))
            progress.update(bar, completed=row.progress)
    return row


def _as_json(pair: Pair, row: ReplayRow) -> dict[str, Any]:
    keeper, other = pair
    return {
        "id": row.id,
        "keeper": version_json(keeper),
        "other": version_json(other),
        "state": row.state,
        "reason": row.reason,
        "hint": row.hint,
        "prompts": row.prompts_count,
        "prompts_from": row.prompts_from,
        "asked_by": row.asked_by,
        "seconds": row.seconds,
        "agreement": replays.evidence_of(row) if row.agreement else None,
    }


def _show(pair: Pair, row: ReplayRow) -> None:
    keeper, other = pair
    if row.agreement:
        console.print(f"[bold]{plain(keeper.label)}[/] and [bold]{plain(other.label)}[/]: {row.agreement.verdict}")
        console.print(f"[dim]{CAVEAT}[/]")
    elif row.is_over:
        raise DeltadexError(f"Replay {row.id} failed: {row.reason}", hint=row.hint)
    else:
        console.print(
            f"Replay {row.id} is {row.state} ({row.progress:.0%}). "
            f"See it with: deltadex replay {plain(keeper.label)} {plain(other.label)}"
        )
