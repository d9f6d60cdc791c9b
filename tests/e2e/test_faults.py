"""No version is lost, and nothing is done twice, whatever fails during a burst of registrations.

`make test-faults` runs all faults and prints a table; `make test` runs the first ones, with a shorter burst.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
import requests
from mlflow.exceptions import MlflowException
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.settings import temporary_settings
from rich.console import Console
from rich.table import Table

from deltadex.embeddings.artifact import read_artifact
from deltadex.errors import RegistryError
from deltadex.registry.client import Registry
from deltadex.setting_groups import MetricsSettings
from deltadex.stack import specs
from deltadex.stack.process import Service
from deltadex.stack.running import RunningStack
from deltadex.stack.supervisor import acting_as
from deltadex.store.database import Database
from deltadex.types import UNDER_WAY, State
from deltadex.versions import queries as versions
from deltadex_flows.scheduler import prefect_settings
from tests.conftest import unused_port
from tests.e2e.conftest import Installation
from tests.registering import register_folder

BURST = int(os.environ.get("FAULT_BURST", "4"))
_RECOVERY_SECONDS = 600


@dataclass(frozen=True)
class Outcome:
    """What one fault did to a burst."""

    fault: str
    versions: int
    lost: list[str]
    doubled: int
    seconds: float


@pytest.fixture(scope="module")
def outcomes() -> Iterator[list[Outcome]]:
    """The outcomes of all faults, printed at the end."""
    collected: list[Outcome] = []
    yield collected
    table = Table("fault", "versions", "lost", "doubled", "seconds to recover")
    for one in collected:
        table.add_row(one.fault, *map(str, (one.versions, len(one.lost), one.doubled)), f"{one.seconds:.0f}")
    Console(file=sys.__stdout__, width=100).print(table)


def process_of(company: Installation, service: str) -> psutil.Process:
    running = RunningStack.read(company.data_dir)
    assert running is not None
    [found] = [one for one in running.services if one.name == service]
    return psutil.Process(found.process.pid)


def with_children(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def embedder_of(company: Installation) -> list[psutil.Process]:
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        return with_children(psutil.Process(int((company.data_dir / "embedder" / "pid").read_text())))
    return []


def flow_runs_of(company: Installation) -> list[psutil.Process]:
    return process_of(company, "worker").children(recursive=True)


def send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def ends(service: str, number: signal.Signals) -> Callable[[Installation], None]:
    def end(company: Installation) -> None:
        process = process_of(company, service)
        # A service manager's SIGTERM goes to the main process, an out-of-memory killer or a power cut takes them all.
        send(with_children(process) if number == signal.SIGKILL else [process], number)

    return end


def kill_the_embedding_process(company: Installation) -> None:
    send(embedder_of(company), signal.SIGKILL)


def kill_the_flow_runs(company: Installation) -> None:
    send(flow_runs_of(company), signal.SIGKILL)


def terminate_the_flow_runs(company: Installation) -> None:
    send(flow_runs_of(company), signal.SIGTERM)


def hang_mlflow(company: Installation) -> None:
    processes = with_children(process_of(company, "MLflow"))
    send(processes, signal.SIGSTOP)
    time.sleep(45)
    send(processes, signal.SIGCONT)


def slow_mlflow(company: Installation) -> None:
    processes = with_children(process_of(company, "MLflow"))
    for _ in range(40):
        send(processes, signal.SIGSTOP)
        time.sleep(0.8)
        send(processes, signal.SIGCONT)
        time.sleep(0.2)


def failing_mlflow(company: Installation) -> None:
    """Lock MLflow's database: the server answers with HTTP 500 after its own timeout."""
    with sqlite3.connect(company.data_dir / "mlflow" / "mlflow.db", timeout=30) as database:
        database.execute("begin exclusive")
        time.sleep(30)
        database.rollback()


