"""The command `demo`: the whole system with trained models of a small company."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deltadex.cli.options import DataDir
from deltadex.cli.stack import console, running_stack, stack_settings
from deltadex.cli.terminal import plain
from deltadex.demo import Size
from deltadex.demo.specification import LICENSE
from deltadex.errors import DeltadexError
from deltadex.settings import SETTINGS_FILE, Settings
from deltadex.store.database import Database
from deltadex.types import UNDER_WAY, State
from deltadex.versions import queries as versions

Report = Callable[[str, int, int], None]


def demo(
    size: Annotated[
        Size, typer.Option(help="small: 8 versions of a tiny base; company: 36 of SmolLM2-135M; large: 300 more, tiny.")
    ] = Size.COMPANY,
    once: Annotated[bool, typer.Option("--once", help="Stop the stack once all versions are embedded.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Start the stack, train the models of a small company, register them in MLflow, embed them, and decide a few."""
    from deltadex.demo.company import train
    from deltadex.demo.registration import bases, register

    settings = stack_settings(data_dir)
    settings = _with_settings(settings, bases())
    with running_stack(settings) as (settings, wait):
        console.print(f"Open [bold]{settings.dashboard_url}[/]: models appear there as they are trained and embedded.")
        with _progress() as report, Database(settings.url_of("reader")) as database:

            def on_registered(description: str, completed: int, total: int) -> None:
                report(description, completed, total)
                _report_embedded(database, settings.registry, total, report)

            company = train(settings.data_dir / "demo", size, progress=report, on_missing=_say_tiny)
            registered = register(company, settings.mlflow_uri, progress=on_registered)
            while not _report_embedded(database, settings.registry, len(registered), report):
                time.sleep(1)
            if size is not Size.SMALL:
                _decide(settings, report)
        console.print(f"\n[bold green]Ready:[/] open [bold]{settings.dashboard_url}[/]\n")
        if not once:
            wait()


def _say_tiny(error: DeltadexError) -> None:
    console.print(
        f"[yellow]SmolLM2 is not to be had, so the models are finetunes of a tiny base that is trained now.[/] "
        f"{plain(error.message)} {plain(error.hint)}"
    )


def _decide(settings: Settings, report: Report) -> None:
    """Let the demo's two people decide, as the dashboard would: only its login may say who decides."""
    from deltadex.demo.decisions import decide

    try:
        with Database(settings.url_of("dashboard")) as database:
            decide(database, settings, progress=report)
    except DeltadexError as error:
        console.print(f"[yellow]Nothing was decided.[/] {plain(error.message)}. {plain(error.hint)}")


def _with_settings(settings: Settings, bases: dict[str, str]) -> Settings:
    """Write the demo's settings into the data folder, and return settings that include them; those of people stay."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = settings.data_dir / SETTINGS_FILE
    written = json.loads(path.read_text()) if path.exists() else {}
    written["bases"] = {**written.get("bases", {}), **bases}
    written["review"] = {"licenses": [LICENSE], **written.get("review", {})}
    path.write_text(json.dumps(written, indent=2) + "\n")
    review = settings.review.model_copy(update={"licenses": settings.review.licenses or (LICENSE,)})
    own = {"bases": {**bases, **settings.bases}, "review": review}
    return Settings.model_validate({**settings.model_dump(), **own})


def _report_embedded(database: Database, registry: str, expected: int, report: Report) -> bool:
    """Show how many versions have an outcome; return whether all have one."""
    with database.transaction() as tx:
        counts = versions.counts(tx, registry)
    under_way = sum(counts.get(state, 0) for state in UNDER_WAY)
    ended = sum(counts.values()) - under_way - counts.get(State.DELETED, 0)
    report("embedding, by Prefect flows", min(ended, expected), expected)
    return not under_way and ended >= expected


@contextmanager
def _progress() -> Iterator[Report]:
    """Yield a function that draws one progress bar per description."""
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bars: dict[str, int] = {}

        def report(description: str, completed: int, total: int) -> None:
            if description not in bars:
                bars[description] = progress.add_task(plain(description), total=total)
            progress.update(bars[description], completed=completed, total=total)  # type: ignore[arg-type]

        yield report
