"""Pickled weights: the same embedding as from safetensors, and nothing that a pickle says is ever run."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from deltadex.checkpoints.inspect import inspect
from deltadex.downloads.cache import FolderCache
from deltadex.downloads.files import LocalFiles
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.plain_copies import plain_copy
from deltadex.errors import CheckpointError, Resource, Shortage, UnsupportedCheckpoint
from tests.language_models import Bases
from tests.plain_copies import plain, probe_deltas, stored
from tests.saved_checkpoints import LLAMA, adapter, deltas, local


def pickled(folder: Path, to: Path, save: Callable[[dict[str, torch.Tensor], Path], object] = torch.save) -> Path:
    """A copy of a checkpoint with its weights as they were saved until 2023."""
    shutil.copytree(folder, to)
    file = next(to.glob("*.safetensors"))
    name = {"model": "pytorch_model", "adapter_model": "adapter_model"}[file.stem]
    save(load_file(file), to / f"{name}.bin")
    file.unlink()
    return to


def in_two_files(tensors: dict[str, torch.Tensor], file: Path) -> None:
    names = sorted(tensors)
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        torch.save({name: tensors[name] for name in part}, file.with_name(f"{file.stem}-{number:05}-of-00002.bin"))


SAVED: dict[str, Callable[[dict[str, torch.Tensor], Path], object]] = {
    "as torch saves": torch.save,
    "as torch saved before 1.6": lambda tensors, file: torch.save(tensors, file, _use_new_zipfile_serialization=False),
    "ordered, with a step": lambda tensors, file: torch.save(OrderedDict([*tensors.items(), ("step", 7)]), file),
    "under state_dict": lambda tensors, file: torch.save({"epoch": 3, "state_dict": tensors}, file),
    "as parameters": lambda t, file: torch.save({n: torch.nn.Parameter(v) for n, v in t.items()}, file),
    "turned": lambda t, file: torch.save({n: v.T.contiguous().T if v.ndim == 2 else v for n, v in t.items()}, file),
    "in two files": in_two_files,
}


@pytest.mark.parametrize("save", SAVED.values(), ids=SAVED)
def test_a_pickled_model_gives_the_embedding_of_its_safetensors(
    save: Callable[[dict[str, torch.Tensor], Path], object], finetune: Path, bases: Bases, tmp_path: Path
) -> None:
    copy = plain(pickled(finetune, tmp_path / "pickled", save), tmp_path / "plain")
    assert copy.bits is None
    np.testing.assert_array_equal(probe_deltas(bases(LLAMA), copy), deltas(bases(LLAMA), finetune))


def test_a_pickled_adapter_gives_the_embedding_of_its_safetensors(bases: Bases, tmp_path: Path) -> None:
    saved = adapter(LLAMA, bases(LLAMA), tmp_path / "adapter")
    copy = plain(pickled(saved, tmp_path / "pickled"), tmp_path / "plain")
    np.testing.assert_array_equal(probe_deltas(bases(LLAMA), copy), probe_deltas(bases(LLAMA), local(saved)))


def test_without_the_setting_the_refusal_names_it_and_a_command_that_works(finetune: Path, tmp_path: Path) -> None:
    folder = pickled(finetune, tmp_path / "pickled")
    with pytest.raises(UnsupportedCheckpoint, match="never opened") as caught:
        inspect(LocalFiles(folder))
    assert "DELTADEX_EMBEDDING__READ_PICKLES" in caught.value.hint
    command = caught.value.hint.partition("each file: ")[2].partition(" — ")[0]
    path = f"{Path(os.sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", command], cwd=folder, env={**os.environ, "PATH": path}, check=True)
    assert stored(local(folder)).keys() == load_file(finetune / "model.safetensors").keys()


class Runs:
    """A pickle that calls a function when it is loaded."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def archive(description: bytes, *, compression: int = zipfile.ZIP_STORED, data: bytes = bytes(4)) -> bytes:
    """A file as torch writes it, with a description of our own."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as written:
        written.writestr("archive/data.pkl", description)
        written.writestr("archive/byteorder", b"little")
        written.writestr("archive/data/0", data)
        written.writestr("archive/version", b"3\n")
    return content.getvalue()


def tensor_of(shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """The description of one tensor over a storage of one float."""
    one = torch.zeros(1)
    saved = io.BytesIO()
    torch.save({"model.norm.weight": torch.as_strided(one, (1,), (1,))}, saved)
    with zipfile.ZipFile(saved) as written:
        name = next(entry for entry in written.namelist() if entry.endswith("data.pkl"))
        description = written.read(name)
    parts = b"".join(
        b"(" + b"".join(b"\x8a\x08" + number.to_bytes(8, "little") for number in numbers) + b"t"
        for numbers in (shape, stride)
    )
    found = description.find(b"K\x01\x85")
    end = description.find(b"K\x01\x85", found + 1)
    memo = description[found + 3 : end]
    assert found > 0 < end
    return description[:found] + parts[: len(parts) // 2] + memo + parts[len(parts) // 2 :] + description[end + 3 :]


def hostile(canary: Path) -> dict[str, bytes]:
    touch = str(canary)
    saved = io.BytesIO()
    torch.save({"model.norm.weight": torch.zeros(4), "more": Runs(os.mkdir, touch)}, saved)
    bomb = archive(b"\x80\x02" + b"N0" * (35 << 20) + b".", compression=zipfile.ZIP_DEFLATED)
    return {
        "mkdir": pickle.dumps(Runs(os.mkdir, touch)),
        "mkdir in an archive": saved.getvalue(),
        "exec": archive(pickle.dumps(Runs(exec, f"import os; os.mkdir({touch!r})"), protocol=2)),
        "eval": archive(pickle.dumps(Runs(eval, f"__import__('os').mkdir({touch!r})"), protocol=2)),
        "a function": archive(b"\x80\x02cos\nmkdir\n."),
        "import": archive(b"\x80\x02c__builtin__\n__import__\n(X\x02\x00\x00\x00ostR."),
        "torch.load": archive(b"\x80\x02ctorch.serialization\nload\n(X\x01\x00\x00\x00xtR."),
        "torch.hub": archive(b"\x80\x02ctorch.hub\nload\n(X\x01\x00\x00\x00xtR."),
        "build": archive(b"\x80\x02ccollections\nOrderedDict\n)\x81}(X\x05\x00\x00\x00itemsK\x01ub."),
        "persistent id": archive(b"\x80\x02X\x01\x00\x00\x00aQ."),
        "a huge tensor": archive(tensor_of((1 << 40,), (1,))),
        "a huge repeated tensor": archive(tensor_of((1 << 40,), (0,))),
        "a negative tensor": archive(tensor_of((-5 & (1 << 64) - 1,), (1,))),
        "a compressed description": bomb,
        "compressed data": archive(tensor_of((1,), (1,)), compression=zipfile.ZIP_DEFLATED),
        "a large description": archive(b"\x80\x02" + b"N0" * (40 << 20) + b"."),
        "deep": archive(b"\x80\x02" + b"]" * 1_000_000 + b"a" * 999_999 + b"."),
        "many strings": archive(b"\x80\x02]" + b"(X\x40\x00\x00\x00" + b"x" * 64 + b"t" * 1 + b"2" * 1_000_000 + b"."),
        "nothing": b"",
        "no pickle": b"\x89PNG" * 100,
        "a list": archive(b"\x80\x02]."),
        "no tensors": archive(b"\x80\x02}."),
        "cut short": saved.getvalue()[: len(saved.getvalue()) // 2],
        "an archive of nothing": archive(b""),
        "script": archive(b"\x80\x02}.").replace(b"archive/byteorder", b"archive/constants"),
    }


#: Those that ask for memory, which only the process bounds.
BOMBS = ("a huge tensor", "a huge repeated tensor", "a compressed description", "a large description", "deep")
NAMES = tuple(hostile(Path("unused")))


@pytest.fixture(scope="module")
def process() -> Iterator[EmbeddingProcess]:
    with EmbeddingProcess(memory_bytes=3 << 30) as process:
        yield process


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "canary"
    assert not (tmp_path / "canary").exists()


def with_pickle(name: str, finetune: Path, canary: Path) -> Path:
    folder = Path(shutil.copytree(finetune, canary.with_name("model")))
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(hostile(canary)[name])
    return folder


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BOMBS])
def test_a_hostile_pickle_ends_with_a_reason_and_runs_nothing(
    name: str, finetune: Path, canary: Path, tmp_path: Path
) -> None:
    folder = with_pickle(name, finetune, canary)
    with pytest.raises(CheckpointError) as caught:
        plain(folder, tmp_path / "plain")
    assert str(folder) in caught.value.message
    assert caught.value.hint
    assert not list((tmp_path / "plain").glob("*.safetensors"))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_with_a_reason_within_its_memory(
    name: str, process: EmbeddingProcess, finetune: Path, canary: Path, tmp_path: Path
) -> None:
    folder = with_pickle(name, finetune, canary)
    checkpoint = process.inspect(LocalFiles(folder), read_pickles=True).fetch()
    cache = FolderCache(tmp_path / "cache", max_bytes=1 << 30)
    with cache.holding() as hold, pytest.raises((CheckpointError, Shortage)) as caught:
        plain_copy(process, checkpoint, hold, deadline_seconds=120)
    assert str(folder) in caught.value.message
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    if isinstance(caught.value, Shortage):
        assert caught.value.resource is Resource.MEMORY
