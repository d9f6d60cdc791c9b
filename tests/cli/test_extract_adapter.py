"""`deltadex extract-adapter` of registered models, and the finding that leads to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from peft import PeftModel

from deltadex.app import App
from deltadex.engine import shared
from deltadex.errors import UnsupportedCheckpoint
from deltadex.findings import queries as findings
from deltadex.ingest import discovery, embed, extract, record, resolve
from deltadex.types import FindingKind, VersionRow
from deltadex.versions import queries as versions
from tests import tiny_models
from tests.cli.test_main import deltadex
from tests.registering import register_folder

NAME = "acme/base-7b"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.build_base(tmp_path / "base")


@pytest.fixture
def own(app: App, base: Path) -> Iterator[App]:
    own = replace(app, settings=app.settings.model_copy(update={"bases": {NAME: str(base)}}))
    yield own
    shared.end_embedding_process(own.settings)


@pytest.fixture
def environment(own: App) -> dict[str, str]:
    return {
        "DELTADEX_DATABASE__URL": own.database.url,
        "DELTADEX_TRACKING_URI": str(own.settings.tracking_uri),
        "DELTADEX_PREFECT_API_URL": str(own.settings.prefect_api_url),
        "DELTADEX_REGISTRY": own.registry.name,
        "DELTADEX_DATA_DIR": str(own.settings.data_dir),
        "DELTADEX_BASES": json.dumps(own.settings.bases),
    }


def registered(app: App, name: str, folder: Path) -> VersionRow:
    version = register_folder(app.registry, name, folder, **{"deltadex.base": NAME})
    discovery.poll(app)
    with app.database.transaction() as tx:
        [row] = versions.find(tx, app.registry.name, name, version.ref.version)
    return row


def kinds_found(app: App, row: VersionRow) -> list[FindingKind]:
    """Embed a version as the flow does, and return the kinds of what is found about it."""
    with shared.embedding_process(app.settings) as process, resolve.workspace(app, row) as hold:
        resolved = resolve.resolve(app, process, row, hold)
        fetched = resolve.fetch(app, process, resolved, hold)
        value = embed.embed(process, fetched, deadline_seconds=120)
    record.store_and_find(app, [record.Embedded(row, value, NAME, "runs:/x", weights=fetched.weights)])
    with app.database.transaction() as tx:
        return [one.finding.kind for one in findings.listing(tx, app.registry.name, version_id=row.id)]


def test_a_merge_is_found_extracted_and_checked(
    own: App, base: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    adapter = tiny_models.build_adapter(base, tmp_path / "adapter", strength=0.5)
    whole = PeftModel.from_pretrained(tiny_models.load(base), adapter).merge_and_unload()
    whole.save_pretrained(tmp_path / "merged")
    merge = registered(own, "merge", tmp_path / "merged")
    assert FindingKind.SERVABLE_AS_ADAPTER in kinds_found(own, merge)
    full = registered(own, "full", tiny_models.build_full_finetune(base, tmp_path / "full"))
    assert FindingKind.SERVABLE_AS_ADAPTER not in kinds_found(own, full)
    lora = registered(own, "adapter", adapter)

    output = tmp_path / "extracted"
    done = deltadex("extract-adapter", "merge/1", "--output", str(output), "--json", **environment)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["name"], said["version"], said["base"], said["rank"]) == ("merge", 1, NAME, 4)
    assert (said["acts_alike"], said["agreement"], said["output"]) == (True, 1.0, str(output))
    assert said["similarity"] > 0.9999
    assert {file.name for file in output.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert PeftModel.from_pretrained(tiny_models.load(base), output).peft_config["default"].r == 4

    weak = deltadex("extract-adapter", "merge/1", "--output", str(tmp_path / "weak"), "--rank", "1", **environment)
    assert (weak.returncode, "nothing was written" in weak.stdout) == (4, True), weak.stderr
    assert not (tmp_path / "weak").exists()
    kept = extract.extract_adapter(own, merge, tmp_path / "weak", rank=1, keeps_any=True)
    assert not kept.acts_alike
    assert (tmp_path / "weak" / "adapter_model.safetensors").exists()
    assert not list(tmp_path.glob(".weak*"))

    for row, says in ((lora, "an adapter already"), (full, "cannot be served as an adapter")):
        with pytest.raises(UnsupportedCheckpoint, match=says):
            extract.extract_adapter(own, row, tmp_path / "none")
        assert not (tmp_path / "none").exists()
    taken = deltadex("extract-adapter", "merge/1", "--output", str(output), **environment)
    assert (taken.returncode, "--output" in taken.stderr) == (2, True)
