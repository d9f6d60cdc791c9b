import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deltadex.checkpoints.tensors import read_tensors
from deltadex.errors import BrokenCheckpoint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.int64)}, file)
    return file


def test_names_shapes_and_types_are_those_that_were_saved(file: Path) -> None:
    tensors = read_tensors([file])
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("I64", (4,)),
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_of_every_width_are_read_as_torch_reads_them(tmp_path: Path, dtype: torch.dtype) -> None:
    saved = torch.linspace(-3, 1000, 60).reshape(3, 20).to(dtype)
    save_file({"w": saved}, tmp_path / "w.safetensors")
    read = read_tensors([tmp_path / "w.safetensors"])["w"].floats(50)
    np.testing.assert_array_equal(read, saved.float().flatten()[:50].numpy())


def test_integers_are_not_read_as_floats(file: Path) -> None:
    with pytest.raises(ValueError, match="I64"):
        read_tensors([file])["b"].floats(1)


def test_pieces_are_the_bytes_that_were_saved(tmp_path: Path) -> None:
    saved = torch.arange(700_000, dtype=torch.float32)
    save_file({"first": torch.ones(3), "w": saved}, tmp_path / "w.safetensors")
    pieces = list(read_tensors([tmp_path / "w.safetensors"])["w"].pieces())
    assert len(pieces) == 3
    assert b"".join(pieces) == saved.numpy().tobytes()


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_a_truncated_file_is_named_with_its_real_size(file: Path, kept: int) -> None:
    content = file.read_bytes()[:kept]
    file.write_bytes(content)
    with pytest.raises(BrokenCheckpoint, match=rf"model\.safetensors.*{len(content)}") as caught:
        read_tensors([file])
    assert caught.value.hint


def test_a_file_cut_in_its_tensors_is_reported_with_expected_and_real_size(file: Path) -> None:
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(BrokenCheckpoint, match=f"should have {size} bytes and has {size - 7}"):
        read_tensors([file])


def test_a_file_with_more_than_its_tensors_is_broken(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(BrokenCheckpoint, match="should have"):
        read_tensors([file])


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b"[" * 50_000,
        json.dumps({"a": 1}).encode(),
        json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}).encode(),
        json.dumps({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}).encode(),
        json.dumps({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}).encode(),
        json.dumps({"a": {"dtype": "F32", "shape": "1", "data_offsets": [0]}}).encode(),
    ],
)
def test_an_invalid_header_is_broken(tmp_path: Path, header: bytes) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
    with pytest.raises(BrokenCheckpoint, match=r"x\.safetensors"):
        read_tensors([file])


def test_a_pickle_under_another_name_is_broken(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    torch.save({"a": torch.ones(3)}, file)
    with pytest.raises(BrokenCheckpoint, match="is not a safetensors file"):
        read_tensors([file])


def test_a_tensor_in_two_files_is_broken(file: Path, tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BrokenCheckpoint, match=r"contains a, as model\.safetensors does"):
        read_tensors([file, tmp_path / "other.safetensors"])


@pytest.mark.parametrize("offsets", [[0, 4], [8, 12]], ids=["overlap", "gap"])
def test_tensors_that_overlap_or_leave_gaps_are_broken(tmp_path: Path, offsets: list[int]) -> None:
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"a": one, "b": {**one, "data_offsets": offsets}}).encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(offsets[1]))
    with pytest.raises(BrokenCheckpoint, match="gap or an overlap"):
        read_tensors([file])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu])
def test_eighth_precision_floats_are_read_as_bytes(tmp_path: Path, dtype: torch.dtype) -> None:
    saved = torch.ones(4, 4).to(dtype)
    save_file({"w": saved}, tmp_path / "w.safetensors")
    tensor = read_tensors([tmp_path / "w.safetensors"])["w"]
    assert b"".join(tensor.pieces()) == saved.view(torch.uint8).numpy().tobytes()
    assert not tensor.is_float
