"""Versions whose flow runs died get another attempt, until one is too many."""

from __future__ import annotations

from uuid import uuid4

import pytest

from deltadex import discovery, pipeline
from deltadex.domain import State, VersionRow
from deltadex.errors import Resource, Shortage
from deltadex.reconcile import reconcile
from deltadex.services import Services
from deltadex.store import version_changes, versions, watchers
from tests.registering import register_folder


@pytest.fixture
def queued(services: Services, tmp_path) -> VersionRow:
    """A version whose flow run waits on a Prefect server without a worker."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "config.json").write_text("{}")
    services.scheduler.deploy()
    register_folder(services.registry, f"model-{uuid4().hex[:8]}", tmp_path / "files")
    discovery.poll(services)
    assert discovery.submit_waiting(services) == 1
    return only_row(services)


def only_row(services: Services) -> VersionRow:
    with services.database.transaction() as tx:
        [row] = versions.listing(tx, services.registry.name)
    return row


def start(services: Services, row: VersionRow) -> None:
    with services.database.transaction() as tx:
        assert version_changes.mark_running(tx, row.id, attempt=row.attempt, flow_run_id=row.flow_run_id or "")


def with_silence(services: Services, seconds: float) -> Services:
    embedding = services.settings.embedding.model_copy(update={"silent_seconds": seconds, "max_attempts": 2})
    settings = services.settings.model_copy(update={"embedding": embedding})
    return Services(settings, services.database, services.registry, services.scheduler)


def test_what_is_on_its_way_is_left_alone(services: Services, queued: VersionRow) -> None:
    done = reconcile(services)
    assert done is not None
    assert (done.revived, done.given_up, done.submitted) == (0, 0, 0)
    start(services, queued)
    reconcile(services)
    assert only_row(services).state is State.RUNNING


def test_a_version_whose_run_ended_without_it_gets_another_attempt(services: Services, queued: VersionRow) -> None:
    services.scheduler.crash(queued.flow_run_id or "", reason="for the test")
    done = reconcile(services)
    assert done is not None
    assert (done.revived, done.submitted) == (1, 1)
    row = only_row(services)
    assert (row.state, row.attempt) == (State.QUEUED, 2)
    assert row.flow_run_id != queued.flow_run_id


def test_a_silent_run_is_crashed_and_revived_and_at_last_given_up(services: Services, queued: VersionRow) -> None:
    impatient = with_silence(services, 0.001)
    start(services, queued)
    done = reconcile(impatient)
    assert done is not None
    assert done.revived == 1
    assert services.scheduler.dead_runs([queued.flow_run_id or ""]) == {queued.flow_run_id}
    start(services, only_row(services))
    done = reconcile(impatient)
    assert done is not None
    assert done.given_up == 1
    row = only_row(services)
    assert row.state is State.FAILED
    assert "died 2 times" in row.reason


def test_a_version_waits_until_a_machine_with_more_reconciles(services: Services, queued: VersionRow) -> None:
    start(services, queued)
    memory = services.settings.embedding.memory_bytes
    shortage = Shortage("too large", hint="give it more", resource=Resource.MEMORY, more_than=memory)
    assert pipeline.give_up(services, queued, shortage) is State.WAITING
    row = only_row(services)
    assert (row.state, row.reason, row.hint) == (State.WAITING, "too large", "give it more")
    done = reconcile(services)
    assert done is not None
    assert (done.resumed, done.submitted) == (0, 0)
    larger = services.settings.embedding.model_copy(update={"memory_bytes": memory + 1})
    settings = services.settings.model_copy(update={"embedding": larger})
    done = reconcile(Services(settings, services.database, services.registry, services.scheduler))
    assert done is not None
    assert (done.resumed, done.submitted) == (1, 1)
    row = only_row(services)
    assert (row.state, row.attempt, row.deaths) == (State.QUEUED, 2, 0)


def test_only_one_reconciler_works_at_a_time(services: Services) -> None:
    with services.database.transaction() as tx:
        assert watchers.lock(tx, f"reconcile:{services.registry.name}")
        assert reconcile(services) is None


def test_a_late_start_of_an_old_attempt_does_nothing(services: Services, queued: VersionRow) -> None:
    with services.database.transaction() as tx:
        version_changes.requeue(tx, queued.id, reason="for the test")
        assert not version_changes.mark_running(tx, queued.id, attempt=queued.attempt, flow_run_id="old")
