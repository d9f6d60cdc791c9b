"""A sweep of a registry in which nothing has changed, beside one listing of it: what watching costs MLflow and us.

The registry is filled through MLflow's own store, without its server; the sweeps read it from a server with SQLite.

    python -m benchmarks.sweep [--versions N] [--models N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlflow.entities.model_registry import ModelVersionTag
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from rich.console import Console
from rich.table import Table

from benchmarks.store_company import scratch_database
from deltadex.app import App
from deltadex.ingest import discovery
from deltadex.registry.client import Registry
from deltadex.scheduler import load_scheduler
from deltadex.settings import load_settings
from deltadex.stack.ports import free_port
from deltadex.stack.process import http_check

_ROUNDS = 5
_TARGET = 1.3


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=2_000)
    options, console = parser.parse_args(arguments), Console()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="deltadex-sweep-") as temporary, console.status("filling") as status:
        folder = Path(temporary)
        fill(f"sqlite:///{folder / 'mlflow.db'}", versions=options.versions, models=options.models)
        status.update("sweeping")
        with mlflow_server(folder) as uri, scratch_database(folder) as database:
            settings = load_settings(data_dir=folder / "data", tracking_uri=uri, prefect_api_url=uri)
            registry = Registry(uri, name=settings.registry)
            app = App(settings, database, registry, load_scheduler(settings))
            first = seconds_of(lambda: discovery.sweep(app))
            pairs = [
                (seconds_of(lambda: list(registry.newest_first())), seconds_of(lambda: discovery.sweep(app)))
                for _ in range(_ROUNDS)
            ]
    ratios = [sweep / listing for listing, sweep in pairs]
    table = Table("measure", "value")
    table.caption = f"{options.versions} versions of {options.models} models, {os.cpu_count()} cores, load {load:.1f}"
    table.add_row("first sweep, which finds all, seconds", f"{first:.1f}")
    table.add_row("one listing, seconds", f"{statistics.median(listing for listing, _ in pairs):.2f}")
    table.add_row("a sweep in which nothing has changed, seconds", f"{statistics.median(s for _, s in pairs):.2f}")
    table.add_row(f"ratio, median of {_ROUNDS} (target ≤ {_TARGET})", f"{statistics.median(ratios):.2f}")
    console.print(table)


def fill(store_uri: str, *, versions: int, models: int) -> None:
    """Register versions in MLflow's store, spread evenly over the models, each with a tag and some with aliases."""
    store = SqlAlchemyStore(store_uri)
    for model in range(models):
        store.create_registered_model(f"team-{model % 40}.model-{model}")
    for number in range(versions):
        name = f"team-{number % models % 40}.model-{number % models}"
        tags = [ModelVersionTag("task", f"task-{number % 17}")]
        version = store.create_model_version(name, f"s3://models/{number}", tags=tags)
        if number % 10 == 0:
            store.set_registered_model_alias(name, "champion", version.version)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run MLflow's server on the store in the folder during the block, and yield its address."""
    port = free_port(0)
    uri = f"http://127.0.0.1:{port}"
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder)]
    command = [sys.executable, "-m", "mlflow", "server", *options, *stores]
    with (folder / "mlflow.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        is_up = http_check(f"{uri}/health")
        while not is_up():
            if process.poll() is not None:
                raise RuntimeError((folder / "mlflow.log").read_text())
            time.sleep(0.2)
        yield uri
    finally:
        process.terminate()
        process.wait(30)


def seconds_of(action: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
