"""Prefect implementation of `deltadex.scheduler.Scheduler`.

Runs are created directly, each with an idempotency key. Events and automations lose runs when the server restarts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Crashed

from deltadex.engine.probes import METHODS_DIGEST
from deltadex.errors import SchedulerError
from deltadex.settings import DEFAULT_WORKSPACE, Settings
from deltadex.types import Queue, VersionRow
from deltadex.versions.shards import Shard
from deltadex_flows import run_tags, trust
from deltadex_flows.entry_points import (
    ADVISE_TASK,
    ANALYSE_REGISTRY,
    EMBED_SHARD,
    EMBED_VERSION,
    ENTRY_POINTS,
    FIND_MODELS,
    FIND_TAUGHT,
    MEASURE_SAFETY,
    POOL_TEMPLATE,
    REPLAY_VERSIONS,
    WORKER_TYPE,
    WRITE_EVIDENCE,
    flow_of,
)

_ANALYSES_QUEUE = "analyses"
_SEARCH_QUEUE = "search"
_REPLAY_QUEUE = "replay"
_ADVICE_QUEUE = "advice"
_SAFETY_QUEUE = "safety"
_TAUGHT_QUEUE = "taught"
#: Versions that were too large for a machine. Prefect hands out a few runs of each queue: those that fit nowhere must
#: not stand before the others.
_LARGE_QUEUE = "large"
#: Lower runs first: a person waits for a search, and a long backfill must delay neither analyses nor replays.
_PRIORITIES = {
    _SEARCH_QUEUE: 1,
    _ANALYSES_QUEUE: 2,
    Queue.FRESH.value: 3,
    _REPLAY_QUEUE: 4,
    _ADVICE_QUEUE: 5,
    _SAFETY_QUEUE: 6,
    _TAUGHT_QUEUE: 6,
    Queue.BACKFILL.value: 7,
    _LARGE_QUEUE: 8,
}


@dataclass(frozen=True)
class _Deployment:
    """A deployment of a flow: its name says what it does, and each of its runs has the tag of the kind of work."""

    flow: str
    name: str
    queue: str
    kind: str

    @property
    def full_name(self) -> str:
        return f"{self.flow}/{self.name}"

    @property
    def tags(self) -> list[str]:
        return ["deltadex", self.kind]


_NEW_VERSION = _Deployment(EMBED_VERSION, "embed-new-version", Queue.FRESH.value, "embedding")
_BACKLOG = _Deployment(EMBED_SHARD, "embed-backlog", Queue.BACKFILL.value, "embedding")
_ANALYSES = _Deployment(ANALYSE_REGISTRY, "recompute-analyses", _ANALYSES_QUEUE, "analyses")
_SEARCH = _Deployment(FIND_MODELS, "search-by-examples", _SEARCH_QUEUE, "search")
_REPLAY = _Deployment(REPLAY_VERSIONS, "compare-answers", _REPLAY_QUEUE, "replay")
_ADVICE = _Deployment(ADVISE_TASK, "advise-by-examples", _ADVICE_QUEUE, "advice")
_SAFETY = _Deployment(MEASURE_SAFETY, "measure-safety-drift", _SAFETY_QUEUE, "safety")
_TAUGHT = _Deployment(FIND_TAUGHT, "search-taught-strings", _TAUGHT_QUEUE, "taught")
_EVIDENCE = _Deployment(WRITE_EVIDENCE, "write-packs", _ANALYSES_QUEUE, "evidence")
_DEPLOYMENTS = (_NEW_VERSION, _BACKLOG, _ANALYSES, _SEARCH, _REPLAY, _ADVICE, _SAFETY, _TAUGHT, _EVIDENCE)

#: Age at which a pending run counts as dead: its worker died while starting it.
_STUCK_AFTER = timedelta(seconds=120)
#: The same where a run may wait for a container or a node.
_CONTAINER_STUCK_AFTER = timedelta(hours=1)
_PROCESS_TYPES = (WORKER_TYPE, "process")
#: Types of pools whose runs a cloud starts by itself.
_WITHOUT_WORKERS = (":push", ":managed")


class PrefectScheduler:
    """Prefect server, work pool and deployments as one `Scheduler`."""

    def __init__(self, settings: Settings) -> None:
        self._workspace = None if settings.workspace == DEFAULT_WORKSPACE else settings.workspace
        self._registry = settings.registry
        self._pool = settings.work_pool
        self._wanted_type = settings.work_pool_type
        self._known_type = ""
        self._job_variables = settings.job_variables
        self._api_url = settings.prefect_url
        self._settings = prefect_settings(settings)

    def deploy(self) -> None:
        """Create or update the work pool, its queues and all deployments. Idempotent.

        The template of a pool of another type than Deltadex's own is left as it is: it belongs to the pool's owner.
        """
        with self._client("deploying") as client:
            if self._wanted_type.endswith(_WITHOUT_WORKERS) and not _exists(client, self._pool):
                raise SchedulerError(
                    f"A work pool of type {self._wanted_type!r} needs settings of its cloud",
                    hint="Create it in Prefect, then name it by DELTADEX_WORK_POOL.",
                )
            with suppress(ObjectAlreadyExists):
                # Without a template: the first worker of that type gives the pool its own.
                client.create_work_pool(WorkPoolCreate(name=self._pool, type=self._wanted_type))
            if self._pool_type(client) == WORKER_TYPE:
                if self._job_variables:
                    raise SchedulerError(
                        f"The work pool {self._pool!r} is of type {WORKER_TYPE!r}, whose runs take no job variables",
                        hint="Unset DELTADEX_JOB_VARIABLES, or name a pool of another type by DELTADEX_WORK_POOL.",
                    )
                client.update_work_pool(self._pool, WorkPoolUpdate(base_job_template=POOL_TEMPLATE))
            for queue, priority in _PRIORITIES.items():
                with suppress(ObjectAlreadyExists):
                    client.create_work_queue(queue, work_pool_name=self._pool, priority=priority)
            for one in _DEPLOYMENTS:
                flow = flow_of(one.flow)
                client.create_deployment(
                    flow_id=client.create_flow(flow),
                    name=one.name,
                    entrypoint=ENTRY_POINTS[flow.name],
                    work_pool_name=self._pool,
                    work_queue_name=one.queue,
                    tags=one.tags,
                    job_variables=self._job_variables,
                    description=flow.description,
                )

    def submit(self, version: VersionRow) -> str:
        """Start the embedding of a version and return the flow run's id; the same attempt gives the same run."""
        ref = version.registered.ref
        needs = run_tags.needs(version)
        key = (ref.registry, ref.name, ref.version, ref.created_ms, METHODS_DIGEST[:12], version.attempt)
        with self._client(f"starting a run for {version.label}") as client:
            deployment = client.read_deployment_by_name(_NEW_VERSION.full_name)
            run = client.create_flow_run_from_deployment(
                deployment.id,
                name=f"{version.label} · attempt {version.attempt}" if version.attempt > 1 else version.label,
                parameters={"version_id": version.id, "attempt": version.attempt},
                tags=[f"model:{ref.name}", f"version:{ref.version}", version.queue.value, *needs, *self._tags],
                idempotency_key=":".join(map(str, ("deltadex", *key))),
                work_queue_name=_LARGE_QUEUE if needs else version.queue.value,
            )
        return str(run.id)

    def submit_shard(self, shard: Shard) -> str:
        """Start the embedding of a shard and return the flow run's id; the same shard gives the same run."""
        with self._client(f"starting a run for shard {shard.id}") as client:
            deployment = client.read_deployment_by_name(_BACKLOG.full_name)
            run = client.create_flow_run_from_deployment(
                deployment.id,
                name=shard.label,
                parameters={"shard_id": shard.id},
                tags=[shard.queue.value, *run_tags.of_base(shard.base), *self._tags],
                idempotency_key=f"deltadex:shard:{shard.key}:{METHODS_DIGEST[:12]}",
                work_queue_name=shard.queue.value,
            )
        return str(run.id)

    def submit_search(self, search_id: int, *, key: str) -> str:
        """Start a search by examples and return the flow run's id; the same key gives the same run."""
        return self._submit_asked(_SEARCH, search_id, key)

    def submit_replay(self, replay_id: int, *, key: str) -> str:
        """Start a replay and return the flow run's id; the same key gives the same run."""
        return self._submit_asked(_REPLAY, replay_id, key)

    def submit_advice(self, advice_id: int, *, key: str) -> str:
        """Start an advice and return the flow run's id; the same key gives the same run."""
        return self._submit_asked(_ADVICE, advice_id, key)

    def submit_safety(self, safety_id: int, *, key: str) -> str:
        """Start a safety measurement and return the flow run's id; the same key gives the same run."""
        return self._submit_asked(_SAFETY, safety_id, key)

    def submit_taught(self, search_id: int, *, key: str) -> str:
        """Start a search for taught strings and return the flow run's id; the same key gives the same run."""
        return self._submit_asked(_TAUGHT, search_id, key)

    def _submit_asked(self, one: _Deployment, request_id: int, key: str) -> str:
        noun = one.kind
        with self._client(f"starting {noun} {request_id}") as client:
            deployment = client.read_deployment_by_name(one.full_name)
            run = client.create_flow_run_from_deployment(
                deployment.id,
                name=f"{noun} {request_id}",
                parameters={f"{noun}_id": request_id},
                tags=self._tags,
                idempotency_key=f"deltadex:{noun}:{key}",
            )
        return str(run.id)

    def submit_analyses(self) -> str | None:
        """Start the analyses and return the flow run's id; return None if a live run of them exists.

        A schedule would start runs without work and pile them up while no worker is online. Under the deployment's
        concurrency limit, dead runs would keep their slots.
        """
        with self._client("starting the analyses") as client:
            deployment = client.read_deployment_by_name(_ANALYSES.full_name)
            latest = _latest_run(client, deployment.id, tags=[f"registry:{self._registry}"])
            if latest is not None and not _has_ended(latest):
                if not self._is_stuck(client, latest):
                    return None
                client.set_flow_run_state(latest.id, Crashed(message="no worker is running it"), force=True)
            run = client.create_flow_run_from_deployment(
                deployment.id,
                name=f"analyses {datetime.now(UTC):%Y-%m-%d %H:%M}",
                tags=[f"registry:{self._registry}", *self._tags],
                # Two concurrent callers get the same run.
                idempotency_key=f"deltadex:analyses:{self._registry}:after:{latest.id if latest else deployment.id}",
            )
        return str(run.id)

    def dead_runs(self, run_ids: Sequence[str]) -> Collection[str]:
        """Return the runs that have ended, were deleted, or are stuck before their start."""
        if not run_ids:
            return set()
        alive: set[str] = set()
        with self._client("reading flow runs") as client:
            for start in range(0, len(run_ids), 200):
                page = [UUID(run_id) for run_id in run_ids[start : start + 200]]
                for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=page))):
                    is_pending = run.state is not None and run.state.is_pending()
                    if not (_has_ended(run) or (is_pending and self._is_stuck(client, run))):
                        alive.add(str(run.id))
        return set(run_ids) - alive

    def crash(self, run_id: str, reason: str) -> None:
        """Mark a dead run as crashed, so that it frees its slot and is not shown as running."""
        with self._client(f"ending flow run {run_id}") as client:
            try:
                run = client.read_flow_run(UUID(run_id))
            except ObjectNotFound:
                return
            if run.state is None or not run.state.is_final():
                client.set_flow_run_state(UUID(run_id), Crashed(message=reason), force=True)

    def check(self) -> str:
        """Return a summary of server, pool and workers in one line.

        Raises
        ------
        SchedulerError
            The server is unreachable, a flow is not deployed, or no worker is online.
        """
        with self._client("checking") as client:
            try:
                for one in _DEPLOYMENTS:
                    client.read_deployment_by_name(one.full_name)
            except ObjectNotFound as error:
                raise SchedulerError("The flows are not deployed", hint="Run `deltadex init`.") from error
            pool_type = self._pool_type(client)
            workers = client.read_workers_for_work_pool(self._pool)
            online = [worker.name for worker in workers if worker.status == "ONLINE"]
            if not (online or pool_type.endswith(_WITHOUT_WORKERS)):
                raise SchedulerError(
                    f"No worker is online in the work pool {self._pool!r}",
                    hint=f"Start one: prefect worker start --type {pool_type} --pool {self._pool}",
                )
        found = f"pool {self._pool}, {len(online)} worker(s) online, {len(_DEPLOYMENTS)} flows deployed"
        return f"{self._api_url}, {found}, {trust.transport(self._api_url)}"

    def _pool_type(self, client: SyncPrefectClient) -> str:
        """Return the type of the work pool, which never changes."""
        self._known_type = self._known_type or client.read_work_pool(self._pool).type
        return self._known_type

    def _is_stuck(self, client: SyncPrefectClient, run: FlowRun) -> bool:
        """Return True if a run has not changed for too long; a scheduled run may wait for a worker."""
        if run.state is None or run.state.is_scheduled():
            return False
        is_process = self._pool_type(client) in _PROCESS_TYPES
        return run.state.timestamp < datetime.now(UTC) - (_STUCK_AFTER if is_process else _CONTAINER_STUCK_AFTER)

    @property
    def _tags(self) -> list[str]:
        return run_tags.of_workspace(self._workspace)

    @contextmanager
    def _client(self, action: str) -> Iterator[SyncPrefectClient]:
        try:
            with temporary_settings(self._settings), get_client(sync_client=True) as client:
                yield client
        except (httpx.TransportError, PrefectHTTPStatusError, ObjectNotFound, RuntimeError, OSError) as error:
            if fault := trust.fault(error):
                message = f"Prefect at {self._api_url}: {action} failed: {fault}"
                raise SchedulerError(message, hint=trust.hint()) from error
            hint = "Run `deltadex init`." if isinstance(error, ObjectNotFound) else "Is the Prefect server up?"
            if isinstance(error, PrefectHTTPStatusError) and error.response.status_code == HTTPStatus.UNAUTHORIZED:
                hint = "Set DELTADEX_PREFECT_AUTH to the server's PREFECT_SERVER_API_AUTH_STRING."
            message = f"Prefect at {self._api_url}: {action} failed: {type(error).__name__}: {error}"
            raise SchedulerError(message[:400], hint=hint, retryable=not isinstance(error, ObjectNotFound)) from error


def prefect_settings(settings: Settings) -> dict[Any, Any]:
    """Return Prefect's own settings for a client: address, and the password if Deltadex's settings have one."""
    own: dict[Any, Any] = {PREFECT_API_URL: settings.prefect_url}
    if settings.prefect_auth is not None:
        own[PREFECT_API_AUTH_STRING] = settings.prefect_auth.get_secret_value()
    return own


def _exists(client: SyncPrefectClient, pool: str) -> bool:
    with suppress(ObjectNotFound):
        return bool(client.read_work_pool(pool))
    return False


def _latest_run(client: SyncPrefectClient, deployment_id: UUID, *, tags: list[str]) -> FlowRun | None:
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=tags)),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=1,
    )
    return runs[0] if runs else None


def _has_ended(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()
