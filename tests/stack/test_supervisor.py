"""The stack beside services that others run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deltadex.errors import StackError, StoreError
from deltadex.scheduler import load_scheduler
from deltadex.setting_groups import DatabaseSettings, WebhookSettings
from deltadex.settings import STACK_FILE, Settings, load_settings
from deltadex.stack.process import http_check
from deltadex.stack.running import RunningStack
from deltadex.stack.supervisor import Stack
from deltadex.store.database import Database
from tests.conftest import unused_port


@pytest.fixture
def given(servers: Settings, database: Database, tmp_path: Path) -> Settings:
    """Settings in which every server is one that runs already."""
    return servers.model_copy(
        update={
            "data_dir": tmp_path,
            "work_pool": f"pool-{tmp_path.name}",
            "database": DatabaseSettings(url=database.url),
            "webhook": WebhookSettings(port=unused_port()),
        }
    )


def test_given_services_are_used_and_left_alone(given: Settings) -> None:
    given = given.model_copy(update={"data_dir": given.data_dir / "new"})
    stack = Stack(given, report=lambda _: None)
    settings = stack.start()
    try:
        assert given.data_dir.stat().st_mode & 0o077 == 0
        assert {service.spec.name for service in stack.services} == {"worker", "watcher", "dashboard"}
        assert (settings.tracking_uri, settings.prefect_api_url) == (given.tracking_uri, given.prefect_api_url)
        assert load_settings(data_dir=given.data_dir).dashboard_url == settings.dashboard_url
        assert "1 worker" in load_scheduler(settings).check()
        with pytest.raises(StackError, match="already"):
            Stack(given, report=lambda _: None).start()
        running = RunningStack.read(given.data_dir)
        assert running is not None
        assert running.supervisor.pid == os.getpid()
    finally:
        stack.stop()
    assert not (given.data_dir / STACK_FILE).exists()
    assert http_check(f"{given.tracking_uri}/health")()
    assert http_check(f"{given.prefect_api_url}/health")()


@pytest.mark.slow
@pytest.mark.usefixtures("registry")
def test_a_stack_that_was_started_in_the_background_of_a_script_stops_in_order(given: Settings) -> None:
    """Such a shell ignores SIGINT, by which Prefect's worker is stopped; nothing may have to be killed for that."""
    deltadex = (sys.executable, "-m", "deltadex")
    assert given.prefect_auth is not None
    env = {
        **os.environ,
        "DELTADEX_DATA_DIR": str(given.data_dir),
        "DELTADEX_TRACKING_URI": given.mlflow_uri,
        "DELTADEX_PREFECT_API_URL": given.prefect_url,
        "DELTADEX_PREFECT_AUTH": given.prefect_auth.get_secret_value(),
        "DELTADEX_DATABASE__URL": given.database_url,
        "DELTADEX_WORK_POOL": given.work_pool,
        "DELTADEX_WEBHOOK__PORT": str(given.webhook.port),
    }
    log = given.data_dir / "up.log"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with log.open("w") as output:
            up = subprocess.Popen([*deltadex, "up"], env=env, stdout=output, stderr=subprocess.STDOUT)
    finally:
        signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 180
    while "Ctrl-C" not in log.read_text():
        assert up.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    down = subprocess.run([*deltadex, "down"], env=env, capture_output=True, text=True, check=True)
    assert up.wait(60) == 0
    assert "stopping worker" in log.read_text()
    assert "killed" not in log.read_text() + down.stderr


@pytest.mark.slow
def test_stacks_that_start_at_the_same_moment_take_different_ports(given: Settings) -> None:
    port = unused_port()
    stacks = [
        Stack(
            given.model_copy(
                update={
                    "data_dir": given.data_dir / name,
                    "work_pool": f"{given.work_pool}-{name}",
                    "ports": given.ports.model_copy(update={"dashboard": port}),
                }
            ),
            report=lambda _: None,
        )
        for name in ("one", "two")
    ]
    try:
        with ThreadPoolExecutor() as together:
            running = list(together.map(lambda stack: stack.start(), stacks))
        assert len({settings.dashboard_url for settings in running}) == 2
        assert len({settings.webhook.port for settings in running}) == 2
        assert len({settings.metrics.port for settings in running}) == 2
    finally:
        for stack in stacks:
            stack.stop()


def test_a_service_that_cannot_start_leaves_nothing_running(given: Settings) -> None:
    impossible = given.model_copy(update={"database": DatabaseSettings(url="postgresql://nobody:x@127.0.0.1:9/none")})
    stack = Stack(impossible, report=lambda _: None)
    with pytest.raises(StoreError):
        stack.start()
    assert stack.services == []
    assert RunningStack.read(given.data_dir) is None
