"""What the stack's children are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltadex.settings import Settings, load_settings
from deltadex.stack.specs import watcher, worker


def test_the_children_read_the_settings_that_the_stack_runs_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        data_dir=tmp_path,
        tracking_uri="http://127.0.0.1:5000",
        prefect_api_url="http://127.0.0.1:4200/api",
        bases={"acme/base": "models:/base/1"},
        database={"url": "postgresql://me:secret@127.0.0.1:5432/x"},
        webhook={"secret": "s3cret", "port": 7000},
        thresholds={"drift_distance": 0.25},
    )
    for spec in (watcher(settings), worker(settings)):
        for name, value in spec.env.items():
            monkeypatch.setenv(name, value)
        assert load_settings() == settings


def test_no_child_sends_telemetry(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, tracking_uri="http://x", prefect_api_url="http://x/api")
    quiet = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    assert quiet.items() <= worker(settings).env.items()
