"""Versions with dead flow runs get another attempt, up to a limit."""

from __future__ import annotations

from uuid import uuid4

import pytest

from deltadex.app import App
from deltadex.errors import RegistryError
from deltadex.ingest import discovery, embed, submit
from deltadex.ingest.reconcile import reconcile
from deltadex.ingest.revive import revive_dead
from deltadex.types import State, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.registering import register_folder


@pytest.fixture
def queued(app: App, tmp_path) -> VersionRow:
    """A version whose flow run waits on a Prefect server without a worker."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "config.json").write_text("{}")
    app.scheduler.deploy()
    register_folder(app.registry, f"model-{uuid4().hex[:8]}", tmp_path / "files")
    discovery.poll(app)
    assert submit.submit_waiting(app) == 1
    return only_row(app)


def only_row(app: App) -> VersionRow:
    with app.database.transaction() as tx:
        [row] = versions.listing(tx, app.registry.name)
    return row


def start(app: App, row: VersionRow) -> None:
    with app.database.transaction() as tx:
        assert transitions.mark_running(tx, row.id, attempt=row.attempt, flow_run_id=row.flow_run_id or "")


def with_silence(app: App, seconds: float) -> App:
    embedding = app.settings.embedding.model_copy(update={"silent_seconds": seconds, "max_attempts": 2})
    settings = app.settings.model_copy(update={"embedding": embedding})
    return App(settings, app.database, app.registry, app.scheduler)


def test_what_is_on_its_way_is_left_alone(app: App, queued: VersionRow) -> None:
    done = reconcile(app)
    assert (done.revived, done.given_up) == (0, 0)
    start(app, queued)
    reconcile(app)
    assert only_row(app).state is State.RUNNING


def test_a_version_whose_run_ended_without_it_gets_another_attempt(app: App, queued: VersionRow) -> None:
    app.scheduler.crash(queued.flow_run_id or "", reason="for the test")
    done = reconcile(app)
    assert (done.revived, submit.submit_waiting(app)) == (1, 1)
    row = only_row(app)
    assert (row.state, row.attempt) == (State.QUEUED, 2)
    assert row.flow_run_id != queued.flow_run_id


def test_runs_that_end_before_they_begin_are_no_fault_of_the_version(app: App, queued: VersionRow) -> None:
    for attempt in range(1, 6):  # more than a version may die
        app.scheduler.crash(only_row(app).flow_run_id or "", reason="for the test")
        assert reconcile(app).given_up == 0
        row = only_row(app)
        assert (row.state, row.attempt, row.deaths) == (State.DISCOVERED, attempt + 1, 0)
        assert submit.submit_waiting(app) == 1


def test_a_dead_run_of_an_earlier_attempt_changes_nothing(app: App, queued: VersionRow) -> None:
    app.database.run(lambda tx: transitions.requeue(tx, queued.id, reason="a person asked"))
    assert app.database.run(lambda tx: revive_dead(tx, app.settings, queued)) is State.DISCOVERED
    row = only_row(app)
    assert (row.attempt, row.deaths, row.reason) == (2, 0, "a person asked")


def test_a_silent_run_is_crashed_and_revived_and_at_last_given_up(app: App, queued: VersionRow) -> None:
    impatient = with_silence(app, 0)
    start(app, queued)
    done = reconcile(impatient)
    assert (done.revived, submit.submit_waiting(app)) == (1, 1)
    assert app.scheduler.dead_runs([queued.flow_run_id or ""]) == {queued.flow_run_id}
    start(app, only_row(app))
    done = reconcile(impatient)
    assert done.given_up == 1
    row = only_row(app)
    assert row.state is State.FAILED
    assert "died 2 times" in row.reason


def test_the_last_stated_reason_is_not_lost_when_runs_die(app: App, queued: VersionRow) -> None:
    impatient = with_silence(app, 0)
    start(app, queued)
    embed.note(app, queued, RegistryError("the store is closed", hint="Open it.", retryable=True))
    assert reconcile(impatient).revived == 1
    assert "the store is closed" in only_row(app).reason
    start(app, only_row(app))
    assert reconcile(impatient).given_up == 1
    row = only_row(app)
    assert row.reason.startswith("the store is closed")
    assert "died 2 times" in row.reason
    assert row.hint


def test_a_late_start_of_an_old_attempt_does_nothing(app: App, queued: VersionRow) -> None:
    with app.database.transaction() as tx:
        transitions.requeue(tx, queued.id, reason="for the test")
        assert not transitions.mark_running(tx, queued.id, attempt=queued.attempt, flow_run_id="old")
