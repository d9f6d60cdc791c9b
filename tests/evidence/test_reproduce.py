"""The embedding of a pack is read within bounds: who made the pack may not choose what counts as the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deltadex.errors import EvidenceError
from deltadex.evidence.embedding import FORMAT
from deltadex.evidence.pack import FORMAT as PACK_FORMAT
from deltadex.evidence.reproduce import packed_embedding


def pack(folder: Path, **values: object) -> Path:
    recipe = {"dimension": 2, "digest": "d", "method": {"name": "m", "probe_digest": "p", "dtype": "float32"}}
    latest = {"recipe": recipe, "vector": [1.0, 2.0], "noise_floor": 1e-4, **values}
    told = {"format": FORMAT, "model": "a", "version": 1, "weights_digest": "w", "embeddings": [latest]}
    (folder / "pack.json").write_text(json.dumps({"format": PACK_FORMAT}))
    (folder / "embedding.json").write_text(json.dumps(told))
    return folder


def test_the_latest_embedding_is_read(tmp_path: Path) -> None:
    read = packed_embedding(pack(tmp_path))
    assert (read.label, read.vector.tolist(), read.noise_floor) == ("a/1", [1.0, 2.0], 1e-4)
    assert packed_embedding(pack(tmp_path, noise_floor=None)).noise_floor is None


@pytest.mark.parametrize(
    "values",
    [
        {"noise_floor": float("inf")}, {"noise_floor": float("nan")}, {"noise_floor": 1.0}, {"noise_floor": -1.0},
        {"vector": [1.0, float("nan")]}, {"vector": [1.0]},
    ],
)  # fmt: skip
def test_a_noise_that_would_allow_any_vector_is_refused(tmp_path: Path, values: dict[str, object]) -> None:
    with pytest.raises(EvidenceError, match=r"embedding\.json can't be read"):
        packed_embedding(pack(tmp_path, **values))
