"""Attacks on a real Prefect server and worker: whoever reaches them must not run anything but Deltadex's flows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
import psutil
import pytest
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import PrefectHTTPStatusError
from prefect.workers.process import ProcessWorker

from deltadex.app import App
from deltadex.settings import Settings
from deltadex.stack import specs
from deltadex.stack.process import Service
from deltadex_flows.advise import advise_task
from deltadex_flows.analyse import analyse_registry
from deltadex_flows.embed import embed_model_version
from deltadex_flows.entry_points import ENTRY_POINTS
from deltadex_flows.evidence import write_evidence_packs
from deltadex_flows.find import find_models
from deltadex_flows.replay import replay_versions
from deltadex_flows.safety import measure_safety
from deltadex_flows.shard import embed_shard
from deltadex_flows.taught import find_taught_strings
from tests.flows.test_scheduler import client_of

Found = TypeVar("Found")


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that exists once somebody else's code has run."""
    return tmp_path_factory.mktemp("attack") / "canary"


@pytest.fixture
def worker(app: App) -> Iterator[psutil.Process]:
    """A running worker of the app's pool."""
    app.scheduler.deploy()
    service = Service(specs.worker(app.settings), app.settings.data_dir / "worker.log")
    service.start()
    try:
        service.wait_up(120)
        assert service.id is not None
        yield psutil.Process(service.id.pid)
    finally:
        service.stop()


def test_the_worker_knows_each_flow_by_its_name() -> None:
    flows: list[Flow[Any, Any]] = [
        embed_model_version,
        embed_shard,
        analyse_registry,
        find_models,
        replay_versions,
        advise_task,
        measure_safety,
        find_taught_strings,
        write_evidence_packs,
    ]
    assert {flow.name: f"{flow.__module__}.{flow.fn.__name__}" for flow in flows} == ENTRY_POINTS


def test_the_server_answers_nobody_without_its_password(servers: Settings) -> None:
    assert servers.prefect_auth is not None
    url = f"{servers.prefect_url}/flow_runs/filter"
    user, password = servers.prefect_auth.get_secret_value().split(":")
    assert httpx.post(url, json={}).status_code == 401
    assert httpx.post(url, json={}, auth=(user, "wrong")).status_code == 401
    assert httpx.post(url, json={}, auth=(user, password)).status_code == 200


def test_a_web_page_of_another_origin_is_not_allowed(servers: Settings) -> None:
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    asked = httpx.options(f"{servers.prefect_url}/flow_runs/", headers=origin)
    answered = httpx.get(f"{servers.prefect_url}/health", headers=origin)
    for response in (asked, answered):
        assert "access-control-allow-origin" not in response.headers
    own = {**origin, "Origin": servers.prefect_url.removesuffix("/api")}
    assert httpx.options(f"{servers.prefect_url}/flow_runs/", headers=own).headers["access-control-allow-origin"]


def test_the_server_refuses_job_variables(app: App, canary: Path) -> None:
    app.scheduler.deploy()
    with client_of(app) as client:
        ours = client.read_deployment_by_name("analyse-registry/recompute-analyses")
        with pytest.raises(PrefectHTTPStatusError) as caught:
            client.create_flow_run_from_deployment(ours.id, job_variables={"command": f"touch {canary}"})
    assert caught.value.response.status_code in (409, 422)


def test_the_worker_runs_nothing_else_even_for_who_has_the_password(
    app: App, worker: psutil.Process, canary: Path
) -> None:
    program = canary.with_name("attack.py")
    program.write_text(f"open({str(canary)!r}, 'w')\nfrom prefect import flow\n@flow\ndef attack(): pass\n")
    canary.with_name("sitecustomize.py").write_text(f"open({str(canary)!r}, 'w')\n")
    command = f"{sys.executable} {program}"
    pull = [{"prefect.deployments.steps.run_shell_script": {"script": f"touch {canary}"}}]
    env = {"PYTHONPATH": str(canary.parent), "PREFECT__FLOW_ENTRYPOINT": f"{program}:attack"}
    everything = {"command": command, "env": env, "working_dir": str(canary.parent)}
    with client_of(app) as client:
        template = ProcessWorker.get_default_base_job_template()  # lets job variables set everything
        client.update_work_pool(app.settings.work_pool, WorkPoolUpdate(base_job_template=template))
        known, unknown = client.create_flow_from_name("analyse-registry"), client.create_flow_from_name("attack")

        def deployment(flow_id: UUID, name: str, **fields: Any) -> UUID:
            pool = {"work_pool_name": app.settings.work_pool, "work_queue_name": "analyses"}
            given = {"entrypoint": f"{program}:attack", **fields}
            return client.create_deployment(flow_id=flow_id, name=f"{name}-{canary.parent.name}", **pool, **given)

        def end(made: UUID, variables: dict[str, Any], *, killed: bool = False) -> State[Any]:
            """Start a run and return its final state; kill it while the process that it needs does not answer."""
            warm = _wait(lambda: _warm_of(worker))
            if killed:
                warm.suspend()
            run = client.create_flow_run_from_deployment(made, job_variables=variables)
            if killed:
                _wait(lambda: _engine_of(worker, run)).kill()
                warm.resume()
            return _wait(lambda: _final_state(client, run))

        ended = [
            end(deployment(known, "variables"), everything),
            end(deployment(known, "own-variables", job_variables=everything), {}),
            # For the hooks of a run that crashes, Prefect's own worker loads the deployment's flow.
            end(deployment(known, "pulling", pull_steps=pull), {}, killed=True),
            end(deployment(unknown, "other-flow", pull_steps=pull), everything),
        ]
    assert [state.name for state in ended] == ["Completed", "Completed", "Crashed", "Crashed"]
    assert not canary.exists()


def _warm_of(worker: psutil.Process) -> psutil.Process | None:
    """Return the process that runs the worker's flows."""
    return next((child for child in worker.children() if "deltadex_flows.warm" in child.cmdline()), None)


def _engine_of(worker: psutil.Process, run: FlowRun) -> psutil.Process | None:
    for child in worker.children(recursive=True):
        with suppress(psutil.Error):
            if child.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id):
                return child
    return None


def _final_state(client: SyncPrefectClient, run: FlowRun) -> State[Any] | None:
    state = client.read_flow_run(run.id).state
    return state if state and state.is_final() else None


def _wait(read: Callable[[], Found | None]) -> Found:
    deadline = time.monotonic() + 240
    while (found := read()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found
