"""The flow `write-evidence-packs` on real services."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from prefect.settings import temporary_settings

from deltadex.access import system_user
from deltadex.app import App
from deltadex.evidence.signing import key_file, write_new_key
from deltadex.evidence.verify import verify_pack
from deltadex_flows.evidence import write_evidence_packs
from deltadex_flows.scheduler import prefect_settings
from tests.stored import embedded


@pytest.fixture
def house(app: App, monkeypatch: pytest.MonkeyPatch) -> App:
    """Services with three versions, two of them in use."""
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(app.settings.data_dir))
    monkeypatch.setenv("DELTADEX_TRACKING_URI", app.settings.mlflow_uri)
    monkeypatch.setenv("DELTADEX_PREFECT_API_URL", app.settings.prefect_url)
    monkeypatch.setenv("DELTADEX_DATABASE__URL", app.settings.database_url)
    monkeypatch.setenv("DELTADEX_REGISTRY", app.registry.name)
    vectors = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    with app.database.transaction() as tx:
        for name, vector, aliases in zip(
            ("sql-writer", "drafter", "idle"), vectors, (["champion"], ["champion"], []), strict=True
        ):
            embedded(tx, name, vector, aliases=tuple(aliases), registry=app.registry.name)
    return app


def outcome(app: App, **given: str) -> str:
    with temporary_settings(prefect_settings(app.settings)):
        state = write_evidence_packs(return_state=True, **given)
    assert state.is_completed() == str(state.message).startswith("packs written to ")
    return str(state.message)


def test_all_versions_with_an_alias_get_packs_that_verify(house: App) -> None:
    assert "no key that signs" in outcome(house)
    public = write_new_key(key_file(house.settings))
    folder = Path(outcome(house).removeprefix("packs written to ").removesuffix(": 2"))
    assert folder.parent == house.settings.data_dir / "packs"
    assert folder.stat().st_mode & 0o077 == 0
    packs = sorted(folder.iterdir())
    assert [each.name for each in packs] == ["evidence-drafter-1.zip", "evidence-sql-writer-1.zip"]
    assert all(not check.is_failed for pack in packs for check in verify_pack(pack, public_key=public))
    assert "has the alias elsewhere" in outcome(house, alias="elsewhere")


def test_the_workers_user_needs_a_role(house: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_new_key(key_file(house.settings))
    people = tmp_path / "people.toml"
    people.write_text('[people.ann]\nrole = "admin"\n')
    monkeypatch.setenv("DELTADEX_ACCESS__FILE", str(people))
    assert "has no role here" in outcome(house)
    people.write_text(f'[people."{system_user()}"]\nrole = "viewer"\nmodels = ["sql-*"]\n')
    monkeypatch.setenv("DELTADEX_EVIDENCE__PSEUDONYM_KEY", "k" * 32)
    assert outcome(house).endswith(": 1")
