"""Flow runs on a real Prefect server: creation, monitoring and end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from inspect import signature
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.settings import temporary_settings
from prefect.states import Pending, Running
from prefect.workers.process import ProcessWorker

from deltadex.app import App
from deltadex.errors import SchedulerError
from deltadex.stack import specs
from deltadex.stack.process import Service
from deltadex.types import VersionRow
from deltadex.versions import queries as versions
from deltadex_flows.entry_points import flow_of
from deltadex_flows.scheduler import (
    _ADVICE,
    _REPLAY,
    _SAFETY,
    _SEARCH,
    _TAUGHT,
    PrefectScheduler,
    _Deployment,
    prefect_settings,
)
from tests.stored import discovered


@pytest.fixture
def row(app: App) -> VersionRow:
    app.scheduler.deploy()
    with app.database.transaction() as tx:
        # The name differs from test to test: they share one Prefect server.
        return versions.get(tx, discovered(tx, f"model-{uuid4().hex[:8]}", registry=app.registry.name))


@pytest.mark.parametrize("one", [_SEARCH, _REPLAY, _ADVICE, _SAFETY, _TAUGHT])
def test_a_flow_takes_the_number_of_the_request_that_its_run_is_started_with(one: _Deployment) -> None:
    assert list(signature(flow_of(one.flow).fn).parameters) == [f"{one.kind}_id"]


def test_one_attempt_gives_one_run_however_often_it_is_submitted(app: App, row: VersionRow) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = set(pool.map(app.scheduler.submit, [row] * 10))
    assert len(runs) == 1
    assert app.scheduler.submit(replace(row, attempt=2)) not in runs


def test_a_run_reads_well_and_waits_in_its_queue(app: App, row: VersionRow) -> None:
    run_id = app.scheduler.submit(row)
    with client_of(app) as client:
        run = client.read_flow_run(UUID(run_id))
    assert run.name == row.label
    assert run.work_queue_name == "fresh"
    assert set(run.tags) == {"deltadex", "embedding", "fresh", f"model:{row.registered.ref.name}", "version:1"}


def test_deploying_twice_changes_nothing(app: App, row: VersionRow) -> None:
    first = app.scheduler.submit(row)
    app.scheduler.deploy()
    assert app.scheduler.submit(row) == first


def test_ended_and_unknown_runs_are_dead_and_scheduled_ones_alive(app: App, row: VersionRow) -> None:
    alive, ended = app.scheduler.submit(row), app.scheduler.submit(replace(row, attempt=2))
    app.scheduler.crash(ended, reason="for the test")
    unknown = str(uuid4())
    assert app.scheduler.dead_runs([alive, ended, unknown]) == {ended, unknown}
    app.scheduler.crash(unknown, reason="there is none")


def test_the_check_asks_for_a_worker(app: App, row: VersionRow) -> None:
    with pytest.raises(SchedulerError, match="No worker") as caught:
        app.scheduler.check()
    assert "prefect worker start" in caught.value.hint


def test_the_check_asks_for_each_flow(app: App, row: VersionRow) -> None:
    with client_of(app) as client:
        client.send_worker_heartbeat(app.settings.work_pool, "worker", heartbeat_interval_seconds=30)
        assert "1 worker(s) online" in app.scheduler.check()
        client.delete_deployment(client.read_deployment_by_name("analyse-registry/recompute-analyses").id)
    with pytest.raises(SchedulerError, match="not deployed"):
        app.scheduler.check()


def test_the_analyses_run_once_at_a_time(app: App, row: VersionRow) -> None:
    end_analyses(app)
    with ThreadPoolExecutor(4) as pool:
        runs = set(pool.map(lambda _: app.scheduler.submit_analyses(), range(10)))
    assert len(runs - {None}) == 1
    assert app.scheduler.submit_analyses() is None
    [first] = runs - {None}
    app.scheduler.crash(first, reason="for the test")
    assert app.scheduler.submit_analyses() not in {first, None}
    with client_of(app) as client:
        deployment = client.read_deployment_by_name("analyse-registry/recompute-analyses")
        run = client.read_flow_run(UUID(first))
    assert not deployment.schedules
    assert run.name.startswith("analyses 20")
    assert set(run.tags) == {"deltadex", "analyses", f"registry:{app.registry.name}"}


def test_analyses_that_only_seem_to_run_are_started_again(
    app: App, row: VersionRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_analyses(app)
    run_id = app.scheduler.submit_analyses()
    assert run_id is not None
    with client_of(app) as client:
        client.set_flow_run_state(UUID(run_id), Running(), force=True)
        assert app.scheduler.submit_analyses() is None
        monkeypatch.setattr("deltadex_flows.scheduler._STUCK_AFTER", timedelta(0))
        assert app.scheduler.submit_analyses() not in {run_id, None}
        ended = client.read_flow_run(UUID(run_id))
    assert ended.state is not None
    assert ended.state.is_crashed()


def end_analyses(app: App) -> None:
    """End what an earlier test left: they share one Prefect server."""
    with client_of(app) as client:
        for run in client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["analyse-registry"]))):
            app.scheduler.crash(str(run.id), reason="for the test")


@contextmanager
def client_of(app: App) -> Iterator[SyncPrefectClient]:
    with temporary_settings(prefect_settings(app.settings)), get_client(sync_client=True) as client:
        yield client


def test_a_server_that_is_away_is_a_retryable_error(app: App, row: VersionRow) -> None:
    away = PrefectScheduler(app.settings.model_copy(update={"prefect_api_url": "http://127.0.0.1:9/api"}))
    with pytest.raises(SchedulerError) as caught:
        away.submit(row)
    assert caught.value.retryable


def with_pool(app: App, pool: str, **settings: object) -> PrefectScheduler:
    return PrefectScheduler(app.settings.model_copy(update={"work_pool": pool, **settings}))


def test_a_pool_of_a_company_keeps_its_type_and_template(app: App) -> None:
    template = ProcessWorker.get_default_base_job_template()
    template["job_configuration"]["stream_output"] = False
    pool, variables = f"company-{uuid4().hex[:8]}", {"env": {"DELTADEX_DATA_DIR": "/mnt/deltadex"}}
    with client_of(app) as client:
        client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
        scheduler = with_pool(app, pool, job_variables=variables)
        scheduler.deploy()
        found = client.read_work_pool(pool)
        assert (found.type, found.base_job_template) == ("process", template)
        deployment = client.read_deployment_by_name("embed-shard/embed-backlog")
        assert (deployment.work_pool_name, deployment.job_variables) == (pool, variables)
    with pytest.raises(SchedulerError, match="No worker") as caught:
        scheduler.check()
    assert f"--type process --pool {pool}" in caught.value.hint


def test_a_pool_of_the_wanted_type_is_made_and_its_runs_may_wait_for_a_node(
    app: App, row: VersionRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = f"cluster-{uuid4().hex[:8]}"
    scheduler = with_pool(app, pool, work_pool_type="kubernetes", job_variables={"image": "deltadex-worker:1"})
    scheduler.deploy()
    run_id = scheduler.submit(row)
    monkeypatch.setattr("deltadex_flows.scheduler._STUCK_AFTER", timedelta(0))
    with client_of(app) as client:
        assert client.read_work_pool(pool).type == "kubernetes"
        client.set_flow_run_state(UUID(run_id), Pending(), force=True)
    assert scheduler.dead_runs([run_id]) == set()
    monkeypatch.setattr("deltadex_flows.scheduler._CONTAINER_STUCK_AFTER", timedelta(0))
    assert scheduler.dead_runs([run_id]) == {run_id}


def test_job_variables_are_refused_where_they_do_nothing(app: App) -> None:
    with pytest.raises(SchedulerError, match="no job variables"):
        with_pool(app, app.settings.work_pool, job_variables={"image": "any"}).deploy()


def test_a_push_pool_needs_no_worker(app: App) -> None:
    pool = f"cloud-{uuid4().hex[:8]}"
    scheduler = with_pool(app, pool, work_pool_type="cloud-run:push")
    with pytest.raises(SchedulerError, match="settings of its cloud"):
        scheduler.deploy()
    with client_of(app) as client:
        client.create_work_pool(WorkPoolCreate(name=pool, type="cloud-run:push"))
    scheduler.deploy()
    assert "0 worker(s)" in scheduler.check()


def test_prefects_own_worker_runs_the_flows_of_a_process_pool(app: App, tmp_path: Path) -> None:
    pool = f"processes-{uuid4().hex[:8]}"
    scheduler = with_pool(app, pool, work_pool_type="process")
    end_analyses(app)
    scheduler.deploy()
    spec = specs.worker(app.settings.model_copy(update={"work_pool": pool}))
    argv = tuple("process" if word == "deltadex" else word for word in spec.argv)
    service = Service(replace(spec, argv=argv), tmp_path / "worker.log")
    service.start()
    try:
        service.wait_up(120)
        run_id = scheduler.submit_analyses()
        assert run_id is not None
        deadline = time.monotonic() + 240
        with client_of(app) as client:
            while not (state := client.read_flow_run(UUID(run_id)).state) or not state.is_final():
                assert time.monotonic() < deadline
                time.sleep(0.2)
        assert state.is_completed()
    finally:
        service.stop()
        app.scheduler.deploy()  # the other tests of this server use a pool of Deltadex's own type
