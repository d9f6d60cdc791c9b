"""The watcher on real services: polls, webhooks, and services that go down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from deltadex.app import App
from deltadex.ingest import discovery
from deltadex.ingest import queries as watchers
from deltadex.ingest.submit import submit_waiting
from deltadex.ingest.watcher import sweep_pause, watch
from deltadex.registry.client import Registry
from deltadex.registry.webhook import register_webhook
from deltadex.setting_groups import MetricsSettings, WatchSettings, WebhookSettings
from deltadex.store.locks import SessionLock
from deltadex.types import State
from deltadex.versions import queries as versions
from deltadex.witness import queries as witness_queries
from deltadex.witness.configured import witnesses_of
from tests.conftest import unused_port
from tests.registering import register_folder
from tests.witness import forging


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "config.json").write_text("{}")
    return tmp_path / "files"


@contextmanager
def watching(app: App, **changes: object) -> Iterator[None]:
    webhook = app.settings.webhook.model_copy(update={"port": unused_port()})
    metrics = MetricsSettings(port=unused_port())
    settings = app.settings.model_copy(update={"webhook": webhook, "metrics": metrics, **changes})
    stop = threading.Event()
    app = App(settings, app.database, app.registry, app.scheduler)
    thread = threading.Thread(target=watch, args=(app, stop))
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


def count(app: App, state: State) -> int:
    with app.database.transaction() as tx:
        return versions.counts(tx, app.registry.name).get(state, 0)


def test_two_watchers_queue_each_version_once(app: App, folder) -> None:
    app.scheduler.deploy()
    fast = WatchSettings(poll_seconds=0.2, sweep_seconds=0.5)
    with watching(app, watch=fast), watching(app, watch=fast):
        for _ in range(3):
            register_folder(app.registry, "one", folder)
        wait_for(lambda: count(app, State.QUEUED) == 3)
        time.sleep(1)
    with app.database.transaction() as tx:
        rows = versions.listing(tx, app.registry.name)
    assert {row.attempt for row in rows} == {1}
    assert len({row.flow_run_id for row in rows}) == len(rows) == 3


def test_a_second_watcher_stands_by_until_the_first_is_gone(app: App, folder) -> None:
    app.scheduler.deploy()
    with SessionLock(app.database, f"watch:{app.registry.name}") as first:
        assert first.hold()
        with watching(app, watch=WatchSettings(poll_seconds=0.2)):
            register_folder(app.registry, "one", folder)
            time.sleep(2)
            assert polled(app) is None
            first.release()
            wait_for(lambda: count(app, State.QUEUED) == 1)


def test_dead_runs_are_revived_by_the_watcher_alone(app: App, folder) -> None:
    app.scheduler.deploy()
    register_folder(app.registry, "one", folder)
    discovery.poll(app)
    assert submit_waiting(app) == 1
    with app.database.transaction() as tx:
        [row] = versions.listing(tx, app.registry.name)
    app.scheduler.crash(row.flow_run_id or "", reason="for the test")
    with watching(app):
        wait_for(lambda: attempts(app) == [2])


def attempts(app: App) -> list[int]:
    with app.database.transaction() as tx:
        return [row.attempt for row in versions.listing(tx, app.registry.name, states={State.QUEUED})]


def test_mlflows_webhook_wakes_it_long_before_the_next_poll(app: App, folder) -> None:
    app.scheduler.deploy()
    webhook = WebhookSettings(secret="s3cret", port=unused_port())
    register_webhook(app.registry, webhook)
    with watching(app, watch=WatchSettings(poll_seconds=3600), webhook=webhook):
        wait_for(lambda: polled(app) is not None)
        register_folder(app.registry, "one", folder)
        wait_for(lambda: count(app, State.QUEUED) == 1)


def polled(app: App):
    with app.database.transaction() as tx:
        return watchers.read(tx, app.registry.name).polled_at


def test_an_mlflow_that_is_away_is_recorded_and_does_not_end_the_watcher(app: App) -> None:
    away = App(app.settings, app.database, Registry("http://127.0.0.1:9", name="acme"), app.scheduler)
    with watching(away, watch=WatchSettings(poll_seconds=0.2)):

        def error() -> str:
            with app.database.transaction() as tx:
                return watchers.read(tx, "acme").error

        wait_for(lambda: "MLflow" in error(), seconds=60)


def test_an_mlflow_that_is_away_keeps_no_dead_run_from_being_revived(app: App, folder) -> None:
    register_folder(app.registry, "one", folder)
    app.scheduler.deploy()
    discovery.poll(app)
    submit_waiting(app)
    with app.database.transaction() as tx:
        [row] = versions.listing(tx, app.registry.name)
    app.scheduler.crash(row.flow_run_id or "", reason="for the test")
    away = App(app.settings, app.database, Registry("http://127.0.0.1:9", name=app.registry.name), app.scheduler)

    def attempt() -> int:
        with app.database.transaction() as tx:
            return versions.listing(tx, app.registry.name)[0].attempt

    with watching(away, watch=WatchSettings(poll_seconds=0.2)):
        wait_for(lambda: attempt() == 2, seconds=90)


def test_a_prefect_that_is_away_leaves_the_versions_waiting(app: App, folder) -> None:
    from deltadex_flows.scheduler import PrefectScheduler

    gone = PrefectScheduler(app.settings.model_copy(update={"prefect_api_url": "http://127.0.0.1:9/api"}))
    register_folder(app.registry, "one", folder)
    app.scheduler.deploy()
    with watching(App(app.settings, app.database, app.registry, gone), watch=WatchSettings(poll_seconds=0.2)):
        wait_for(lambda: count(app, State.DISCOVERED) == 1)
    with watching(app, watch=WatchSettings(poll_seconds=0.2)):
        wait_for(lambda: count(app, State.QUEUED) == 1)


def test_a_small_registry_is_compared_every_minute_and_a_large_one_less_often() -> None:
    assert [sweep_pause(seconds, most=300) for seconds in (0.1, 3, 6, 60)] == [60, 60, 120, 300]
    assert sweep_pause(0.1, most=0.5) == 0.5


def test_the_head_of_the_decision_log_is_published_in_a_round_and_a_forgery_found_at_the_next_start(
    app: App, tmp_path
) -> None:
    (tmp_path / "heads").mkdir()
    addresses = (f"folder:{tmp_path}/away", f"folder:{tmp_path}/heads", "mlflow:heads#minutes=0")
    given = {
        "watch": WatchSettings(poll_seconds=0.2),
        "witnesses": app.settings.model_validate({"witnesses": addresses}).witnesses,
    }
    away, folder, run = witnesses_of(app.settings.model_copy(update=given))
    forging.with_finding(app.database)

    def held() -> list[list[int]]:
        return [sorted(head.entries for head in one.held(app.registry.name).heads) for one in (folder, run)]

    with watching(app, **given):
        wait_for(lambda: length(app) == 1)  # The watcher closes the finding, which no measurement repeats.
        for _ in range(2):
            forging.decide(app.database)
            wait_for(lambda: all(each[-1:] == [length(app)] for each in held()), 60)
    assert "no such folder" in states(app)[away.name].error  # and kept nothing else from running
    forging.rewrite(app.database, 1)
    with watching(app, **given):
        wait_for(lambda: all("was rewritten" in states(app)[one.name].contradiction for one in (folder, run)))


def states(app: App):
    with app.database.transaction() as tx:
        return witness_queries.states(tx, app.registry.name)


def length(app: App) -> int:
    with app.database.transaction() as tx:
        return witness_queries.entries_at(tx, witness_queries.HashedTable.LOG, []).count
