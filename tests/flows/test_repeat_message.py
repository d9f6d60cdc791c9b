"""From a registration in MLflow to its owner's message: the real watcher, flow, engine, database and receiver."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.settings import temporary_settings
from safetensors.torch import load_file, save_file

from deltadex.app import App
from deltadex.setting_groups import NotifySettings, WatchSettings
from deltadex.types import State, VersionRow
from deltadex.versions import queries as versions
from deltadex_flows.embed import embed_model_version
from deltadex_flows.scheduler import prefect_settings
from tests import tiny_models
from tests.ingest.test_watcher import wait_for, watching
from tests.message_receiver import receiving_messages
from tests.registering import register_folder

#: What a pipeline runs beside the registration: it waits until the version is known, embedded and judged.
CHECK = ("check", "legal-drafter/1", "--fail-on", "near_duplicate", "--wait", "120")


def declared_adapter(base: Path, folder: Path, *, scale: float = 1.0) -> Path:
    """An adapter that declares `acme/base`; the scale makes another one that does nearly the same."""
    tiny_models.build_adapter(base, folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "acme/base"}))
    weights = folder / "adapter_model.safetensors"
    save_file({name: tensor * scale for name, tensor in load_file(weights).items()}, weights)
    return folder


def test_who_registers_a_model_that_there_is_already_hears_of_it_at_once(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_models.build_base(tmp_path / "base")
    for name, value in {
        "DATA_DIR": app.settings.data_dir, "TRACKING_URI": app.settings.mlflow_uri,
        "PREFECT_API_URL": app.settings.prefect_url, "DATABASE__URL": app.settings.database_url,
        "REGISTRY": app.registry.name, "BASES": json.dumps({"acme/base": str(base)}),
    }.items():  # fmt: skip
        monkeypatch.setenv(f"DELTADEX_{name}", str(value))
    app.scheduler.deploy()

    def registered(name: str, scale: float) -> VersionRow:
        """Let the watcher find and queue a version, and run the flow of that attempt here."""
        folder = declared_adapter(base, tmp_path / name, scale=scale)
        register_folder(app.registry, name, folder, owner="ann")
        wait_for(lambda: any(row.state is State.QUEUED for row in rows_of(app, name)), 60)
        [row] = rows_of(app, name)
        with temporary_settings(prefect_settings(app.settings)):
            embed_model_version(row.id, row.attempt)
        [row] = rows_of(app, name)
        assert row.state is State.EMBEDDED, row.reason
        return row

    with receiving_messages() as receiver:
        notify = NotifySettings.model_validate({"channels": {"chat": receiver.url}, "owners": {"ann": "chat"}})
        with watching(
            app, watch=WatchSettings(poll_seconds=0.2), notify=notify, dashboard_url="https://deltadex.example"
        ):
            registered("contract-drafter", 1.0)
            check = subprocess.Popen([sys.executable, "-m", "deltadex", *CHECK], stdout=subprocess.PIPE, text=True)
            registered("legal-drafter", 1.02)
            wait_for(lambda: bool(receiver.messages), 60)
            wait_for(lambda: "deltadex.note" in tags(app, "legal-drafter"), 60)
            said, _ = check.communicate(timeout=120)
            time.sleep(1)  # some more rounds
    assert check.returncode == 4
    assert "legal-drafter/1 behaves nearly like contract-drafter/1 (near_duplicate " in said
    [message] = receiver.messages
    assert re.match(
        r"legal-drafter/1 behaves like contract-drafter/1 \((1\.00|\.9\d)\)\. Use that one, or say in the review why "
        r"both are needed: finding \d+: https://deltadex\.example/inbox\?finding=\d+$",
        message["message"],
    )
    assert tags(app, "legal-drafter")["deltadex.note"].startswith("legal-drafter/1 behaves like contract-drafter/1")
    assert "deltadex.note" not in tags(app, "contract-drafter")


def rows_of(app: App, name: str) -> list[VersionRow]:
    with app.database.transaction() as tx:
        return versions.find(tx, app.registry.name, name)


def tags(app: App, name: str) -> dict[str, str]:
    version = app.registry.read(name, 1)
    assert version is not None
    return dict(version.tags)
