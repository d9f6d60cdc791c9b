"""The embedding flow on real services: good versions are embedded, bad ones end in a state with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from prefect.settings import temporary_settings

from deltadex.app import App
from deltadex.embeddings import imprints, promoted_tokens
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.artifact import read_artifact
from deltadex.findings import queries as findings
from deltadex.ingest import discovery
from deltadex.lineage import sketch_queries as sketches
from deltadex.types import FindingKind, State, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from deltadex_flows.embed import embed_model_version
from deltadex_flows.scheduler import prefect_settings
from tests import tiny_models
from tests.flow_pages import latest_page
from tests.registering import register_folder
from tests.stored import ADMIN

Run = Callable[..., tuple[VersionRow, Any]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def run(app: App, base: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Register a folder, let discovery find it, run the flow here, and return the row and the flow's final state."""
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(app.settings.data_dir))
    monkeypatch.setenv("DELTADEX_TRACKING_URI", app.settings.mlflow_uri)
    monkeypatch.setenv("DELTADEX_PREFECT_API_URL", app.settings.prefect_url)
    monkeypatch.setenv("DELTADEX_DATABASE__URL", app.settings.database_url)
    monkeypatch.setenv("DELTADEX_REGISTRY", app.registry.name)
    monkeypatch.setenv("DELTADEX_DASHBOARD_URL", "https://deltadex.example")
    monkeypatch.setenv("DELTADEX_WATCH__UPLOAD_SECONDS", "0")  # what is incomplete stays so
    monkeypatch.setenv("DELTADEX_BASES", json.dumps({"acme/base": str(base)}))

    def embed(name: str, folder: Path, **tags: str) -> tuple[VersionRow, Any]:
        version = register_folder(app.registry, name, folder, **tags)
        discovery.poll(app)
        with app.database.transaction() as tx:
            [row] = versions.find(tx, app.registry.name, name, version.ref.version)
        with temporary_settings(prefect_settings(app.settings)):
            state = embed_model_version(row.id, row.attempt, return_state=True)
        with app.database.transaction() as tx:
            return versions.get(tx, row.id), state

    return embed


def adapter(base: Path, folder: Path, **options: Any) -> Path:
    """A LoRA adapter that declares `acme/base`."""
    tiny_models.build_adapter(base, folder, **options)
    return declare(folder, "acme/base")


def declare(folder: Path, name: str) -> Path:
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": name}))
    return folder


def kinds(app: App, row: VersionRow) -> set[FindingKind]:
    with app.database.transaction() as tx:
        listed = findings.listing(tx, app.registry.name, version_id=row.id)
    return {found.finding.kind for found in listed}


def test_a_version_is_embedded_written_back_and_compared(app: App, base: Path, run: Run, tmp_path: Path) -> None:
    first, state = run("sql-writer", adapter(base, tmp_path / "a"))
    assert state.is_completed()
    assert first.state is State.EMBEDDED
    with app.database.transaction() as tx:
        [stored] = embeddings.of_version(tx, first.id)
        [said] = promoted_tokens.of_version(tx, ADMIN, first.id)
        assert imprints.of_versions(tx, stored.recipe.id, [first.id]).keys() == {first.id}
        assert sketches.of_versions(tx, [first.id]).keys() == {first.id}

    version = app.registry.read("sql-writer", 1)
    assert version is not None
    assert version.tags["deltadex.state"] == "embedded"
    path = version.tags["deltadex.artifact"].split("/artifacts/")[1]
    folder = app.registry.client.download_artifacts(version.run_id or "", path, str(tmp_path))
    np.testing.assert_array_equal(read_artifact(Path(folder)).vector, stored.vector)
    assert said.words is not None
    assert len(said.words.promoted) > 10
    assert read_artifact(Path(folder)).words == said.words
    manifest = json.loads((Path(folder) / "manifest.json").read_text())
    assert manifest["recipe"]["digest"] == stored.recipe.digest
    link = "<https://deltadex.example/model?model=sql-writer&version=1>"
    assert link in (Path(folder) / "summary.md").read_text()
    assert link in latest_page(app.settings, "deltadex-embedding")

    copy, _ = run("team-b-sql", tmp_path / "a")
    assert kinds(app, copy) == {FindingKind.EXACT_DUPLICATE}
    drifted, _ = run("sql-writer", adapter(base, tmp_path / "b", seed=9))
    assert kinds(app, drifted) == {FindingKind.DRIFT}
    assert not (app.settings.cache_dir / "versions" / str(first.id)).exists()


