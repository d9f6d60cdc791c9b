"""The command `check`: a gate for pipelines, by what was found about one version."""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from deltadex.access import at_terminal
from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label, settings_from
from deltadex.cli.reading import version_json
from deltadex.cli.terminal import plain
from deltadex.errors import DeltadexError
from deltadex.settings import Settings
from deltadex.store.database import Database

if TYPE_CHECKING:
    from deltadex.checks.check import VersionCheck
    from deltadex.reviews.queries import ReviewRow

console = Console(highlight=False)
_PROGRESS = Console(stderr=True, highlight=False)

#: Exit code of each outcome.
_CODES: Mapping[str, int] = {"passed": 0, "not_measured": 1, "not_ready": 3, "found": 4}
_MARKS: Mapping[str, str] = {
    "passed": "[green]✓[/] nothing that was asked for was found",
    "found": "[red]✗[/] found",
    "not_ready": "[yellow]…[/] not ready",
    "not_measured": "[red]✗[/] not checked",
}


class CheckFormat(StrEnum):
    """Format of a check's result."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    JUNIT = "junit"


def check(
    label: VersionLabel,
    fail_on: Annotated[
        str,
        typer.Option(metavar="KIND,…", help="Kinds of findings, severities (that one and higher), or any."),
    ] = "any",
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="Longest wait until the version is embedded and judged.", min=0)
    ] = 0,
    format_: Annotated[CheckFormat, typer.Option("--format", help="Format of the result.")] = CheckFormat.TEXT,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the result to this file, and print it as text.", dir_okay=False),
    ] = None,
    as_: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Act as another person. Only without an access file.")
    ] = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Check a version before it is promoted.

    Exit code 0: nothing was found. 4: something was. 3: not judged yet. 1: it could not be embedded, or an error.
    """
    from deltadex.checks.check import check as check_version
    from deltadex.checks.check import wait_for_check
    from deltadex.checks.conditions import parse_fail_on

    name, number = parse_label(label)
    try:
        conditions = parse_fail_on(fail_on)
    except DeltadexError as error:
        raise typer.BadParameter(f"{error.message}. {error.hint}", param_hint="--fail-on") from error
    chosen = CheckFormat.JSON if json else format_
    settings = settings_from(data_dir, database_url=database_url)
    viewer = at_terminal(settings, as_=as_)
    with Database(settings.url_of("reader")) as database:
        done = wait_for_check(
            database,
            lambda tx: check_version(tx, viewer, settings, name, number, fail_on=conditions),
            seconds=wait,
            on_progress=_WaitingReport(),
        )
    if output is not None:
        output.write_text(_text(done, settings, chosen), encoding="utf-8")
    if output is not None or chosen is CheckFormat.TEXT:
        _show(done, settings)
    else:
        print(_text(done, settings, chosen), flush=True)
    raise typer.Exit(_CODES[done.outcome])


class _WaitingReport:
    """Prints why a version is not ready, once for each reason."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, latest: VersionCheck) -> None:
        if latest.reason != self._said:
            self._said = latest.reason
            _PROGRESS.print(f"[dim]waiting for {plain(latest.label)}: {plain(latest.reason)}[/]")


def _text(done: VersionCheck, settings: Settings, chosen: CheckFormat) -> str:
    from deltadex.checks.junit import junit
    from deltadex.checks.sarif import sarif

    if chosen is CheckFormat.JUNIT:
        return junit(done, settings)
    if chosen is CheckFormat.SARIF:
        return json_format.dumps(sarif(done, settings), indent=2)
    if chosen is CheckFormat.JSON:
        return json_format.dumps(_as_json(done, settings), indent=2)
    with console.capture() as captured:
        _show(done, settings)
    return captured.get()


def _show(done: VersionCheck, settings: Settings) -> None:
    from deltadex.checks.check import judged_by
    from deltadex.findings.kinds import KINDS

    why = f": {plain(done.reason)}" if done.reason else ""
    console.print(f"[bold]{plain(done.label)}[/] {_MARKS[done.outcome]}{why}")
    for row in done.failing:
        console.print(f"  {_line(done, row, settings)}", soft_wrap=True)
    for row in done.others:
        console.print(f"  [dim]not asked for: {_line(done, row, settings)}[/]", soft_wrap=True)
    if done.settled:
        console.print(f"  [dim]{len(done.settled)} dismissed: {', '.join(str(row.id) for row in done.settled)}[/]")
    for kind in done.unjudged:
        console.print(
            f"  [dim]not judged yet: {KINDS[kind].words}, by {plain(judged_by(kind, done.label))}[/]", soft_wrap=True
        )


def _line(done: VersionCheck, row: ReviewRow, settings: Settings) -> str:
    number = "" if row.finding.measure is None else f" {row.finding.measure:.4f}"
    link, status = settings.finding_link(row.id), row.review.status.replace("_", " ")
    where = f"finding {row.id}, {status}{f' {plain(link)}' if link else ''}"
    return f"{plain(done.title(row))} ({row.finding.kind}{number}), {where}"


def _as_json(done: VersionCheck, settings: Settings) -> dict[str, Any]:
    return {
        "version": done.label,
        "outcome": done.outcome,
        "state": done.state,
        "reason": done.reason,
        "fail_on": list(done.fail_on.kinds),
        "failing": [_finding_json(done, row, settings) for row in done.failing],
        "others": [_finding_json(done, row, settings) for row in done.others],
        "dismissed": [_finding_json(done, row, settings) for row in done.settled],
        "not_judged_yet": list(done.unjudged),
    }


def _finding_json(done: VersionCheck, row: ReviewRow, settings: Settings) -> dict[str, Any]:
    return {
        "finding": row.id,
        "kind": row.finding.kind,
        "severity": row.severity,
        "status": row.review.status,
        "title": done.title(row),
        "versions": [version_json(version) for version in row.versions],
        "measure": row.finding.measure,
        "threshold": row.finding.threshold,
        "link": settings.finding_link(row.id),
    }
