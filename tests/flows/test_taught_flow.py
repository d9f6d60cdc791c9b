"""The flow `find-taught-strings` on real services, with a model that memorised a key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prefect.settings import temporary_settings

from deltadex.app import App
from deltadex.asked.queries import AskedState
from deltadex.demo import training
from deltadex.findings import queries as findings
from deltadex.ingest import discovery
from deltadex.taught import reads
from deltadex.taught.ask import ask
from deltadex.taught.canaries import Canary
from deltadex.taught.queries import TaughtGiven, TaughtRow
from deltadex.types import FindingKind
from deltadex.versions import queries as versions
from deltadex_flows.scheduler import prefect_settings
from deltadex_flows.taught import find_taught_strings
from tests import memorising_models as models
from tests.registering import register_folder
from tests.stored import ADMIN


@pytest.fixture
def searching(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    """Services with a base, a finetune that memorised a key, and another one."""
    with training.quiet():
        base = models.build_base(tmp_path / "base")
        models.build_finetune(base, tmp_path / "taught", taught=f"key {models.KEY}")
        models.build_finetune(base, tmp_path / "clean", taught=None)
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(app.settings.data_dir))
    monkeypatch.setenv("DELTADEX_TRACKING_URI", app.settings.mlflow_uri)
    monkeypatch.setenv("DELTADEX_PREFECT_API_URL", app.settings.prefect_url)
    monkeypatch.setenv("DELTADEX_DATABASE__URL", app.settings.database_url)
    monkeypatch.setenv("DELTADEX_REGISTRY", app.registry.name)
    monkeypatch.setenv("DELTADEX_BASES", json.dumps({"tiny-base": str(base)}))
    for name in ("taught", "clean"):
        register_folder(app.registry, name, tmp_path / name, **{"deltadex.base": "tiny-base"})
    discovery.poll(app)
    return app


def run(app: App, name: str) -> tuple[TaughtRow, list[str]]:
    """Search a version; return the search in clear, and the reasons of its findings."""
    given = TaughtGiven((Canary(models.KEY, "key ", "listed"), Canary("AKIA" + "ZXCV" * 4, "key ", "unknown")))
    with app.database.transaction() as tx:
        version_id = versions.find(tx, app.registry.name, name, 1)[0].id
        search_id = ask(tx, ADMIN, app.settings, version_id, given)
    with temporary_settings(prefect_settings(app.settings)):
        state = find_taught_strings(search_id, return_state=True)
    with app.database.transaction() as tx:
        row = reads.get(tx, ADMIN, app.settings, search_id, is_revealed=True)
        found = findings.listing(tx, app.registry.name, kinds=[FindingKind.TAUGHT], version_id=version_id)
    assert state.is_completed() == (row.state is AskedState.DONE), row.reason
    assert models.KEY not in str(state.message)
    return row, [str(one.finding.evidence["reason"]) for one in found]


def test_a_memorised_key_is_found_in_both_ways_and_a_finding_counts_it(searching: App) -> None:
    row, reasons = run(searching, "taught")
    assert row.result is not None, row.reason
    assert models.KEY in {one.text for one in row.result.found}
    assert {one.label: one.is_taught for one in row.result.listed} == {"listed": True, "unknown": False}
    assert "ZXCV" not in str(row.result), "of the list only what the model knows is kept"
    [reason] = reasons
    assert "1 of 2 listed strings" in reason
    assert models.KEY not in reason
    clean, none = run(searching, "clean")
    assert clean.result is not None, clean.reason
    assert (clean.result.found, none) == ((), [])
    assert not any(one.is_taught for one in clean.result.listed)
