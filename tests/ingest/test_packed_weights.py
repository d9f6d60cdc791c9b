"""Registered finetunes with quantized or pickled weights, from the registry to their findings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from deltadex.app import App
from deltadex.engine.client import EmbeddingProcess
from deltadex.errors import UnsupportedCheckpoint
from deltadex.findings import queries as findings
from deltadex.ingest import discovery, embed, record, resolve
from deltadex.lineage import sketch_queries as sketches
from deltadex.types import Embedding, FindingKind, VersionRow
from deltadex.versions import queries as versions
from tests import tiny_models
from tests.quantized_models import with_gguf, with_gptq
from tests.registering import register_folder

NAME = "acme/base-7b"


@pytest.fixture(scope="module")
def process() -> Iterator[EmbeddingProcess]:
    with EmbeddingProcess(threads=1) as process:
        yield process


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.build_base(tmp_path / "base")


@pytest.fixture
def finetune(base: Path, tmp_path: Path) -> Path:
    return tiny_models.build_full_finetune(base, tmp_path / "finetune", seed=1)


@pytest.fixture
def own(app: App, base: Path) -> App:
    embedding = app.settings.embedding.model_copy(update={"read_pickles": True})
    settings = app.settings.model_copy(update={"bases": {NAME: str(base)}, "embedding": embedding})
    return replace(app, settings=settings)


def register(app: App, name: str, folder: Path) -> VersionRow:
    version = register_folder(app.registry, name, folder, **{"deltadex.base": NAME})
    discovery.poll(app)
    with app.database.transaction() as tx:
        [row] = versions.find(tx, app.registry.name, name, version.ref.version)
    return row


def embedded(app: App, process: EmbeddingProcess, row: VersionRow, *, weights: Path) -> Embedding:
    with resolve.workspace(app, row) as hold:
        resolved = resolve.resolve(app, process, row, hold)
        fetched = resolve.fetch(app, process, resolved, hold)
        assert fetched.weights_bytes == weights.stat().st_size
        assert fetched.finetune.checkpoint.name == resolved.checkpoint.files.where
        value = embed.embed(process, fetched, deadline_seconds=120)
    uri = embed.write_back(app, row.registered, value, base_name=NAME, fit=fetched.fit, seconds={})
    record.store_and_find(app, [record.Embedded(row, value, NAME, uri, weights=fetched.weights)])
    with app.database.transaction() as tx:
        assert sketches.of_versions(tx, [row.id]).keys() == {row.id}
    assert not list((app.settings.cache_dir / "folders").rglob("*.safetensors"))
    return value


def test_a_quantized_copy_of_a_registered_model_is_the_same_model(
    own: App, process: EmbeddingProcess, finetune: Path, tmp_path: Path
) -> None:
    quantized = with_gguf(finetune, tmp_path / "quantized", "Q4_0")
    original = embedded(own, process, register(own, "support", finetune), weights=finetune / "model.safetensors")
    copy = embedded(own, process, register(own, "support", quantized), weights=quantized / "model-Q4_0.gguf")
    assert copy.recipe == original.recipe
    assert copy.weights_digest != original.weights_digest
    with own.database.transaction() as tx:
        found = findings.listing(tx, own.registry.name)
    assert [row.finding.kind for row in found] == [FindingKind.EXACT_DUPLICATE]
    evidence = found[0].finding.evidence
    assert "the same model, quantized to 4.5 bits" in str(evidence["reason"])
    assert 0.01 < float(str(evidence["relative_error"])) < 0.2


def test_a_pickled_finetune_has_the_embedding_of_its_safetensors(
    own: App, app: App, process: EmbeddingProcess, finetune: Path, tmp_path: Path
) -> None:
    plain = embedded(own, process, register(own, "plain", finetune), weights=finetune / "model.safetensors")
    pickled = tmp_path / "pickled"
    finetune.rename(pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    row = register(own, "pickled", pickled)
    value = embedded(own, process, row, weights=pickled / "pytorch_model.bin")
    np.testing.assert_array_equal(value.vector, plain.vector)
    assert value.weights_digest == plain.weights_digest
    closed = replace(app, settings=app.settings.model_copy(update={"bases": own.settings.bases}))
    with resolve.workspace(closed, row) as hold, pytest.raises(UnsupportedCheckpoint, match="never opened"):
        resolve.resolve(closed, process, row, hold)


def test_a_quantized_base_is_made_plain_once_and_stays(
    app: App, process: EmbeddingProcess, base: Path, tmp_path: Path
) -> None:
    quantized, _ = with_gptq(base, tmp_path / "quantized")
    app = replace(app, settings=app.settings.model_copy(update={"bases": {NAME: str(quantized)}}))
    tiny_models.build_adapter(base, tmp_path / "adapter")
    row = register(app, "adapter", tmp_path / "adapter")
    written = []
    for _ in range(2):
        with resolve.workspace(app, row) as hold:
            fetched = resolve.fetch(app, process, resolve.resolve(app, process, row, hold), hold)
            assert fetched.fit.modules == 4
        written.append([file.stat().st_mtime_ns for file in app.settings.cache_dir.rglob("model.safetensors")])
    assert written[0] == written[1] != []
