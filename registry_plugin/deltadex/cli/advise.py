"""The command `advise`: reuse, prompt, merge or train for a task, measured on examples of it."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from deltadex.access import Person, at_terminal
from deltadex.advise import reads as advice
from deltadex.advise import words
from deltadex.advise.advice import Advice, OptionScore
from deltadex.advise.ask import ask, checked
from deltadex.advise.estimate import estimate
from deltadex.advise.queries import AdviceOrder, AdviceRow
from deltadex.advise.rule import ENOUGH_EXAMPLES
from deltadex.advise.selectors import SELECTORS
from deltadex.cli.agreement import agreed
from deltadex.cli.options import DatabaseUrl, DataDir, Json, parse_label, settings_from
from deltadex.cli.reading import print_json
from deltadex.cli.task_examples import ExamplesPath, read_given
from deltadex.cli.terminal import plain
from deltadex.engine.examples import Example
from deltadex.engine.messages import as_json
from deltadex.errors import DeltadexError
from deltadex.justify.justification import Justification, justify, outgoing
from deltadex.justify.sources import source_texts
from deltadex.replay.agreement import Estimate
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.versions.labels import known_version

console = Console(highlight=False)
_POLL_SECONDS = 1.0
_NO_TASK = "Off: say what a model is wanted for with --justify."
_CAPTION = (
    "Negative log-likelihood of the reference answers with 95% intervals; lower is better. Gain: paired difference "
    "from the base alone. Finetunes and pairs were chosen on one part of the examples and scored on the others."
)


def advise(
    examples: ExamplesPath = None,
    base: Annotated[str | None, typer.Option(help="Base model, by the name that finetunes declare.")] = None,
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidates", metavar="NAME/VERSION", help="A finetune to score; again for more. Default: the nearest."
        ),
    ] = None,
    selector: Annotated[str, typer.Option(help=f"Choice of in-context examples: {', '.join(SELECTORS)}.")] = "bm25",
    shots: Annotated[int | None, typer.Option(help="In-context examples per input.", min=1)] = None,
    train: Annotated[bool, typer.Option("--train", help="Also train few-shot finetunes and score them.")] = False,
    calls_per_month: Annotated[int | None, typer.Option(help="Volume, for costs.", min=0)] = None,
    show: Annotated[int | None, typer.Option("--show", help="Show an advice that was asked before.")] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--justify",
            metavar="TASK",
            help="In words, what a model is wanted for: the endpoint of the settings then quotes what the candidates' "
            "cards, parameters and metrics say about it. What is sent is shown first and logged.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask: neither to start nor to send.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the result.")] = True,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Advise whether to reuse a finetune, prompt the base, merge two finetunes, or train, for a task.

    A worker scores each option by the likelihood of the reference answers. What is made of examples, or chosen by them,
    is never scored on the same ones. The examples are not kept.
    """
    if (show is None) == (examples is None) or (examples is not None and base is None):
        raise typer.BadParameter("give either --examples with --base, or --show")
    settings = settings_from(data_dir, database_url=database_url)
    viewer = at_terminal(settings)
    with Database(settings.url_of("dashboard"), role=settings.database.role) as database:  # it may say who asks
        number = show
        if examples is not None and base is not None:
            given = read_given(examples)
            ids = tuple(_version_id(database, viewer, settings, label) for label in candidates or ())
            wanted = AdviceOrder(selector, shots or settings.advise.shots, ids, train, calls_per_month)
            number = _ask(database, viewer, settings, base, given, wanted, yes=yes)
        row = _read(database, viewer, settings, number or 0)
        if wait:
            row = _ended(database, viewer, settings, row)
    justification = _justified(settings, viewer, row, task, yes=yes)
    if json:
        print_json({**_as_json(row), "justification": justification and as_json(Justification, justification)})
    else:
        _show(row, justification)


def _justified(
    settings: Settings, viewer: Person, row: AdviceRow, task: str | None, *, yes: bool
) -> Justification | None:
    """Return quotes about the candidates; None without an advice. The recommendation is made already."""
    if row.advice is None:
        return None
    ids = [one.candidate.version_id for one in row.advice.candidates]
    # Its login may write the log of what is sent.
    with Database(settings.url_of("dashboard"), role=settings.database.role) as database:
        sources = database.run(lambda tx: source_texts(tx, viewer, ids))
        found = outgoing(settings.endpoint, task or "", sources)
        if isinstance(found, str):
            return Justification(off_reason=found)
        if task is None:
            return Justification(off_reason=_NO_TASK)
        return justify(agreed(found, viewer, database, settings.registry, yes=yes), task, sources)


