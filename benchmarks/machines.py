"""The same backlog on one machine and on two: how much faster two are.

Each machine is a worker with a data folder of its own, started as the README says; it shares nothing with the others
but MLflow, Postgres and Prefect. All run on this computer, so their embedding processes are stopped for nine tenths
of the time (SIGSTOP), as if the models were ten times as large: else the processors would be measured.

    python -m benchmarks.machines [--versions N]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from mlflow import MlflowClient
from rich.console import Console
from rich.table import Table

from benchmarks.backfill import BASES, Waiter, build_adapter, build_base, process_of, register_at_once, stack
from deltadex.settings import ARTIFACT_KEY_FILE, Settings
from deltadex.store.database import Database

#: With four, Prefect's server on SQLite stands still for minutes ("database is locked"); it needs Postgres then.
_MACHINES = (1, 2)
_VERSIONS_PER_SHARD = 10
_RUNS_FOR, _PERIOD = 0.05, 0.5  # seconds
_TARGET = 0.9


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=120, help="of each backlog; a multiple of 120 divides evenly")
    options, console = parser.parse_args(arguments), Console()
    load = os.getloadavg()[0]
    os.environ["DELTADEX_SHARDS__MAX_VERSIONS"] = str(_VERSIONS_PER_SHARD)
    with tempfile.TemporaryDirectory(prefix="deltadex-machines-") as temporary, console.status("building") as status:
        folder = Path(temporary)
        bases = {name: build_base(folder / name, seed) for seed, name in enumerate(BASES)}
        adapters = [
            build_adapter(name, bases[name], folder / f"adapter-{number}", seed=number)
            for number in range(options.versions)
            for name in [BASES[number % len(BASES)]]
        ]
        status.update("starting the stack")
        with stack(folder / "data", bases) as settings, Database(settings.database_url) as database:
            process_of(settings, "worker").suspend()
            wait, rates = Waiter(settings, database, status.update), {}
            for count in _MACHINES:
                with ExitStack() as running:
                    folders = [folder / f"machine-{count}-{number}" for number in range(count)]
                    for data_dir in folders:
                        running.enter_context(machine(settings, data_dir, bases))
                    running.enter_context(slowed(folders))
                    client, name = MlflowClient(settings.mlflow_uri), f"on-{count}"
                    register_at_once(settings, client, name, adapters, status.update)
                    seconds, _ = wait(len(adapters) * (len(rates) + 1))[-1]
                    rates[count] = 60 * len(adapters) / seconds
            process_of(settings, "worker").resume()
    table = Table("machines", "versions per minute", f"efficiency (target ≥ {_TARGET})")
    table.caption = (
        f"{options.versions} versions in shards of {_VERSIONS_PER_SHARD}, {os.cpu_count()} cores, load {load:.1f}"
    )
    for count, rate in rates.items():
        table.add_row(str(count), f"{rate:.1f}", f"{rate / count / rates[1]:.2f}")
    console.print(table)


@contextmanager
def machine(settings: Settings, data_dir: Path, bases: Mapping[str, Path]) -> Iterator[None]:
    """Run a worker with a data folder of its own during the block; it knows the services by their addresses."""
    assert settings.prefect_auth is not None  # noqa: S101 - the stack's
    data_dir.mkdir()
    environment = {
        **os.environ,
        "DELTADEX_DATA_DIR": str(data_dir),
        "DELTADEX_TRACKING_URI": settings.mlflow_uri,
        "DELTADEX_DATABASE__URL": settings.database_url,
        "DELTADEX_BASES": json.dumps({name: str(path) for name, path in bases.items()}),
        "DELTADEX_ARTIFACT_KEY": (settings.data_dir / ARTIFACT_KEY_FILE).read_text(),
        "PREFECT_HOME": str(data_dir / "prefect"),
        "DELTADEX_PREFECT_API_URL": settings.prefect_url,
        "PREFECT_API_URL": settings.prefect_url,
        "PREFECT_API_AUTH_STRING": settings.prefect_auth.get_secret_value(),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "deltadex", "--pool", settings.work_pool]
    with (data_dir / "worker.log").open("w") as log:
        process = subprocess.Popen([*command, "--limit", "2"], env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        while not embedder(data_dir):
            if process.poll() is not None:
                raise RuntimeError((data_dir / "worker.log").read_text())
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(60)


def embedder(data_dir: Path) -> list[psutil.Process]:
    """Return the embedding process of a machine and the processes forked from it."""
    with suppress(OSError, ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int((data_dir / "embedder" / "pid").read_text()))
        return [process, *process.children(recursive=True)]
    return []


@contextmanager
def slowed(folders: Sequence[Path]) -> Iterator[None]:
    """Let the embedding processes of these machines run for a tenth of the time."""
    is_over = threading.Event()

    def send(number: signal.Signals) -> None:
        for process in (one for folder in folders for one in embedder(folder)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def alternate() -> None:
        while not is_over.wait(_RUNS_FOR):
            send(signal.SIGSTOP)
            is_over.wait(_PERIOD - _RUNS_FOR)
            send(signal.SIGCONT)
        send(signal.SIGCONT)

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


if __name__ == "__main__":
    main()
