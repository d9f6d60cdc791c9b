"""The watcher on real services: polls, is woken by MLflow, survives what goes away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from deltadex.domain import State
from deltadex.mlflow_edge.registry import Registry
from deltadex.mlflow_edge.webhook import register_webhook
from deltadex.services import Services
from deltadex.settings import WatchSettings, WebhookSettings
from deltadex.store import versions, watchers
from deltadex.watcher import watch
from tests.conftest import unused_port
from tests.registering import register_folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "config.json").write_text("{}")
    return tmp_path / "files"


@contextmanager
def watching(services: Services, **changes: object) -> Iterator[None]:
    webhook = services.settings.webhook.model_copy(update={"port": unused_port()})
    settings = services.settings.model_copy(update={"webhook": webhook, **changes})
    stop = threading.Event()
    services = Services(settings, services.database, services.registry, services.scheduler)
    thread = threading.Thread(target=watch, args=(services, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def count(services: Services, state: State) -> int:
    with services.database.transaction() as tx:
        return versions.counts(tx, services.registry.name).get(state, 0)


def test_two_watchers_queue_each_version_once(services: Services, folder) -> None:
    services.scheduler.deploy()
    fast = WatchSettings(poll_seconds=0.2, sweep_seconds=0.5)
    with watching(services, watch=fast), watching(services, watch=fast):
        for _ in range(3):
            register_folder(services.registry, "one", folder)
        wait_for(lambda: count(services, State.QUEUED) == 3)
        time.sleep(1)
    with services.database.transaction() as tx:
        rows = versions.listing(tx, services.registry.name)
    assert {row.attempt for row in rows} == {1}
    assert len({row.flow_run_id for row in rows}) == len(rows) == 3


def test_mlflows_webhook_wakes_it_long_before_the_next_poll(services: Services, folder) -> None:
    services.scheduler.deploy()
    webhook = WebhookSettings(secret="s3cret", port=unused_port())
    register_webhook(services.registry, webhook)
    with watching(services, watch=WatchSettings(poll_seconds=3600), webhook=webhook):
        wait_for(lambda: polled(services) is not None)
        register_folder(services.registry, "one", folder)
        wait_for(lambda: count(services, State.QUEUED) == 1)


def polled(services: Services):
    with services.database.transaction() as tx:
        return watchers.read(tx, services.registry.name).polled_at


def test_an_mlflow_that_is_away_is_recorded_and_does_not_end_the_watcher(services: Services) -> None:
    away = Services(
        services.settings, services.database, Registry("http://127.0.0.1:9", name="acme"), services.scheduler
    )
    with watching(away, watch=WatchSettings(poll_seconds=0.2)):

        def error() -> str:
            with services.database.transaction() as tx:
                return watchers.read(tx, "acme").error

        wait_for(lambda: "MLflow" in error(), seconds=60)


def test_a_prefect_that_is_away_leaves_the_versions_waiting(services: Services, folder) -> None:
    from deltadex_flows.scheduler import PrefectScheduler

    gone = PrefectScheduler(services.settings.model_copy(update={"prefect_api_url": "http://127.0.0.1:9/api"}))
    register_folder(services.registry, "one", folder)
    services.scheduler.deploy()
    with watching(
        Services(services.settings, services.database, services.registry, gone), watch=WatchSettings(poll_seconds=0.2)
    ):
        wait_for(lambda: count(services, State.DISCOVERED) == 1)
    with watching(services, watch=WatchSettings(poll_seconds=0.2)):
        wait_for(lambda: count(services, State.QUEUED) == 1)