def _version_id(database: Database, viewer: Person, settings: Settings, label: str) -> int:
    name, number = parse_label(label)
    return database.run(lambda tx: known_version(tx, viewer, settings.registry, name, number)).id


def _ask(
    database: Database,
    viewer: Person,
    settings: Settings,
    base: str,
    given: tuple[Example, ...],
    wanted: AdviceOrder,
    *,
    yes: bool,
) -> int:
    """State the time, ask whether to start, and store the request."""
    work = checked(settings, wanted, given).work
    expected = database.run(lambda tx: estimate(tx, settings, base, work))
    few = f" Fewer than {ENOUGH_EXAMPLES} get no recommendation." if len(given) < ENOUGH_EXAMPLES else ""
    Console(stderr=True, highlight=False).print(f"{len(given):,} examples on {plain(base)}.{few} {expected}")
    if not yes:
        typer.confirm("Start?", abort=True, err=True)
    return database.run(lambda tx: ask(tx, viewer, settings, base, given, wanted))


def _read(database: Database, viewer: Person, settings: Settings, number: int) -> AdviceRow:
    return database.run(lambda tx: advice.get(tx, viewer, settings, number))


def _ended(database: Database, viewer: Person, settings: Settings, row: AdviceRow) -> AdviceRow:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"Advice {row.id}", total=1.0)
        while not row.is_over:
            time.sleep(_POLL_SECONDS)
            row = _read(database, viewer, settings, row.id)
            progress.update(bar, completed=row.progress)
    return row


def _as_json(row: AdviceRow) -> dict[str, Any]:
    found = row.advice
    said = {} if found is None else {
        "recommendation": words.recommendation(found),
        "reasons": words.reasons(found),
        "warnings": words.warnings(found),
    }  # fmt: skip
    return {
        "id": row.id,
        "base": row.base_name,
        "state": row.state,
        "reason": row.reason,
        "hint": row.hint,
        "asked_by": row.asked_by,
        "seconds": row.seconds,
        **said,
        "advice": found and as_json(Advice, found),
    }


def _show(row: AdviceRow, justification: Justification | None) -> None:
    if row.advice is None and row.is_over:
        raise DeltadexError(f"Advice {row.id} failed: {row.reason}", hint=row.hint)
    if row.advice is None:
        console.print(f"Advice {row.id} is {row.state} ({row.progress:.0%}). See it: deltadex advise --show {row.id}")
        return
    found = row.advice
    console.print(f"[bold]{plain(words.recommendation(found))}[/]")
    for reason in words.reasons(found):
        console.print(plain(reason))
    console.print(_table(found))
    for warning in words.warnings(found):
        console.print(f"[yellow]Note:[/] {plain(warning)}")
    if justification:
        console.print(plain(justification.in_words, multiline=True))


def _table(found: Advice) -> Table:
    has_exact = any(one.exact for one in found.options)
    table = Table(
        Column("option", overflow="fold"),
        Column("nats/token", justify="right"),
        Column("nats/byte", justify="right"),
        Column("gain", justify="right"),
        Column("tokens/call", justify="right"),
        *([Column("exact", justify="right")] if has_exact else []),
        title=f"{found.examples} examples on {plain(found.base_name)}",
        caption=_CAPTION,
    )
    for one in found.options:
        exact = [_exact(one, found.examples)] if has_exact else []
        style = "bold" if one.choice is found.recommended else None
        table.add_row(words.TITLES[one.choice], _with_interval(one.nats_per_token), f"{one.nats_per_byte:.3f}",
                      _with_interval(one.gain), f"{one.usage.per_call:,.0f}", *exact, style=style)  # fmt: skip
    for scored in found.candidates:
        blank = [""] if has_exact else []
        table.add_row(
            f"  {plain(scored.candidate.label)}", _with_interval(scored.nats_per_token), "",
            _with_interval(scored.gain), "", *blank, style="dim",
        )  # fmt: skip
    return table


def _with_interval(one: Estimate) -> str:
    return f"{one.value:.2f}\n{one.low:.2f}…{one.high:.2f}"


def _exact(one: OptionScore, examples: int) -> str:
    return "" if one.exact is None else f"{round(one.exact.value * examples)} of {examples}"
