import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from deltadex.activations.artifact import MANIFEST, TENSORS, read_artifact, write_artifact
from deltadex.domain import Embedding, Recipe, Word, Words
from deltadex.errors import EmbeddingError
from deltadex.probes import DELTA_ACTIVATION


@pytest.fixture
def embedding() -> Embedding:
    deltas = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    return Embedding(Recipe(DELTA_ACTIVATION, "base", 16), deltas, 4.2, "weights")


def test_what_was_written_is_read_back_to_the_bit(embedding: Embedding, tmp_path: Path) -> None:
    write_artifact(embedding, tmp_path, manifest={})
    read = read_artifact(tmp_path)
    np.testing.assert_array_equal(read.probe_deltas, embedding.probe_deltas)
    assert (read.recipe, read.base_norm, read.weights_digest) == (embedding.recipe, 4.2, "weights")


@pytest.mark.parametrize("said", [None, Words(note="no head"), Words((Word("日本", 4.2),), (Word("the", -1.5),))])
def test_words_are_read_back_and_their_absence_too(embedding: Embedding, tmp_path: Path, said: Words | None) -> None:
    write_artifact(replace(embedding, words=said), tmp_path, manifest={})
    assert read_artifact(tmp_path).words == said


def test_the_files_hold_what_an_auditor_asks_for(embedding: Embedding, tmp_path: Path) -> None:
    write_artifact(embedding, tmp_path, manifest={"base_name": "acme/base-7b", "seconds": {"embed": 1.5}})
    tensors = load_file(tmp_path / TENSORS)
    np.testing.assert_array_equal(tensors["vector"], embedding.vector)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["recipe"]["digest"] == embedding.recipe.digest
    assert manifest["recipe"]["method"]["probe_digest"] == DELTA_ACTIVATION.probe_digest
    assert manifest["base_name"] == "acme/base-7b"
    assert manifest["strength"] == embedding.strength
    assert {"torch", "transformers", "peft", "deltadex"} <= manifest["versions"].keys()


def test_the_caller_cannot_replace_a_measured_field(embedding: Embedding, tmp_path: Path) -> None:
    write_artifact(embedding, tmp_path, manifest={"weights_digest": "forged"})
    assert json.loads((tmp_path / MANIFEST).read_text())["weights_digest"] == "weights"


def lose_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def truncate(folder: Path) -> None:
    (folder / TENSORS).write_bytes((folder / TENSORS).read_bytes()[:-9])


def alter_recipe(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["recipe"]["base_digest"] = "another"
    (folder / MANIFEST).write_text(json.dumps(manifest))


def exchange_tensors(folder: Path) -> None:
    save_file({"probe_deltas": np.zeros((5, 8), np.float32)}, folder / TENSORS)


def alter_a_number(folder: Path) -> None:
    content = bytearray((folder / TENSORS).read_bytes())
    content[-1] ^= 1
    (folder / TENSORS).write_bytes(content)


@pytest.mark.parametrize("damage", [alter_a_number, lose_manifest, truncate, alter_recipe, exchange_tensors])
def test_damaged_artifacts_are_not_read(embedding: Embedding, tmp_path: Path, damage) -> None:
    write_artifact(embedding, tmp_path, manifest={})
    damage(tmp_path)
    with pytest.raises(EmbeddingError) as caught:
        read_artifact(tmp_path)
    assert caught.value.hint
