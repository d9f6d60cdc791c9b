"""The process that never misses a version: polls, and listens for MLflow's wake-up calls."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from deltadex import discovery, task_search
from deltadex.errors import DeltadexError, StackError, StoreError
from deltadex.mlflow_edge.webhook import receiver
from deltadex.services import Services
from deltadex.settings import WebhookSettings
from deltadex.store import watchers

log = logging.getLogger(__name__)


def watch(services: Services, stop: threading.Event) -> None:
    """Poll until `stop` is set. An error is logged, shown on the dashboard, and tried again at the next round."""
    settings = services.settings.watch
    wake = threading.Event()
    next_sweep = time.monotonic()
    with _receive(services.settings.webhook, wake):
        while not stop.is_set():
            wake.clear()
            try:
                discovery.poll(services)
                discovery.submit_waiting(services)
                task_search.submit_asked(services)
                if time.monotonic() >= next_sweep:
                    discovery.sweep(services)
                    next_sweep = time.monotonic() + settings.sweep_seconds
            except DeltadexError as error:
                log.warning("round failed error=%r hint=%r", error.message, error.hint)
                _record(services, error)
            _wait(wake, stop, settings.poll_seconds)


def _wait(wake: threading.Event, stop: threading.Event, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not (wake.is_set() or stop.is_set()) and time.monotonic() < deadline:
        wake.wait(0.2)


def _record(services: Services, error: DeltadexError) -> None:
    try:
        said = f"{error.message} {error.hint}".strip()
        services.database.run(lambda tx: watchers.failed(tx, services.registry.name, said))
    except StoreError:
        log.warning("the error could not be recorded: the database is away too")


@contextmanager
def _receive(settings: WebhookSettings, wake: threading.Event) -> Iterator[None]:
    """Serve the webhook receiver in a thread of its own."""
    config = uvicorn.Config(
        receiver(settings, wake.set), host=settings.host, port=settings.port, log_level="warning", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="webhook-receiver", daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise StackError(
                f"The webhook receiver cannot bind {settings.host}:{settings.port}",
                hint="Another watcher may be running here; set DELTADEX_WEBHOOK__PORT.",
            )
        time.sleep(0.05)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=5)