def flood_the_webhook(company: Installation) -> None:
    settings = company.settings.webhook
    for number in range(50):
        headers = {
            "X-MLflow-Delivery-Id": str(number),
            "X-MLflow-Timestamp": str(int(time.time())),
            "X-MLflow-Signature": "v1,forged",
        }
        with suppress(requests.ConnectionError):
            answer = requests.post(f"http://{settings.host}:{settings.port}/webhook", b"{}", headers=headers, timeout=5)
            assert answer.status_code in (401, 429)


def fill_the_disk(company: Installation) -> None:
    """Mount a file system without room at the place of fetched checkpoints and temporary results, for a while."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    cache = company.data_dir / "cache"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(cache)], check=False)
    if mounted.returncode:
        pytest.skip("this machine forbids mounts")
    try:
        time.sleep(30)
    finally:
        subprocess.run(["umount", "--lazy", str(cache)], check=True)


def skew_the_clocks(company: Installation) -> None:
    """Let a worker whose clock is two hours ahead and a watcher whose clock is two hours behind do the work."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        pytest.skip("libfaketime is not installed")
    ours = acting_as("writer", company.settings)
    webhook = ours.webhook.model_copy(update={"port": unused_port()})
    ours = ours.model_copy(update={"webhook": webhook, "metrics": MetricsSettings(port=0)})
    with ExitStack() as stack:
        for spec, offset in ((specs.worker(ours), "+2h"), (specs.watcher(ours), "-2h")):
            clock = {"LD_PRELOAD": str(libraries[0]), "FAKETIME": offset, "DONT_FAKE_MONOTONIC": "1"}
            env = {**spec.env, **clock, "DELTADEX_WATCH__POLL_SECONDS": "0.5"}
            service = Service(replace(spec, env=env), company.data_dir / "logs" / f"skewed-{spec.name}.log")
            stack.callback(service.stop)
            service.start()
            service.wait_up(120)
        others = with_children(process_of(company, "worker"))
        send(others, signal.SIGSTOP)
        # The other watcher is quicker to take its lock than this one to start again.
        send([process_of(company, "watcher")], signal.SIGKILL)
        time.sleep(90)
        send(others, signal.SIGCONT)


_SERVICES = ("Postgres", "MLflow", "Prefect", "watcher", "worker")
FAULTS: dict[str, Callable[[Installation], None]] = {
    "kill -9 worker": ends("worker", signal.SIGKILL),
    "kill -9 Postgres": ends("Postgres", signal.SIGKILL),
    "kill -9 flow runs": kill_the_flow_runs,
    "kill -9 embedding process": kill_the_embedding_process,
    **{f"kill -9 {name}": ends(name, signal.SIGKILL) for name in ("MLflow", "Prefect", "watcher")},
    **{f"SIGTERM {name}": ends(name, signal.SIGTERM) for name in _SERVICES},
    "SIGTERM flow runs": terminate_the_flow_runs,
    "MLflow hangs for 45 s": hang_mlflow,
    "MLflow is slow": slow_mlflow,
    "MLflow answers 500": failing_mlflow,
    "forged webhooks": flood_the_webhook,
    "disk full": fill_the_disk,
    "clocks two hours off": skew_the_clocks,
}
_IN_EVERY_RUN = 2


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(name, marks=[] if number < _IN_EVERY_RUN else [pytest.mark.slow])
        for number, name in enumerate(FAULTS)
    ],
)
def test_a_burst_survives(
    company: Installation, registry: Registry, finetune: Path, outcomes: list[Outcome], fault: str
) -> None:
    name = "burst-" + "".join(letter if letter.isalnum() else "-" for letter in fault.lower())
    with Database(company.settings.database_url) as database:
        with background(lambda: FAULTS[fault](company), after=lambda: has_begun(database, registry, name)) as fault_at:
            for _ in range(BURST):
                register_despite_faults(registry, name, finetune)
        wait_for(lambda: not under_way(database, registry, name), _RECOVERY_SECONDS)
        seconds = time.monotonic() - fault_at[0]
        wait_for(lambda: company.run("doctor").returncode == 0, 120)
        lost = not_embedded(database, registry, name)
        doubled = count_doubled(database)
        check_artifacts(registry, name, company.data_dir)
    wait_for(lambda: not runs_without_process(company), 240)
    outcomes.append(Outcome(fault, BURST, lost, doubled, seconds))
    assert (lost, doubled) == ([], 0)


