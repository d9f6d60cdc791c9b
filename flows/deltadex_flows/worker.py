"""The Prefect worker of Deltadex's work pool: runs Deltadex's own flows and nothing else.

Prefect's process worker runs whatever the server says: the command and variables of a flow run, the entry point and
pull steps of a deployment. With it, access to the server would give access to the worker's credentials.
"""

from __future__ import annotations

import math
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self
from uuid import UUID

from prefect import Flow, flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow as ApiFlow
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse, WorkerFlowRunResponse
from prefect.workers import process
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from deltadex.errors import Resource, SchedulerError, StoreError
from deltadex.ingest import machines
from deltadex.machine_limits import limits
from deltadex.settings import Settings, load_settings
from deltadex.store.database import Database
from deltadex_flows import run_tags, warm
from deltadex_flows.entry_points import ENTRY_POINTS, WORKER_TYPE


class FixedJob(ProcessJobConfiguration):
    """Command, environment and folder of each run: Prefect's engine with the installed flow of that name."""

    @classmethod
    async def from_template_and_values(
        cls,
        base_job_template: dict[str, Any],  # noqa: ARG003
        values: dict[str, Any],  # noqa: ARG003
        client: PrefectClient | None = None,  # noqa: ARG003
    ) -> Self:
        """Return the fixed configuration; the pool's template and all job variables are ignored."""
        return cls(command=Worker.command)

    def prepare_for_flow_run(
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None = None,
        flow: ApiFlow | None = None,
        *args: Any,
        **options: Any,
    ) -> None:
        """Name the installed flow to the engine, which then reads neither entry point nor pull steps of the deployment.

        Raises
        ------
        SchedulerError
            It is not one of Deltadex's flows; the worker then marks the run as crashed.
        """
        entry_point = ENTRY_POINTS.get(flow.name) if flow else None
        if entry_point is None:
            raise SchedulerError(f"Run {flow_run.id} is not of one of Deltadex's flows", hint="Use another work pool.")
        super().prepare_for_flow_run(flow_run, deployment, flow, *args, **options)
        self.env["PREFECT__FLOW_ENTRYPOINT"] = entry_point


class Worker(ProcessWorker):
    """Process worker with a fixed job: `prefect worker start --type deltadex --pool deltadex`."""

    type = WORKER_TYPE
    job_configuration = FixedJob
    #: Command line of each run; the process that it connects to is this worker's.
    command = ""
    _display_name = "Deltadex"
    _description = "Runs Deltadex's flows as processes, and no others."

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: Shards that were started; some may have ended.
        self._shards: set[UUID] = set()
        #: Bases of all of them, whose files are in the cache.
        self._bases: set[str | None] = set()
        self._limits: Mapping[Resource, float] = {}
        self._folder = TemporaryDirectory(prefix="deltadex-worker-")
        self._warm: subprocess.Popen[bytes] | None = None
        Worker.command = warm.command(Path(self._folder.name))

    async def setup(self) -> None:
        """Start; what this machine can hold is reported by a thread, so that a slow store delays no run."""
        settings = load_settings()
        self._limits = limits(settings)
        threading.Thread(target=self._report, args=[settings], name="report", daemon=True).start()
        await super().setup()

    async def sync_with_backend(self) -> None:
        """Register, at the start and every few seconds, and see to it that the process that runs the flows is there."""
        await super().sync_with_backend()
        if self._warm is None or self._warm.poll() is not None:
            self._warm = warm.start(Path(self._folder.name))

    def _report(self, settings: Settings) -> None:
        """Say in the store what this machine can hold, so that versions which were too large elsewhere come here."""
        with Database(settings.url_of("writer"), pool_size=1, role=settings.database.role) as database:
            while True:
                try:
                    database.run(lambda tx: machines.report(tx, settings))
                except StoreError as error:
                    self._logger.warning("This machine's limits were not stored: %s %s", error.message, error.hint)
                time.sleep(machines.REPORT_SECONDS)

    async def teardown(self, *exc_info: Any) -> None:
        """Stop; the runs were stopped before."""
        await super().teardown(*exc_info)
        if self._warm is not None:
            self._warm.terminate()
            self._warm.wait()
        self._folder.cleanup()

    async def _submit_scheduled_flow_runs(self, flow_run_response: list[WorkerFlowRunResponse]) -> list[FlowRun]:
        """Start the runs that fit this machine, shards of a base that it has read before other shards.

        Shards leave one slot to fresh versions, which must not wait until a shard is done.
        """
        fitting = [one for one in flow_run_response if run_tags.fits(one.flow_run.tags, self._limits)]
        fitting.sort(key=self._loads_a_base)
        startable = list(self._leaving_a_slot(fitting))
        self._bases |= {run_tags.base_of(one.flow_run.tags) for one in startable}
        return await super()._submit_scheduled_flow_runs(startable)

    def _loads_a_base(self, scheduled: WorkerFlowRunResponse) -> bool:
        base = run_tags.base_of(scheduled.flow_run.tags)
        return base is not None and base not in self._bases

    def _leaving_a_slot(self, scheduled: Iterable[WorkerFlowRunResponse]) -> Iterator[WorkerFlowRunResponse]:
        limited = self._limiter
        running = set(limited.statistics().borrowers) if limited else set()
        self._shards &= running
        most = max(1, limited.total_tokens - 1) if limited else math.inf
        for one in scheduled:
            run = one.flow_run
            if "shard_id" in run.parameters and run.id not in self._shards:
                if len(self._shards) >= most:
                    continue
                self._shards.add(run.id)
            yield one


@flow(name="no-hooks")
def _no_hooks() -> None:
    """Stand for a flow without hooks."""


async def _flow_for_hooks(_: FlowRun) -> Flow[Any, Any]:
    return _no_hooks


# For the hooks of a crashed or cancelled run, Prefect's worker loads the deployment's flow, pull steps included, in its
# own process. Deltadex's flows have no hooks, and Prefect has no option for this.
if not hasattr(process, "load_flow_from_flow_run"):
    raise ImportError("this version of Prefect loads a deployment's flow elsewhere")
process.load_flow_from_flow_run = _flow_for_hooks
