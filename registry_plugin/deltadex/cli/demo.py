"""`demo`: the whole system with a small company of really trained models."""

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
from deltadex.demo import Size
from deltadex.domain import UNDER_WAY, State
from deltadex.settings import SETTINGS_FILE, Settings
from deltadex.store import versions
from deltadex.store.database import Database

Report = Callable[[str, int, int], None]


def demo(
    size: Annotated[Size, typer.Option(help="8 versions, about 25, or hundreds (mostly synthetic).")] = Size.COMPANY,
    once: Annotated[bool, typer.Option("--once", help="Stop when everything is embedded.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Start the stack, train a small company of models, register them through MLflow, and watch them being embedded."""
    from deltadex.demo.company import build
    from deltadex.demo.registration import bases, register

    settings = stack_settings(data_dir)
    settings = _with_bases(settings, bases())
    with running_stack(settings) as (settings, wait):
        with _progress() as report:
            company = build(settings.data_dir / "demo", size, progress=report)
        with _progress() as report:
            registered = register(company, settings.mlflow_uri, progress=report)
            _until_embedded(settings, len(registered), report)
        console.print(f"\n[bold green]Ready:[/] open [bold]{settings.dashboard_url}[/]\n")
        if not once:
            wait()


def _with_bases(settings: Settings, bases: dict[str, str]) -> Settings:
    """Say where the company's bases are, for this stack and for every later one on the same data folder."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    path = settings.data_dir / SETTINGS_FILE
    written = json.loads(path.read_text()) if path.exists() else {}
    written["bases"] = {**written.get("bases", {}), **bases}
    path.write_text(json.dumps(written, indent=2) + "\n")
    return Settings.model_validate({**settings.model_dump(), "bases": {**bases, **settings.bases}})


def _until_embedded(settings: Settings, expected: int, report: Report) -> None:
    with Database(settings.database_url) as database:
        while True:
            with database.transaction() as tx:
                counts = versions.counts(tx, settings.registry)
            under_way = sum(counts.get(state, 0) for state in UNDER_WAY)
            ended = sum(counts.values()) - under_way - counts.get(State.DELETED, 0)
            report("embedding, by Prefect flows", min(ended, expected), expected)
            if not under_way and ended >= expected:
                return
            time.sleep(1)


@contextmanager
def _progress() -> Iterator[Report]:
    """Give a function that draws one bar per description."""
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bars: dict[str, int] = {}

        def report(description: str, completed: int, total: int) -> None:
            if description not in bars:
                bars[description] = progress.add_task(description, total=total)
            progress.update(bars[description], completed=completed, total=total)  # type: ignore[arg-type]

        yield report
