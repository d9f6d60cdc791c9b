"""The commands `up`, `down` and `init`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, PrefectUrl, TrackingUri, settings_from
from deltadex.cli.terminal import plain
from deltadex.settings import Settings
from deltadex.stack.running import RunningStack, clear_leftovers, stop_stack

if TYPE_CHECKING:
    from deltadex.stack.supervisor import Stack

console = Console(highlight=False)


def up(
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> None:
    """Run the stack on this machine, with the existing services that you name. Ctrl-C stops it."""
    settings = stack_settings(data_dir, tracking_uri, database_url, prefect_api_url)
    with running_stack(settings) as (_, wait):
        wait()


def down(data_dir: DataDir = None) -> None:
    """Stop the stack of a data folder. Data is kept for the next `up`."""
    folder = settings_from(data_dir).data_dir
    stopped = stop_stack(folder)
    console.print(f"stopped {', '.join(map(plain, stopped))}" if stopped else f"no stack runs in {plain(folder)}")


def init(
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> None:
    """Set up existing services: tables, flows and the webhook. Idempotent."""
    from deltadex.app import open_app
    from deltadex.ingest.setup import initialise

    settings = settings_from(
        data_dir, tracking_uri=tracking_uri, database_url=database_url, prefect_api_url=prefect_api_url
    )
    with open_app(settings) as app:
        for line in initialise(app):
            console.print(f"[green]✓[/] {plain(line)}")


def stack_settings(
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> Settings:
    """Remove the leftovers of a killed stack and return the settings for a new one."""
    clear_leftovers(settings_from(data_dir).data_dir)
    return settings_from(
        data_dir, tracking_uri=tracking_uri, database_url=database_url, prefect_api_url=prefect_api_url
    )


@contextmanager
def running_stack(settings: Settings) -> Iterator[tuple[Settings, Callable[[], None]]]:
    """Run a stack for a block; yield its settings and a function that waits for Ctrl-C, SIGTERM or SIGHUP."""
    # MLflow takes a second to import, which would delay `deltadex --help`.
    from deltadex.stack.supervisor import Stack

    stack = Stack(settings, report=lambda line: console.print(f"  [dim]{plain(line)}[/]"))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    console.print(f"[bold]Deltadex[/] in {plain(settings.data_dir)}")
    try:
        settings = stack.start()
        console.print(service_table(settings))
        yield settings, lambda: _wait(stack, stop)
    except KeyboardInterrupt:
        console.print()
    finally:
        # A second Ctrl-C must not interrupt the shutdown.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stack.stop()
    console.print("Stopped. Data is kept for the next start.")


def _wait(stack: Stack, stop: threading.Event) -> None:
    console.print("Ctrl-C stops everything; `deltadex status` in another terminal shows the versions.")
    stack.supervise(stop)


def service_table(settings: Settings) -> Table:
    """Return a table of the services, with links and logs."""
    running = RunningStack.read(settings.data_dir)
    own = {service.name: service for service in running.services} if running else {}
    table = Table("service", "where", "log")
    existing = {
        "MLflow": settings.tracking_uri,
        "Prefect": settings.prefect_api_url,
        "Postgres": "DELTADEX_DATABASE__URL",
    }
    for name in ("dashboard", "MLflow", "Prefect", "Postgres", "watcher", "worker"):
        service = own.get(name)
        where = (service.url or f"process {service.process.pid}") if service else f"{existing.get(name)} (existing)"
        table.add_row(name, plain(where), plain(service.log) if service else "")
    return table
