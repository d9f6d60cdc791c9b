import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from deltadex.embeddings.artifact import MANIFEST, TENSORS, read_artifact, read_manifest, seal_fault, write_artifact
from deltadex.engine.probes import PUBLISHED
from deltadex.errors import EmbeddingError
from deltadex.types import Embedding, Recipe, Word, Words


@pytest.fixture
def embedding() -> Embedding:
    deltas = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    return Embedding(Recipe(PUBLISHED, "base", 16), deltas, 4.2, "weights")


def test_what_was_written_is_read_back_to_the_bit(embedding: Embedding, tmp_path: Path) -> None:
    write_artifact(embedding, tmp_path, manifest={})
    read = read_artifact(tmp_path)
    np.testing.assert_array_equal(read.probe_deltas, embedding.probe_deltas)
    assert (read.recipe, read.base_norm, read.weights_digest) == (embedding.recipe, 4.2, "weights")


@pytest.mark.parametrize("words", [None, Words(note="no head"), Words((Word("日本", 4.2),), (Word("the", -1.5),))])
def test_words_are_read_back_and_their_absence_too(embedding: Embedding, tmp_path: Path, words: Words | None) -> None:
    write_artifact(replace(embedding, words=words), tmp_path, manifest={})
    assert read_artifact(tmp_path).words == words


def test_the_files_hold_what_an_auditor_asks_for(embedding: Embedding, tmp_path: Path) -> None:
    write_artifact(embedding, tmp_path, manifest={"base_name": "acme/base-7b", "seconds": {"embed": 1.5}})
    tensors = load_file(tmp_path / TENSORS)
    np.testing.assert_array_equal(tensors["vector"], embedding.vector)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["recipe"]["digest"] == embedding.recipe.digest
    assert manifest["recipe"]["method"]["probe_digest"] == PUBLISHED.probe_digest
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


KEY = b"the key of the service, 32 bytes"


def sealed(embedding: Embedding, folder: Path, key: bytes | None = KEY) -> dict[str, Any]:
    fit = {"compared": 4, "largest": (("a", 0.25),), "none": None}
    write_artifact(embedding, folder, manifest={"model": "müller", "fit": fit, "seconds": {"embed": 1.5}}, key=key)
    return read_manifest(folder)


def test_a_seal_holds_for_the_key_that_made_it(embedding: Embedding, tmp_path: Path) -> None:
    manifest = sealed(embedding, tmp_path)
    assert seal_fault(manifest, KEY) == ""
    assert seal_fault(manifest, b"another key") == "it is sealed with another key"
    assert "DELTADEX_ARTIFACT_KEY" in seal_fault(manifest, None)
    assert KEY.hex() not in json.dumps(manifest)
    read_artifact(tmp_path)


def test_an_artifact_without_a_key_has_no_seal(embedding: Embedding, tmp_path: Path) -> None:
    assert seal_fault(sealed(embedding, tmp_path, key=None), KEY) == "it is not sealed"


def test_every_field_is_under_the_seal(embedding: Embedding, tmp_path: Path) -> None:
    manifest = sealed(embedding, tmp_path)
    for name in set(manifest) - {"seal"}:
        assert seal_fault({**manifest, name: "forged"}, KEY)
        assert seal_fault({key: value for key, value in manifest.items() if key != name}, KEY)
    assert seal_fault({**manifest, "more": 1}, KEY) == "it was changed after it was sealed"


@pytest.mark.parametrize("seal", [None, "x", 7, [], {}, {"key": 1, "hmac": None}, {"hmac": "é"}])
def test_no_other_seal_is_taken(embedding: Embedding, tmp_path: Path, seal: object) -> None:
    assert seal_fault({**sealed(embedding, tmp_path), "seal": seal}, KEY)
