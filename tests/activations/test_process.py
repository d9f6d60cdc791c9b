import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.torch import load_file, save_file

from deltadex.activations.delta import Base
from deltadex.activations.job import BaseModel, Finetune
from deltadex.activations.process import EmbeddingProcess, end_shared
from deltadex.checkpoints.files import LocalFiles
from deltadex.checkpoints.layout import LocalCheckpoint, inspect
from deltadex.domain import Embedding
from deltadex.errors import BrokenCheckpoint, DeltadexError, EmbeddingError, Resource, Shortage
from tests import tiny_models

GENEROUS = 300.0


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = tiny_models.build_base(tmp_path_factory.mktemp("models") / "base")
    return BaseModel(local(folder), "base", "float32")


@pytest.fixture(scope="module")
def adapter(base: BaseModel) -> Finetune:
    folder = base.checkpoint.folder
    return Finetune(local(tiny_models.build_adapter(folder, folder.parent / "adapter")), "weights")


def ask(process: EmbeddingProcess, base: BaseModel, finetune: Finetune, *, deadline: float = GENEROUS) -> Embedding:
    ((_, outcome),) = process.embed(base, [finetune], deadline_seconds=deadline)
    if isinstance(outcome, DeltadexError):
        raise outcome
    return outcome


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def is_gone_soon(pid: int) -> bool:
    give_up = time.monotonic() + 120
    while not is_gone(pid) and time.monotonic() < give_up:
        time.sleep(0.1)
    return is_gone(pid)


def test_it_embeds_as_the_engine_does_and_one_bad_checkpoint_stops_no_other(
    base: BaseModel, adapter: Finetune, tmp_path: Path
) -> None:
    damaged = tiny_models.build_full_finetune(base.checkpoint.folder, tmp_path / "damaged")
    tensors = load_file(damaged / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if n != "model.norm.weight"}, damaged / "model.safetensors")
    ((_, expected),) = Base(base).embed([adapter])
    with EmbeddingProcess(threads=1) as process:
        found = dict(process.embed(base, [Finetune(local(damaged), "weights"), adapter], deadline_seconds=GENEROUS))
        pid = process.pid
    assert isinstance(found[0], BrokenCheckpoint)
    assert "model.norm.weight" in found[0].message
    assert found[0].hint
    assert found[1].recipe == expected.recipe
    np.testing.assert_allclose(found[1].probe_deltas, expected.probe_deltas, rtol=1e-4, atol=1e-6)
    assert found[1].words.promoted[0].text == expected.words.promoted[0].text
    assert is_gone(pid)


def test_at_its_deadline_the_process_is_killed_and_the_next_job_gets_a_new_one(
    base: BaseModel, adapter: Finetune
) -> None:
    with EmbeddingProcess(threads=1) as process:
        pid = process.pid
        with pytest.raises(Shortage, match=r"longer than 0\.1 s") as caught:
            ask(process, base, adapter, deadline=0.1)
        assert "DEADLINE_SECONDS" in caught.value.hint
        assert (caught.value.resource, caught.value.more_than) == (Resource.TIME, 0.1)
        assert is_gone(pid)
        assert ask(process, base, adapter).norm > 0
        assert process.pid != pid


