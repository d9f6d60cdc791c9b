"""Plain copies in the cache: made once, nothing half, with limits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.cache import FolderCache, Hold
from deltadex.downloads.files import LocalFiles
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.conversion.methods import METHODS, Method, method_for
from deltadex.engine.plain_copies import plain_copy
from deltadex.errors import Resource, Shortage, UnsupportedCheckpoint
from tests.language_models import Bases
from tests.plain_copies import plain, probe_deltas
from tests.quantized_models import with_gguf, with_gptq
from tests.saved_checkpoints import LLAMA, edit, local

#: Returns the plain copy of a folder.
Make = Callable[..., LocalCheckpoint]


@pytest.fixture(scope="module")
def process() -> Iterator[EmbeddingProcess]:
    with EmbeddingProcess(memory_bytes=2 << 30) as process:
        yield process


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    with FolderCache(tmp_path / "cache", max_bytes=1 << 30).holding() as hold:
        yield hold


@pytest.fixture
def make(process: EmbeddingProcess, hold: Hold) -> Make:
    def made(folder: Path, **options: object) -> LocalCheckpoint:
        return plain_copy(process, local(folder), hold, **{"deadline_seconds": 120, **options})

    return made


@pytest.fixture
def quantized(finetune: Path, tmp_path: Path) -> Path:
    return with_gptq(finetune, tmp_path / "quantized")[0]


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix == ".safetensors" or path.name.startswith("unfinished")]


def test_a_copy_is_made_once_and_keeps_the_name_of_the_original(
    make: Make, quantized: Path, bases: Bases, tmp_path: Path
) -> None:
    copy = make(quantized)
    assert (copy.name, copy.bits, copy.packed_by) == (str(quantized), 4, None)
    assert copy.folder.is_relative_to(tmp_path / "cache")
    assert "quantization_config" not in copy.read_config()
    written = [file.stat().st_mtime_ns for file in copy.weight_files]
    assert make(quantized) == copy
    assert [file.stat().st_mtime_ns for file in copy.weight_files] == written
    expected = probe_deltas(bases(LLAMA), plain(quantized, tmp_path / "plain"))
    np.testing.assert_array_equal(probe_deltas(bases(LLAMA), copy), expected)


def test_changed_files_are_converted_again(make: Make, quantized: Path, finetune: Path, tmp_path: Path) -> None:
    before = make(quantized)
    with_gptq(finetune, tmp_path / "again", bits=8)
    for name in ("model.safetensors", "config.json"):
        (tmp_path / "again" / name).replace(quantized / name)
    after = make(quantized)
    assert (before.bits, after.bits) == (4, 8)
    assert before.folder != after.folder


def test_a_plain_checkpoint_is_not_copied(make: Make, finetune: Path, tmp_path: Path) -> None:
    assert make(finetune) == local(finetune)
    assert not list((tmp_path / "cache").glob("*"))


def test_a_quantization_left_over_in_a_config_makes_no_copy(make: Make, finetune: Path, tmp_path: Path) -> None:
    folder = with_gptq(finetune, tmp_path / "merged")[0]
    (finetune / "model.safetensors").replace(folder / "model.safetensors")
    try:
        assert make(folder).weight_files == local(folder).weight_files
    finally:
        (folder / "model.safetensors").replace(finetune / "model.safetensors")
    assert not files_of(tmp_path / "cache")


def test_a_finetune_and_its_copy_share_an_entry(make: Make, hold: Hold, quantized: Path) -> None:
    entry = hold("finetune")
    assert make(quantized, key="finetune").folder.parent == entry.folder.parent


def test_a_copy_that_the_cache_cannot_hold_waits_for_a_larger_one(
    process: EmbeddingProcess, quantized: Path, tmp_path: Path
) -> None:
    with FolderCache(tmp_path / "small", max_bytes=10_000).holding() as hold, pytest.raises(Shortage) as caught:
        plain_copy(process, local(quantized), hold, deadline_seconds=120)
    assert caught.value.resource is Resource.DISK
    assert not files_of(tmp_path / "small")


def test_a_copy_that_takes_too_long_is_killed_and_leaves_nothing(make: Make, quantized: Path, tmp_path: Path) -> None:
    with pytest.raises(Shortage, match="took longer than 0 s") as caught:
        make(quantized, deadline_seconds=0)
    assert caught.value.resource is Resource.TIME
    assert not files_of(tmp_path / "cache")
    assert make(quantized).bits == 4


_WORKER = """
import sys
from pathlib import Path
from deltadex.checkpoints.inspect import inspect
from deltadex.downloads.cache import FolderCache
from deltadex.downloads.files import LocalFiles
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.plain_copies import plain_copy
folder, cache = map(Path, sys.argv[1:])
with EmbeddingProcess() as process, FolderCache(cache, max_bytes=1 << 30).holding() as hold:
    plain_copy(process, inspect(LocalFiles(folder)).fetch(), hold, deadline_seconds=120)
"""


def test_a_worker_that_was_killed_leaves_nothing_half(make: Make, quantized: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    worker = subprocess.Popen([sys.executable, "-c", _WORKER, str(quantized), str(cache)])
    deadline = time.monotonic() + 120
    while not list(cache.rglob("unfinished-*")) and worker.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert all((folder / "conversion.json").is_file() for folder in cache.rglob("plain-*"))
    assert make(quantized).bits == 4
    assert not list(cache.rglob("unfinished-*"))


def test_a_missing_package_is_named(finetune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = with_gguf(finetune, tmp_path / "quantized", "Q8_0")
    absent = Method("gguf", "a_package_that_nobody_has", "deltadex[embed]")
    monkeypatch.setitem(METHODS, "gguf", absent)
    with pytest.raises(UnsupportedCheckpoint, match="a_package_that_nobody_has") as caught:
        method_for(inspect(LocalFiles(folder)).fetch())
    assert "deltadex[embed]" in caught.value.hint


def test_a_method_that_nothing_here_reads_is_no_conversion(finetune: Path, tmp_path: Path) -> None:
    folder, _ = with_gptq(finetune, tmp_path / "quantized")
    config = json.loads((folder / "config.json").read_text())
    edit(folder, quantization_config={**config["quantization_config"], "quant_method": "hqq"})
    assert method_for(local(folder)) is None
