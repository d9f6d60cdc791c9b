"""The end of the company and its new start: after the files that need it, and before those with stacks of their own."""

from __future__ import annotations

import json

import psutil

from deltadex.stack.process import ProcessId
from deltadex.stack.running import RunningStack
from tests.e2e.conftest import Installation


def test_down_leaves_nothing_running_and_up_brings_everything_back(company: Installation) -> None:
    before, running = company.states(), RunningStack.read(company.data_dir)
    assert running is not None
    processes = [psutil.Process(service.process.pid) for service in running.services]
    processes += [child for process in processes for child in process.children(recursive=True)]
    family = [ProcessId.of(process.pid) for process in processes]
    assert company.run("down").returncode == 0
    assert [process for identity in family if (process := identity.find())] == []
    away = company.run("status")
    assert away.returncode == 1
    assert "deltadex up" in away.stderr

    again = company.start("up", ready="Ctrl-C", seconds=180)
    assert json.loads((company.data_dir / "stack.json").read_text())["supervisor"]["pid"] == again.pid
    assert company.states() == before
    second = company.run("up")
    assert second.returncode == 1, second.stderr
    assert "already" in second.stderr
    company.run("down")
    assert again.wait(60) == 0