def widen(folder: Path, base: Path, *, intermediate: int) -> Path:
    """Copy a Llama and give its layers matrices of so many rows; zeros, which take no room on the disk."""
    shutil.copytree(base, folder)
    tensors = load_file(folder / "model.safetensors")
    wide = {name: tensor.shape for name, tensor in tensors.items() if ".mlp." in name}
    others = {name: tensor for name, tensor in tensors.items() if name not in wide}
    save_file(others, folder / "model-1.safetensors", metadata={"format": "pt"})
    header, end = {}, 0
    for name, (rows, columns) in wide.items():
        shape = (rows, intermediate) if name.endswith("down_proj.weight") else (intermediate, columns)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (end, end := end + 2 * shape[0] * shape[1])}
    encoded = json.dumps(header).encode()
    with (folder / "model-2.safetensors").open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + end)
    (folder / "model.safetensors").unlink()
    weight_map = {name: f"model-{1 + (name in wide)}.safetensors" for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": intermediate}))
    return folder


def test_what_needs_more_memory_than_allowed_is_a_shortage_and_the_process_lives_on(
    base: BaseModel, adapter: Finetune, tmp_path: Path
) -> None:
    wide = local(widen(tmp_path / "wide", base.checkpoint.folder, intermediate=2_000_000))
    with EmbeddingProcess(threads=1, memory_bytes=450 << 20) as process:
        pid = process.pid
        with pytest.raises(Shortage, match=r"0\.5 GB of memory") as caught:
            ask(process, BaseModel(wide, "wide", "float32"), adapter)
        assert (caught.value.resource, caught.value.more_than) == (Resource.MEMORY, 450 << 20)
        assert "MEMORY_BYTES" in caught.value.hint
        assert ask(process, base, adapter).norm > 0
        assert process.pid == pid


def test_a_process_killed_at_work_is_a_retryable_error(base: BaseModel, adapter: Finetune) -> None:
    with EmbeddingProcess(threads=1) as process:
        kill = lambda *_: os.kill(process.pid, signal.SIGKILL)  # noqa: E731
        with pytest.raises(EmbeddingError, match="died") as caught:
            list(process.embed(base, [adapter], deadline_seconds=GENEROUS, on_progress=kill))
        assert caught.value.retryable
        assert ask(process, base, adapter).norm > 0


def test_a_process_that_died_at_rest_is_replaced(base: BaseModel, adapter: Finetune) -> None:
    with EmbeddingProcess(threads=1) as process:
        dead = process.pid
        os.kill(dead, signal.SIGKILL)
        assert is_gone_soon(dead)
        assert ask(process, base, adapter).norm > 0


def test_an_error_that_nobody_foresaw_is_stated_and_stops_no_later_job(base: BaseModel, adapter: Finetune) -> None:
    impossible = LocalCheckpoint(adapter.checkpoint.kind, base.checkpoint.folder / "gone", (Path("gone"),), None)
    with EmbeddingProcess(threads=1) as process:
        with pytest.raises(EmbeddingError, match="FileNotFoundError") as caught:
            ask(process, base, Finetune(impossible, "weights"))
        assert not caught.value.retryable
        assert ask(process, base, adapter).norm > 0


def test_nothing_is_left_when_the_caller_leaves_without_asking() -> None:
    with EmbeddingProcess() as process:
        pid = process.pid
    assert is_gone(pid)


def test_the_process_ends_with_a_caller_that_is_killed() -> None:
    script = (
        "import time\n"
        "from deltadex.activations.process import EmbeddingProcess\n"
        "with EmbeddingProcess() as process:\n"
        "    print(process.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as caller:
        pid = int(caller.stdout.readline())
        caller.kill()
    assert is_gone_soon(pid)


def test_callers_share_a_process_that_stays_warm_until_it_is_ended(
    base: BaseModel, adapter: Finetune, tmp_path: Path
) -> None:
    def shared() -> EmbeddingProcess:
        return EmbeddingProcess(shared_by=str(tmp_path), keep_warm_seconds=600, threads=1)

    with shared() as one, shared() as other:
        assert one.pid == other.pid
        pid, first = one.pid, ask(one, base, adapter)
    with shared() as later:
        assert later.pid == pid
        np.testing.assert_array_equal(ask(later, base, adapter).probe_deltas, first.probe_deltas)
    assert not is_gone(pid)
    end_shared(str(tmp_path))
    assert is_gone_soon(pid)


def test_a_shared_process_leaves_when_nobody_came_back_in_time(tmp_path: Path) -> None:
    with EmbeddingProcess(shared_by=str(tmp_path), keep_warm_seconds=0.5) as process:
        pid = process.pid
    assert is_gone_soon(pid)


def test_a_caller_who_is_killed_at_work_disturbs_no_other(base: BaseModel, adapter: Finetune, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from deltadex.activations.process import EmbeddingProcess\n"
        "with EmbeddingProcess(shared_by=sys.argv[1], threads=1) as process:\n"
        "    process._connection.sendall(sys.stdin.buffer.read())\n"
        "    print('asked', flush=True)\n"
        "    sys.stdin.buffer.read()\n"
        "    import time; time.sleep(600)\n"
    )
    from deltadex.activations.job import Job

    job = Job(base, (adapter,), tmp_path).to_line()
    with EmbeddingProcess(shared_by=str(tmp_path), threads=1) as process:
        command = [sys.executable, "-c", script, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as caller:
            caller.stdin.write(job)
            caller.stdin.close()
            assert caller.stdout.readline() == b"asked\n"
            caller.kill()
        assert ask(process, base, adapter).norm > 0


def test_the_process_gets_no_credentials_and_stays_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("DELTADEX_DATABASE__URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with EmbeddingProcess(threads=1) as process:
        environment = psutil.Process(process.pid).environ()
    assert not [name for name, value in environment.items() if "secret" in value]
    assert environment["HF_HUB_OFFLINE"] == environment["OMP_NUM_THREADS"] == "1"
    assert environment["OMP_WAIT_POLICY"] == "ACTIVE"
