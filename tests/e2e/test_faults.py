"""Whatever is killed, no version is lost: each service of a running company dies without warning."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deltadex.domain import State
from deltadex.mlflow_edge.registry import Registry
from deltadex.stack.running import RunningStack
from deltadex.store import versions
from deltadex.store.database import Database
from tests.e2e.conftest import Installation
from tests.registering import register_folder

pytestmark = pytest.mark.slow


def wait_for(condition: Callable[[], bool], seconds: float, *, pause: float = 0.5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(pause)


def states(database: Database, registry: str, name: str) -> list[State]:
    with database.transaction() as tx:
        return [row.state for row in versions.find(tx, registry, name)]


def kill(company: Installation, name: str) -> None:
    """Kill a service and all of its children, as an out-of-memory killer or a power cut would."""
    running = RunningStack.read(company.data_dir)
    assert running is not None
    [service] = [service for service in running.services if service.name == name]
    process = psutil.Process(service.process.pid)
    for member in [process, *process.children(recursive=True)]:
        member.kill()


@pytest.mark.parametrize("service", ["Postgres", "MLflow", "Prefect", "watcher", "worker"])
def test_a_version_registered_around_the_death_of_a_service_is_embedded(
    company: Installation, finetune: Path, service: str
) -> None:
    name = f"around-{service.lower()}"
    registry = Registry(company.settings.mlflow_uri, name=company.settings.registry)
    register_folder(registry, name, finetune)
    kill(company, service)
    wait_for(lambda: company.run("status").returncode == 0, 60)
    wait_for(lambda: company.states().get(f"{name}/1") == "embedded", 300)


def test_a_run_that_died_with_its_worker_is_revived(company: Installation, finetune: Path) -> None:
    registry = Registry(company.settings.mlflow_uri, name=company.settings.registry)
    register_folder(registry, "died", finetune)
    with Database(company.settings.database_url) as database:
        # The command line takes longer to start than the embedding.
        wait_for(lambda: State.RUNNING in states(database, registry.name, "died"), 60, pause=0.01)
    kill(company, "worker")
    wait_for(lambda: company.states()["died/1"] == "embedded", 300)
    [row] = company.read("status", "died/1")
    assert row["attempt"] == 2
