"""`doctor`: is everything there, and what to do where not."""

from __future__ import annotations

import importlib.util
import json as json_format
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import typer
from rich.console import Console

from deltadex.cli.options import DatabaseUrl, DataDir, Json, PrefectUrl, TrackingUri, settings_from
from deltadex.errors import DeltadexError
from deltadex.settings import Settings

console = Console(highlight=False)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    is_healthy: bool
    says: str
    hint: str = ""


def doctor(
    json: Json = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> None:
    """Check every connection and say what to do. Exits with 0 only when all is healthy."""
    settings = settings_from(
        data_dir, tracking_uri=tracking_uri, database_url=database_url, prefect_api_url=prefect_api_url
    )
    checks = list(_checks(settings))
    if json:
        print(json_format.dumps([asdict(check) for check in checks], indent=2))
    for check in () if json else checks:
        console.print(f"{'[green]✓[/]' if check.is_healthy else '[red]✗[/]'} [bold]{check.name}[/]: {check.says}")
        if check.hint:
            console.print(f"  [dim]→ {check.hint}[/]")
    if not all(check.is_healthy for check in checks):
        raise typer.Exit(1)


def _checks(settings: Settings) -> Iterator[Check]:
    for name, look in (
        ("store", _store),
        ("registry", _registry),
        ("scheduler", _scheduler),
        ("watcher", _watcher),
        ("engine", _engine),
    ):
        yield _check(name, look, settings)


def _check(name: str, look: Callable[[Settings], str], settings: Settings) -> Check:
    try:
        return Check(name, True, look(settings))
    except DeltadexError as error:
        return Check(name, False, error.message, error.hint)


def _store(settings: Settings) -> str:
    from deltadex.store.database import Database

    with Database(settings.database_url) as database:
        return database.check()


def _registry(settings: Settings) -> str:
    from deltadex.mlflow_edge.registry import Registry

    return Registry(settings.mlflow_uri, name=settings.registry).check()


def _scheduler(settings: Settings) -> str:
    from deltadex.scheduler import load_scheduler

    return load_scheduler(settings).check()


def _watcher(settings: Settings) -> str:
    from datetime import UTC, datetime

    from deltadex.store import watchers
    from deltadex.store.database import Database

    with Database(settings.database_url) as database, database.transaction() as tx:
        row = watchers.read(tx, settings.registry)
    start = "Start one: `deltadex watch`."
    if row.polled_at is None:
        raise DeltadexError("the registry was never polled", hint=start)
    if row.error:
        raise DeltadexError(f"the last round failed: {row.error}")
    age = (datetime.now(UTC) - row.polled_at).total_seconds()
    if age > 10 * settings.watch.poll_seconds + 30:
        raise DeltadexError(f"the registry was last polled {age:.0f} s ago", hint=start)
    return f"polled {age:.0f} s ago"


def _engine(settings: Settings) -> str:  # noqa: ARG001
    missing = [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        raise DeltadexError(f"{', '.join(missing)} not installed here", hint="Workers need deltadex[embed,flows].")
    return "torch, transformers and peft are installed here"
