"""Child processes: start, monitoring, and end with all of their children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from deltadex.errors import StackError
from deltadex.stack.ports import free_port
from deltadex.stack.process import ProcessId, Service, ServiceSpec, environment, stop_processes, wait_all_up
from deltadex.stack.running import RunningService, RunningStack, clear_leftovers, stop_stack

_SLEEP = "import time; time.sleep(60)"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_HANDLERS = (
    f"import signal; print([int(signal.getsignal(number) != signal.SIG_IGN) for number in {[*map(int, _SIGNALS)]}])"
)
_PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{_SLEEP}']); {_SLEEP}"
_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


def service(tmp_path: Path, code: str, *, up: bool = True) -> Service:
    spec = ServiceSpec("example", (sys.executable, "-c", code), environment(tmp_path), lambda: up)
    return Service(spec, tmp_path / "logs" / "example.log")


def test_stopping_takes_the_children_along(tmp_path: Path) -> None:
    running = service(tmp_path, _PARENT)
    running.start()
    assert running.id is not None
    parent = psutil.Process(running.id.pid)
    while not parent.children():
        time.sleep(0.05)
    [child] = [ProcessId.of(child.pid) for child in parent.children()]
    running.stop(seconds=5)
    assert running.id is None
    assert child.find() is None


def test_a_service_hears_the_signals_that_its_starter_ignores(tmp_path: Path) -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        running = service(tmp_path, f"{_HANDLERS}; {_SLEEP}")
        running.start()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    while not (printed := running.log.read_text()):
        time.sleep(0.05)
    running.stop(seconds=5)
    assert printed.split("\n")[0] == "[1, 1, 1, 1]"


def test_services_are_reported_in_the_order_in_which_they_answer(tmp_path: Path) -> None:
    answers = {"slow": iter([False, False, True]), "quick": iter([True])}
    named = [
        Service(
            ServiceSpec(name, (sys.executable, "-c", _SLEEP), environment(tmp_path), partial(next, answers[name])),
            tmp_path / f"{name}.log",
        )
        for name in answers
    ]
    for one in named:
        one.start()
    try:
        assert [one.spec.name for one in wait_all_up(named, 60)] == ["quick", "slow"]
    finally:
        for one in named:
            one.stop()


def test_what_ignores_the_signal_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    running = service(tmp_path, _STUBBORN)
    running.start()
    while "ready" not in running.log.read_text():
        time.sleep(0.05)
    running.stop(seconds=0.3)
    assert running.id is None
    assert "killed pid=" in caplog.text


def test_a_service_that_ends_at_once_shows_the_end_of_its_log(tmp_path: Path) -> None:
    running = service(tmp_path, "raise SystemExit('no such port')", up=False)
    running.start()
    with pytest.raises(StackError, match="no such port") as caught:
        running.wait_up(20)
    assert "example.log" in caught.value.hint


def test_a_service_whose_port_another_process_answers_is_not_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        spec = ServiceSpec("example", (sys.executable, "-c", _SLEEP), environment(tmp_path), lambda: True, port)
        running = Service(spec, tmp_path / "example.log")
        running.start()
        try:
            assert not running.is_up(waited=0, limit=60)
            with pytest.raises(StackError, match="was not up"):
                running.is_up(waited=61, limit=60)
        finally:
            running.stop()


def test_a_service_is_up_where_a_child_of_it_listens(tmp_path: Path) -> None:
    port = free_port(0)
    listen = f"import socket, time; kept = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {listen!r}]); time.sleep(60)"
    spec = ServiceSpec("example", (sys.executable, "-c", parent), environment(tmp_path), lambda: True, port)
    running = Service(spec, tmp_path / "example.log")
    running.start()
    try:
        running.wait_up(20)
    finally:
        running.stop()


def test_a_process_number_that_was_used_again_is_left_alone() -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        stop_processes([ProcessId(stranger.pid, started=1.0)], signal.SIGTERM, 1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_taken_port_gives_way_to_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) not in (0, port)
    assert free_port(port) == port


def _write(tmp_path: Path, supervisor: ProcessId, running: Service) -> None:
    assert running.id is not None
    left = RunningService("example", None, str(running.log), running.id, int(signal.SIGTERM))
    RunningStack(supervisor, (left,)).write(tmp_path, {})


def test_what_a_killed_supervisor_left_is_stopped(tmp_path: Path) -> None:
    running = service(tmp_path, _PARENT)
    running.start()
    _write(tmp_path, ProcessId(os.getpid(), started=1.0), running)
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600
    clear_leftovers(tmp_path)
    running.stop()
    assert running.id is None
    assert RunningStack.read(tmp_path) is None


def test_a_living_stack_is_not_taken_for_a_leftover(tmp_path: Path) -> None:
    running = service(tmp_path, _PARENT)
    running.start()
    _write(tmp_path, ProcessId.of(os.getpid()), running)
    clear_leftovers(tmp_path)
    assert running.id is not None
    running.stop()


def test_stopping_where_nothing_runs_says_so(tmp_path: Path) -> None:
    assert stop_stack(tmp_path) == ()


def test_a_process_that_ended_unnoticed_by_its_parent_is_not_waited_for() -> None:
    # We are its parent and don't look, so it stays as a zombie.
    ended = subprocess.Popen([sys.executable, "-c", _SLEEP])
    identity = ProcessId.of(ended.pid)
    started = time.monotonic()
    stop_processes([identity], signal.SIGTERM, 30)
    assert time.monotonic() - started < 30
    assert identity.find() is None
    assert ended.wait() == -signal.SIGTERM
