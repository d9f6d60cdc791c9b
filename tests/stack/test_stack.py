"""The stack beside services that somebody else runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deltadex.errors import StackError, StoreError
from deltadex.scheduler import load_scheduler
from deltadex.settings import STACK_FILE, DatabaseSettings, Settings, WebhookSettings, load_settings
from deltadex.stack.process import answers
from deltadex.stack.running import RunningStack
from deltadex.stack.stack import Stack
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
    stack = Stack(given, report=lambda _: None)
    settings = stack.start()
    try:
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
    assert answers(f"{given.tracking_uri}/health")()
    assert answers(f"{given.prefect_api_url}/health")()


def test_a_service_that_cannot_start_leaves_nothing_running(given: Settings) -> None:
    impossible = given.model_copy(update={"database": DatabaseSettings(url="postgresql://nobody:x@127.0.0.1:9/none")})
    stack = Stack(impossible, report=lambda _: None)
    with pytest.raises(StoreError):
        stack.start()
    assert stack.services == []
    assert RunningStack.read(given.data_dir) is None
