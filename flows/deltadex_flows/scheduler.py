"""`deltadex.scheduler.Scheduler` on Prefect: runs are created directly, each with its idempotency key.

Not by events and automations: those lose runs when the server restarts.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed

from deltadex.domain import Queue, VersionRow
from deltadex.errors import SchedulerError
from deltadex.probes import DELTA_ACTIVATION
from deltadex.settings import Settings
from deltadex_flows.embed import embed_model_version
from deltadex_flows.find import find_models
from deltadex_flows.reconcile import reconcile_registry

_DEPLOYMENT = "deltadex"
_RECONCILE_QUEUE = "reconcile"
_SEARCH_QUEUE = "search"
#: Lower goes first. A person waits for a search.
_PRIORITIES = {_RECONCILE_QUEUE: 1, _SEARCH_QUEUE: 2, Queue.FRESH.value: 3, Queue.BACKFILL.value: 4}
_QUEUES: dict[Flow[Any, Any], str] = {
    embed_model_version: Queue.BACKFILL.value,
    reconcile_registry: _RECONCILE_QUEUE,
    find_models: _SEARCH_QUEUE,
}
_RECONCILE_EVERY = timedelta(seconds=60)
#: A worker that dies while it starts a run leaves it pending for ever.
_STUCK_AFTER = timedelta(seconds=120)
#: A server looks every five seconds for what was deployed.
_PLANNED_WITHIN_SECONDS = 15


class PrefectScheduler:
    """Prefect server, work pool and deployments as one `Scheduler`."""

    def __init__(self, settings: Settings) -> None:
        self._pool = settings.work_pool
        self._api_url = settings.prefect_url

    def deploy(self) -> None:
        """Create or update the process work pool, its queues and all deployments. Idempotent."""
        with self._client("deploying") as client:
            with suppress(ObjectAlreadyExists):
                client.create_work_pool(WorkPoolCreate(name=self._pool, type="process"))
            for queue, priority in _PRIORITIES.items():
                with suppress(ObjectAlreadyExists):
                    client.create_work_queue(queue, work_pool_name=self._pool, priority=priority)
            for flow, queue in _QUEUES.items():
                schedule = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=_RECONCILE_EVERY), active=True)
                client.create_deployment(
                    flow_id=client.create_flow(flow),
                    name=_DEPLOYMENT,
                    entrypoint=f"{flow.__module__}.{flow.fn.__name__}",
                    work_pool_name=self._pool,
                    work_queue_name=queue,
                    schedules=[schedule] if flow is reconcile_registry else [],
                    tags=["deltadex"],
                    description=flow.description,
                )

    def submit(self, version: VersionRow) -> str:
        """Start the embedding of one version; the same attempt gives the same run."""
        ref = version.registered.ref
        key = (ref.registry, ref.name, ref.version, ref.created_ms, DELTA_ACTIVATION.digest[:12], version.attempt)
        with self._client(f"starting a run for {version.label}") as client:
            deployment = client.read_deployment_by_name(f"{embed_model_version.name}/{_DEPLOYMENT}")
            run = client.create_flow_run_from_deployment(
                deployment.id,
                name=f"{version.label} · attempt {version.attempt}" if version.attempt > 1 else version.label,
                parameters={"version_id": version.id, "attempt": version.attempt},
                tags=[f"model:{ref.name}", version.queue.value],
                idempotency_key=":".join(map(str, ("deltadex", *key))),
                work_queue_name=version.queue.value,
            )
        return str(run.id)

    def submit_search(self, search_id: int, *, key: str) -> str:
        """Start a search by examples; the same key gives the same run."""
        with self._client(f"starting search {search_id}") as client:
            deployment = client.read_deployment_by_name(f"{find_models.name}/{_DEPLOYMENT}")
            run = client.create_flow_run_from_deployment(
                deployment.id,
                name=f"search {search_id}",
                parameters={"search_id": search_id},
                idempotency_key=f"deltadex:search:{key}",
            )
        return str(run.id)

    def dead_runs(self, run_ids: Sequence[str]) -> Collection[str]:
        """Return those of the runs that ended, were deleted, or are stuck before their start."""
        if not run_ids:
            return set()
        stuck_since = datetime.now(UTC) - _STUCK_AFTER
        alive: set[str] = set()
        with self._client("reading flow runs") as client:
            for start in range(0, len(run_ids), 200):
                page = [UUID(run_id) for run_id in run_ids[start : start + 200]]
                for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=page))):
                    state = run.state
                    stuck = state is not None and state.is_pending() and state.timestamp < stuck_since
                    if state is None or not (state.is_final() or stuck):
                        alive.add(str(run.id))
        return set(run_ids) - alive

    def crash(self, run_id: str, reason: str) -> None:
        """Mark a run that died silently as crashed, so that it holds no slot and misleads nobody."""
        with self._client(f"ending flow run {run_id}") as client:
            try:
                run = client.read_flow_run(UUID(run_id))
            except ObjectNotFound:
                return
            if run.state is None or not run.state.is_final():
                client.set_flow_run_state(UUID(run_id), Crashed(message=reason), force=True)

    def check(self) -> str:
        """Return a line about server, pool and workers.

        Raises
        ------
        SchedulerError
            The server is away or schedules nothing, nothing is deployed, or no worker is online.
        """
        with self._client("checking") as client:
            try:
                client.read_deployment_by_name(f"{embed_model_version.name}/{_DEPLOYMENT}")
                reconciling = client.read_deployment_by_name(f"{reconcile_registry.name}/{_DEPLOYMENT}")
            except ObjectNotFound as error:
                raise SchedulerError("The flows are not deployed", hint="Run `deltadex init`.") from error
            workers = client.read_workers_for_work_pool(self._pool)
            online = [worker.name for worker in workers if worker.status == "ONLINE"]
            if not online:
                raise SchedulerError(
                    f"No worker is online in the work pool {self._pool!r}",
                    hint=f"Start one: prefect worker start --type process --pool {self._pool}",
                )
            # A server plans ahead, but not at once; one whose own loop fails says so in its log only.
            deadline = time.monotonic() + (0 if reconciling.paused else _PLANNED_WITHIN_SECONDS)
            while not (is_planned := _is_planned(client, reconciling.id)) and time.monotonic() < deadline:
                time.sleep(0.5)
        if not is_planned:
            raise SchedulerError(
                f"Nothing schedules the flow {reconcile_registry.name!r}, which finds what was lost",
                hint="Is its schedule paused? Else look for errors of the scheduling loop in the Prefect server's log.",
            )
        return f"{self._api_url}, pool {self._pool}, {len(online)} worker(s) online, reconciling scheduled"

    @contextmanager
    def _client(self, doing: str) -> Iterator[SyncPrefectClient]:
        try:
            with temporary_settings({PREFECT_API_URL: self._api_url}), get_client(sync_client=True) as client:
                yield client
        except (httpx.TransportError, PrefectHTTPStatusError, ObjectNotFound, RuntimeError) as error:
            hint = "Run `deltadex init`." if isinstance(error, ObjectNotFound) else "Is the Prefect server up?"
            text = f"Prefect at {self._api_url}: {doing} failed: {type(error).__name__}: {error}"
            raise SchedulerError(text[:400], hint=hint, retryable=not isinstance(error, ObjectNotFound)) from error


def _is_planned(client: SyncPrefectClient, deployment_id: UUID) -> bool:
    last = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=1,
    )
    return any(run.expected_start_time and run.expected_start_time > datetime.now(UTC) for run in last)
