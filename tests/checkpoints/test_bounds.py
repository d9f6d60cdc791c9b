"""Small files that would take much time or memory to read: each ends at once, with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deltadex.checkpoints.inspect import inspect
from deltadex.checkpoints.tensor_names import by_common_name
from deltadex.checkpoints.tensors import read_tensors
from deltadex.downloads.files import LocalFiles
from deltadex.errors import BrokenCheckpoint, CheckpointError

MERGES = "a: &a {x: 1}\nb: {<<: [*a, *a]}\n"
ALIASES = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(("bomb", "reason"), [(MERGES, "merged mappings"), (ALIASES, "more than 32 aliases")])
def test_yaml_that_expands_is_not_read(tmp_path: Path, bomb: str, reason: str) -> None:
    (tmp_path / "MLmodel").write_text(f"{bomb}flavors: {{transformers: {{model_binary: model}}}}\n")
    with pytest.raises(BrokenCheckpoint, match=reason):
        inspect(LocalFiles(tmp_path))


def test_a_few_aliases_are_read_but_only_text_counts(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(
        "a: &a [x]\nb: &b [*a, *a]\nflavors: {transformers: {model_binary: *b, source_model_name: *b}}\n"
    )
    with pytest.raises(CheckpointError, match="logged without its weights"):
        inspect(LocalFiles(tmp_path))


def test_a_config_of_an_unlikely_size_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(20 << 20)
    with pytest.raises(BrokenCheckpoint, match="too large"):
        inspect(LocalFiles(tmp_path))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("model." * 1_000_000 + "weight", [1]), ("w", [10**4000]), ("w", [10**20, 0]), ("w", [1] * 100_000), ("w", [-1])],
    ids=["a long name", "a long axis", "an axis beyond memory", "many axes", "a negative axis"],
)
def test_headers_that_no_model_has_are_broken(tmp_path: Path, name: str, shape: list[int]) -> None:
    header = json.dumps({name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(BrokenCheckpoint, match="invalid header"):
        read_tensors([tmp_path / "model.safetensors"])


def test_thousands_of_prefixes_are_compared_in_bounded_time() -> None:
    ours = [f"prefix{number}.{'x' * 400}.weight" for number in range(12_000)]
    one, other = by_common_name(ours, [f"bert.{'x' * 400}.weight"])
    assert len(one) == 12_000
    assert len(other) == 1
