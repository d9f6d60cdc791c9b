"""`up`, `down` and `init`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, PrefectUrl, TrackingUri, settings_from
from deltadex.settings import Settings
from deltadex.stack.running import RunningStack, clear_leftovers, stop_stack

if TYPE_CHECKING:
    from deltadex.stack.stack import Stack

console = Console(highlight=False)


def up(
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> None:
    """Run the whole stack on this machine, or beside the existing services that you name. Ctrl-C stops it."""
    settings = stack_settings(data_dir, tracking_uri, database_url, prefect_api_url)
    with running_stack(settings) as (_, wait):
        wait()


def down(data_dir: DataDir = None) -> None:
    """Stop the stack of a data folder, whoever started it. Everything is there again at the next `up`."""
    folder = settings_from(data_dir).data_dir
    stopped = stop_stack(folder)
    console.print(f"stopped {', '.join(stopped)}" if stopped else f"nothing runs on {folder}")


def init(
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> None:
    """Prepare the services that you name: tables, flows, webhook. May be run again at any time."""
    from deltadex.initialise import initialise
    from deltadex.services import open_services

    settings = settings_from(
        data_dir, tracking_uri=tracking_uri, database_url=database_url, prefect_api_url=prefect_api_url
    )
    with open_services(settings) as services:
        for line in initialise(services):
            console.print(f"[green]✓[/] {line}")


def stack_settings(
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> Settings:
    """Settings for a new stack, after clearing away what a killed one left."""
    clear_leftovers(settings_from(data_dir).data_dir)
    return settings_from(
        data_dir, tracking_uri=tracking_uri, database_url=database_url, prefect_api_url=prefect_api_url
    )


@contextmanager
def running_stack(settings: Settings) -> Iterator[tuple[Settings, Callable[[], None]]]:
    """Run a stack for a block; gives its settings and a function that waits for Ctrl-C, SIGTERM or SIGHUP."""
    # MLflow takes a second to import: not for `deltadex --help`.
    from deltadex.stack.stack import Stack

    stack = Stack(settings, report=lambda line: console.print(f"  [dim]{line}[/]"))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    console.print(f"[bold]Deltadex[/] in {settings.data_dir}")
    try:
        settings = stack.start()
        console.print(service_table(settings))
        yield settings, lambda: _wait(stack, stop)
    except KeyboardInterrupt:
        console.print()
    finally:
        # A second Ctrl-C must not leave half of it running.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stack.stop()
    console.print("Stopped. Everything is there again at the next start.")


def _wait(stack: Stack, stop: threading.Event) -> None:
    console.print("Ctrl-C stops everything; `deltadex status` in another terminal shows the versions.")
    stack.supervise(stop)


def service_table(settings: Settings) -> Table:
    """Return the services with their links, our own and given ones."""
    running = RunningStack.read(settings.data_dir)
    own = {service.name: service for service in running.services} if running else {}
    table = Table("service", "where", "log")
    given = {"MLflow": settings.tracking_uri, "Prefect": settings.prefect_api_url, "Postgres": "DELTADEX_DATABASE__URL"}
    for name in ("dashboard", "MLflow", "Prefect", "Postgres", "watcher", "worker"):
        service = own.get(name)
        where = (service.url or f"process {service.process.pid}") if service else f"{given.get(name)} (existing)"
        table.add_row(name, where, service.log if service else "")
    return table