def test_a_merge_of_a_registered_adapter_is_found_to_be_the_same(
    app: App, base: Path, run: Run, tmp_path: Path
) -> None:
    lora = adapter(base, tmp_path / "adapter")
    whole = PeftModel.from_pretrained(tiny_models.load(base), lora).merge_and_unload()
    whole.to(torch.bfloat16).save_pretrained(tmp_path / "merged")
    tiny_models.build_tokenizer().save_pretrained(tmp_path / "merged")
    one, _ = run("adapter", lora)
    other, _ = run("served", tmp_path / "merged", **{"deltadex.base": "acme/base"})
    with app.database.transaction() as tx:
        [found] = findings.listing(tx, app.registry.name, kinds=[FindingKind.EXACT_DUPLICATE])
    assert {found.version.id, found.other and found.other.id} == {one.id, other.id}
    assert one.weights_digest != other.weights_digest
    assert "an adapter and its merge in bfloat16" in str(found.finding.evidence["reason"])


def test_running_an_attempt_again_ends_the_same(app: App, base: Path, run: Run, tmp_path: Path) -> None:
    row, _ = run("one", adapter(base, tmp_path / "a"))
    with app.database.transaction() as tx:
        before = embeddings.of_version(tx, row.id)
        attempt = transitions.requeue(tx, row.id, reason="again")
    with temporary_settings(prefect_settings(app.settings)):
        assert embed_model_version(row.id, attempt - 1, return_state=True).is_completed()
        assert embed_model_version(row.id, attempt, return_state=True).is_completed()
    with app.database.transaction() as tx:
        after = embeddings.of_version(tx, row.id)
        assert versions.get(tx, row.id).state is State.EMBEDDED
    np.testing.assert_array_equal(before[0].vector, after[0].vector)
    assert len(after) == 1


def pickle_only(base: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text((base / "config.json").read_text())
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04never loaded")
    return folder


def truncated(base: Path, folder: Path) -> Path:
    weights = adapter(base, folder) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return folder


def not_a_model(_base: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "readme.txt").write_text("nothing here")
    return folder


def unknown_base(base: Path, folder: Path) -> Path:
    return declare(tiny_models.build_adapter(base, folder), "somebody/else-7b")


def wrong_shape(_base: Path, folder: Path) -> Path:
    wide = tiny_models.build_base(folder.with_name("wide"), config=tiny_models.llama_config(hidden_size=64))
    return adapter(wide, folder)


@pytest.mark.parametrize(
    ("make", "state", "reason", "ends_red"),
    [
        (pickle_only, State.UNSUPPORTED, "never", False),
        (truncated, State.FAILED, "adapter_model.safetensors", True),
        (not_a_model, State.SKIPPED, "", False),
        (unknown_base, State.UNSUPPORTED, "somebody/else-7b", False),
        (wrong_shape, State.UNSUPPORTED, "acme/base", False),
    ],
)
def test_bad_input_ends_in_a_visible_state_with_its_reason(
    app: App, base: Path, run: Run, tmp_path: Path, make: Any, state: State, reason: str, ends_red: bool
) -> None:
    row, final = run("bad", make(base, tmp_path / "model"))
    assert row.state is state
    assert reason in row.reason
    assert row.hint
    assert final.is_failed() == ends_red
    tagged = app.registry.read("bad", 1)
    assert tagged is not None
    assert tagged.tags["deltadex.state"] == state.value
    assert (kinds(app, row) == {FindingKind.WRONG_BASE}) == (make is wrong_shape)


def test_a_resized_vocabulary_is_embedded(app: App, base: Path, run: Run, tmp_path: Path) -> None:
    folder = tiny_models.build_full_finetune(base, tmp_path / "full", vocabulary=tiny_models.VOCABULARY + 8)
    row, _ = run("bigger", folder, **{"deltadex.base": "acme/base"})
    assert row.state is State.EMBEDDED, row.reason