@contextmanager
def background(action: Callable[[], None], *, after: Callable[[], bool]) -> Iterator[list[float]]:
    """Run an action in a thread once a condition holds, and wait for its end; yields a list with its start time."""
    started: list[float] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            wait_for(after, 300, pause=0.05)
            started.append(time.monotonic())
            action()
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield started
    thread.join()
    if errors:
        raise errors[0]


def register_despite_faults(registry: Registry, name: str, folder: Path) -> None:
    """Register a version as a persistent client does: try again while MLflow is away."""
    deadline = time.monotonic() + 180
    while True:
        try:
            register_folder(registry, name, folder)
            return
        except (MlflowException, requests.RequestException, RegistryError):
            assert time.monotonic() < deadline
            time.sleep(2)


def wait_for(condition: Callable[[], bool], seconds: float, *, pause: float = 0.5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(pause)


def rows(database: Database, registry: Registry, name: str) -> list[versions.VersionRow]:
    return database.run(lambda tx: versions.find(tx, registry.name, name))


def has_begun(database: Database, registry: Registry, name: str) -> bool:
    return any(row.state is not State.DISCOVERED for row in rows(database, registry, name))


def under_way(database: Database, registry: Registry, name: str) -> list[str]:
    """Return the versions in MLflow that have not reached a final state."""
    ended = {
        row.registered.ref.version
        for row in rows(database, registry, name)
        if row.state not in (*UNDER_WAY, State.WAITING)
    }
    return [
        one.version
        for one in registry.client.search_model_versions(f"name = '{name}'")
        if int(one.version) not in ended
    ]


def not_embedded(database: Database, registry: Registry, name: str) -> list[str]:
    return [
        f"{row.label}: {row.state} {row.reason}"
        for row in rows(database, registry, name)
        if row.state != State.EMBEDDED
    ]


def count_doubled(database: Database) -> int:
    """Return the number of embeddings and findings that stand twice for one version."""
    with database.transaction() as tx:
        [(embeddings,)] = tx.execute(
            """
            select count(*) from (
                select from embeddings where current_since is not null
                group by model_version_id, recipe_id having count(*) > 1) doubled
            """
        ).fetchall()
        [(findings,)] = tx.execute(
            """
            select count(*) from (
                select from findings group by kind, model_version_id, other_id having count(*) > 1) doubled
            """
        ).fetchall()
    return int(embeddings) + int(findings)


def check_artifacts(registry: Registry, name: str, data_dir: Path) -> None:
    """Check that each version's artifact can be read whole, from where its tag says that it is."""
    for version in registry.client.search_model_versions(f"name = '{name}'"):
        run_id = version.run_id
        [folder] = [
            found.path
            for model in registry.client.list_artifacts(run_id, "deltadex")
            for found in registry.client.list_artifacts(run_id, model.path)
        ]
        target = data_dir.with_name(f"artifacts-{run_id}")
        target.mkdir(exist_ok=True)
        read_artifact(Path(registry.client.download_artifacts(run_id, folder, str(target))))
        assert registry.client.get_model_version(name, version.version).tags["deltadex.artifact"].endswith(folder)


def runs_without_process(company: Installation) -> list[str]:
    """Return the flow runs that Prefect shows as running."""
    live = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))
    with temporary_settings(prefect_settings(company.settings)), get_client(sync_client=True) as client:
        return [run.name for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=live))]
