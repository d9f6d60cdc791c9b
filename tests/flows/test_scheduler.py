"""Flow runs on a real Prefect server: created once, followed, ended."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deltadex.domain import VersionRow
from deltadex.errors import SchedulerError
from deltadex.services import Services
from deltadex.store import versions
from deltadex_flows.scheduler import PrefectScheduler
from tests.store.examples import discovered


@pytest.fixture
def row(services: Services) -> VersionRow:
    services.scheduler.deploy()
    with services.database.transaction() as tx:
        # The name differs from test to test: they share one Prefect server.
        return versions.get(tx, discovered(tx, f"model-{uuid4().hex[:8]}", registry=services.registry.name))


def test_one_attempt_gives_one_run_however_often_it_is_submitted(services: Services, row: VersionRow) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = set(pool.map(services.scheduler.submit, [row] * 10))
    assert len(runs) == 1
    assert services.scheduler.submit(replace(row, attempt=2)) not in runs


def test_a_run_reads_well_and_waits_in_its_queue(services: Services, row: VersionRow) -> None:
    run_id = services.scheduler.submit(row)
    with temporary_settings({PREFECT_API_URL: services.settings.prefect_url}), get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(run_id))
    assert run.name == row.label
    assert run.work_queue_name == "fresh"
    assert set(run.tags) >= {"deltadex", f"model:{row.registered.ref.name}"}


def test_deploying_twice_changes_nothing(services: Services, row: VersionRow) -> None:
    first = services.scheduler.submit(row)
    services.scheduler.deploy()
    assert services.scheduler.submit(row) == first


def test_ended_and_unknown_runs_are_dead_and_scheduled_ones_alive(services: Services, row: VersionRow) -> None:
    alive, ended = services.scheduler.submit(row), services.scheduler.submit(replace(row, attempt=2))
    services.scheduler.crash(ended, reason="for the test")
    unknown = str(uuid4())
    assert services.scheduler.dead_runs([alive, ended, unknown]) == {ended, unknown}
    services.scheduler.crash(unknown, reason="there is none")


def test_the_check_asks_for_a_worker(services: Services, row: VersionRow) -> None:
    with pytest.raises(SchedulerError, match="No worker") as caught:
        services.scheduler.check()
    assert "prefect worker start" in caught.value.hint


def test_the_check_asks_for_a_schedule_that_is_followed(services: Services) -> None:
    """A server whose scheduling loop fails answers everything else."""
    settings = services.settings.model_copy(update={"work_pool": f"pool-{uuid4().hex[:8]}"})
    scheduler = PrefectScheduler(settings)
    scheduler.deploy()
    with temporary_settings({PREFECT_API_URL: settings.prefect_url}), get_client(sync_client=True) as client:
        client.send_worker_heartbeat(settings.work_pool, "worker", heartbeat_interval_seconds=30)
        deployment = client.read_deployment_by_name("reconcile/deltadex")
        client.pause_deployment(deployment.id)
        try:
            with pytest.raises(SchedulerError, match="Nothing schedules"):
                scheduler.check()
        finally:
            client.resume_deployment(deployment.id)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(SchedulerError):
                assert "1 worker(s) online" in scheduler.check()
                return
            time.sleep(1)
        pytest.fail("the server schedules nothing")


def test_a_server_that_is_away_is_a_retryable_error(services: Services, row: VersionRow) -> None:
    away = PrefectScheduler(services.settings.model_copy(update={"prefect_api_url": "http://127.0.0.1:9/api"}))
    with pytest.raises(SchedulerError) as caught:
        away.submit(row)
    assert caught.value.retryable
