import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from deltadex.checkpoints.tensors import StoredTensor, read_tensors
from deltadex.engine.weights.mapped import MappedFiles

PAGE = os.sysconf("SC_PAGESIZE")
NAMES = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32",
    "float64", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "complex64",
)  # fmt: skip


def random(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """A tensor of random bits in any dtype."""
    bits = torch.randint(0, 2 if dtype is torch.bool else 256, (*shape, dtype.itemsize), dtype=torch.uint8)
    return bits.view(dtype).squeeze(-1)


def assert_same_bits(one: torch.Tensor, other: torch.Tensor) -> None:
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    assert torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def stored_in(file: Path, tensors: dict[str, torch.Tensor], *, moved_by: int = 0) -> dict[str, StoredTensor]:
    """Save tensors; `moved_by` pads the header so that they are unaligned, as with safetensors before 0.3."""
    save_file(tensors, file)
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length] + b" " * moved_by
    file.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    return read_tensors([file])


def held_bytes(file: Path, what: str = "Rss") -> int:
    """Bytes of a file that are resident in this process."""
    inside, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            inside = line.endswith(str(file))
        elif inside and line.startswith(f"{what}:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.parametrize("moved_by", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_every_dtype_is_read_to_the_bit_wherever_it_lies(name: str, moved_by: int, tmp_path: Path) -> None:
    dtype = getattr(torch, name)
    tensors = {"a": random(dtype, 3, 5), "b": random(dtype, 7)}
    files = MappedFiles()
    for key, stored in stored_in(tmp_path / "w.safetensors", tensors, moved_by=moved_by).items():
        assert_same_bits(files.tensor(stored), tensors[key])


@pytest.mark.parametrize("name", ["float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_the_other_kind_of_float8_is_read_to_the_bit(name: str, tmp_path: Path) -> None:
    tensor = random(getattr(torch, name), 4, 8)
    (stored,) = stored_in(tmp_path / "w.safetensors", {"a": tensor}).values()
    assert_same_bits(MappedFiles().tensor(stored), tensor)


def test_scalars_and_tensors_of_nothing_are_read(tmp_path: Path) -> None:
    tensors = {"scalar": torch.tensor(2.5), "nothing": torch.empty(0, 3), "last": torch.empty(0)}
    files = MappedFiles()
    stored = stored_in(tmp_path / "w.safetensors", tensors)
    for key, tensor in tensors.items():
        assert_same_bits(files.tensor(stored[key]), tensor)
    files.will_need(stored.values())
    files.release(stored.values())


def test_a_tensor_is_a_view_into_its_file_and_no_copy(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    stored = stored_in(file, {"a": random(torch.float32, 1000, 100), "b": random(torch.bfloat16, 3000)})
    files = MappedFiles()
    one, again, other = (files.tensor(stored[name]) for name in ("a", "a", "b"))
    assert one.data_ptr() == again.data_ptr()
    assert one.data_ptr() - other.data_ptr() == stored["a"].start - stored["b"].start
    assert one.untyped_storage().nbytes() == file.stat().st_size
    one.sum()
    assert held_bytes(file) >= one.nbytes
    assert held_bytes(file, "Anonymous") == 0


def test_a_misaligned_tensor_is_copied_alone(tmp_path: Path) -> None:
    stored = stored_in(
        tmp_path / "w.safetensors", {"a": random(torch.float32, 8), "b": random(torch.uint8, 8)}, moved_by=1
    )
    files = MappedFiles()
    assert stored["a"].start % 4
    assert files.tensor(stored["a"]).data_ptr() % 4 == 0
    assert files.tensor(stored["a"]).untyped_storage().nbytes() == 32
    assert files.tensor(stored["b"]).untyped_storage().nbytes() > 32


def test_what_is_released_leaves_memory_and_its_neighbours_stay(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    tensors = {name: random(torch.float32, 64, PAGE // 4) for name in "abc"}
    stored, files = stored_in(file, tensors), MappedFiles()
    for one in stored.values():
        files.tensor(one).sum()
    whole = held_bytes(file)
    files.release([stored["b"]])
    assert whole - 64 * PAGE <= held_bytes(file) <= whole - 63 * PAGE
    for name, tensor in tensors.items():
        assert_same_bits(files.tensor(stored[name]), tensor)


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(0, 3 * PAGE), min_size=1, max_size=6),
    moved_by=st.integers(0, 7),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=12),
)
def test_read_ahead_and_release_change_no_content(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], moved_by: int, steps: list[tuple[bool, int]]
) -> None:
    tensors = {str(number): random(torch.uint8, size) for number, size in enumerate(sizes)}
    stored = stored_in(tmp_path_factory.mktemp("maps") / "w.safetensors", tensors, moved_by=moved_by)
    files = MappedFiles()
    views = {name: files.tensor(one) for name, one in stored.items()}
    for ahead, number in steps:
        (files.will_need if ahead else files.release)([stored[str(number % len(sizes))]])
        for name, view in views.items():
            assert_same_bits(view, tensors[name])


def test_tensors_of_several_files_are_kept_apart(tmp_path: Path) -> None:
    files = MappedFiles()
    for number in range(3):
        tensor = random(torch.int64, 9)
        (stored,) = stored_in(tmp_path / f"{number}.safetensors", {"same": tensor}).values()
        assert_same_bits(files.tensor(stored), tensor)


_WRITES = """
import resource, sys
from pathlib import Path
from deltadex.engine.weights.mapped import MappedFiles
from deltadex.checkpoints.tensors import read_tensors
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
(stored,) = read_tensors([Path(sys.argv[1])]).values()
tensor = MappedFiles().tensor(stored)
print("mapped", tensor.sum().item(), flush=True)
tensor[0] = 9.0
print("written", flush=True)
"""


def test_writing_through_a_map_fails_before_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    stored_in(file, {"a": torch.ones(5000)})
    before = file.read_bytes()
    writer = subprocess.run([sys.executable, "-c", _WRITES, str(file)], capture_output=True, text=True, check=False)
    assert writer.stdout == "mapped 5000.0\n"
    assert writer.returncode == -signal.SIGSEGV
    assert file.read_bytes() == before
