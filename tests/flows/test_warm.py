"""Flow runs as forks of a warm process: they end as their launcher does, and the launcher as they do."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from deltadex_flows import warm


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / ("longer than the path of a socket may be " * 3)
    folder.mkdir()
    return folder


@pytest.fixture
def server(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[psutil.Process]:
    """A warm process."""
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(tmp_path))
    started = warm.start(folder)
    try:
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        started.wait(30)


def launch(folder: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        shlex.split(warm.command(folder)), env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(server: psutil.Process) -> list[psutil.Process]:
    """The forks of a warm process; the embedding process is its child, too."""
    return [each for each in server.children() if _command_of(each) == server.cmdline()]


def _command_of(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):  # it has just ended
        return process.cmdline()
    return []


def test_a_run_ends_with_the_status_of_the_engine(folder: Path, server: psutil.Process) -> None:
    run = launch(folder, PREFECT__FLOW_RUN_ID="no id")
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "Invalid flow run id" in errors, "what the run prints comes out where its launcher was started"
    assert server.is_running()


def test_a_run_whose_launcher_is_killed_ends(folder: Path, server: psutil.Process) -> None:
    # The engine asks this address for its run, and gets no answer.
    run = launch(folder, PREFECT__FLOW_RUN_ID="0" * 32, PREFECT_API_URL="http://192.0.2.1/api")
    wait_for(lambda: runs(server))
    run.kill()
    run.communicate()
    wait_for(lambda: not runs(server))


def test_a_launcher_is_stopped_as_a_process_of_its_own_would_be(folder: Path, server: psutil.Process) -> None:
    run = launch(folder, PREFECT__FLOW_RUN_ID="0" * 32, PREFECT_API_URL="http://192.0.2.1/api")
    wait_for(lambda: runs(server))
    time.sleep(1)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=120)
    assert run.returncode != 0


def test_without_the_warm_process_the_engine_is_started_itself(folder: Path) -> None:
    run = launch(folder, PREFECT__FLOW_RUN_ID="no id")
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "Invalid flow run id" in errors
