import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.torch import load_file, save_file

from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.connection import end_shared
from deltadex.engine.delta import Base
from deltadex.engine.messages import to_line
from deltadex.engine.requests import BaseModel, Finetune, Job
from deltadex.errors import BrokenCheckpoint, DeltadexError, EmbeddingError, NoLanguageModel, Resource, Shortage
from deltadex.types import Embedding
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


@pytest.fixture(scope="module")
def process() -> Iterator[EmbeddingProcess]:
    with EmbeddingProcess(threads=1) as process:
        yield process


def ask(process: EmbeddingProcess, base: BaseModel, finetune: Finetune, *, deadline: float = GENEROUS) -> Embedding:
    ((_, outcome),) = process.embed(base, [finetune], deadline_seconds=deadline)
    if isinstance(outcome, DeltadexError):
        raise outcome
    return outcome


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def children(process: EmbeddingProcess) -> list[int]:
    return [child.pid for child in psutil.Process(process.pid).children()]


def is_gone_soon(pid: int) -> bool:
    give_up = time.monotonic() + 120
    while not is_gone(pid) and time.monotonic() < give_up:
        time.sleep(0.1)
    return is_gone(pid)


def test_it_embeds_like_the_engine_and_a_bad_checkpoint_stops_no_other(
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


def test_at_its_deadline_the_child_is_killed_and_the_next_job_gets_a_new_one(
    base: BaseModel, adapter: Finetune
) -> None:
    with EmbeddingProcess(threads=1) as process:
        assert ask(process, base, adapter).norm > 0
        [child] = children(process)
        with pytest.raises(Shortage, match=r"longer than 0\.001 s") as caught:
            ask(process, base, adapter, deadline=0.001)
        assert "DEADLINE_SECONDS" in caught.value.hint
        assert (caught.value.resource, caught.value.more_than) == (Resource.TIME, 0.001)
        assert is_gone_soon(child)
        assert ask(process, base, adapter).norm > 0


def widen(folder: Path, base: Path, *, intermediate: int) -> Path:
    """Copy a Llama with layer matrices of the given number of rows, all zeros in a sparse file."""
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


def memory_after_imports(base: BaseModel, adapter: Finetune) -> int:
    """Anonymous memory in bytes after a first model was embedded: .2 GB with torch's CPU build, .8 GB with CUDA."""
    with EmbeddingProcess(threads=1) as process:
        ask(process, base, adapter)
        [child] = children(process)
        return int(psutil.Process(child).memory_info().data)


def test_exceeding_the_memory_limit_is_a_shortage_and_the_process_survives(
    base: BaseModel, adapter: Finetune, tmp_path: Path
) -> None:
    wide = local(widen(tmp_path / "wide", base.checkpoint.folder, intermediate=2_000_000))
    allowed = memory_after_imports(base, adapter) + (200 << 20)
    with EmbeddingProcess(threads=1, memory_bytes=allowed) as process:
        with pytest.raises(Shortage, match=f"{allowed / 1e9:.1f} GB of memory") as caught:
            ask(process, BaseModel(wide, "wide", "float32"), adapter)
        assert (caught.value.resource, caught.value.more_than) == (Resource.MEMORY, allowed)
        assert "MEMORY_BYTES" in caught.value.hint
        survivor = children(process)
        assert ask(process, base, adapter).norm > 0
        assert children(process) == survivor


def test_a_process_killed_during_a_job_is_a_retryable_error(base: BaseModel, adapter: Finetune) -> None:
    with EmbeddingProcess(threads=1) as process:
        outcomes = process.embed(base, [adapter] * 40, deadline_seconds=GENEROUS)
        next(outcomes)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EmbeddingError, match="died") as caught:
            list(outcomes)
        assert caught.value.retryable
        assert ask(process, base, adapter).norm > 0


def test_a_process_that_died_while_idle_is_replaced(base: BaseModel, adapter: Finetune) -> None:
    with EmbeddingProcess(threads=1) as process:
        for victim in (lambda: process.pid, lambda: children(process)[0]):
            assert ask(process, base, adapter).norm > 0
            dead = victim()
            os.kill(dead, signal.SIGKILL)
            assert is_gone_soon(dead)
            assert ask(process, base, adapter).norm > 0


def test_an_unexpected_error_is_reported_and_stops_no_later_job(
    base: BaseModel, process: EmbeddingProcess, adapter: Finetune
) -> None:
    impossible = LocalCheckpoint(adapter.checkpoint.kind, base.checkpoint.folder / "gone", (Path("gone"),), None)
    with pytest.raises(EmbeddingError, match="FileNotFoundError") as caught:
        ask(process, base, Finetune(impossible, "weights"))
    assert not caught.value.retryable
    assert ask(process, base, adapter).norm > 0


def test_nothing_is_left_when_the_caller_leaves_without_a_job() -> None:
    with EmbeddingProcess() as process:
        pid = process.pid
    assert is_gone(pid)


@pytest.mark.slow
def test_the_process_ends_with_a_caller_that_is_killed() -> None:
    script = (
        "import time\n"
        "from deltadex.engine.client import EmbeddingProcess\n"
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
        return EmbeddingProcess(shared_by=tmp_path, keep_warm_seconds=600, threads=1)

    with shared() as one, shared() as other:
        assert one.pid == other.pid
        pid, first = one.pid, ask(one, base, adapter)
    with shared() as later:
        assert later.pid == pid
        np.testing.assert_array_equal(ask(later, base, adapter).probe_deltas, first.probe_deltas)
    assert not is_gone(pid)
    end_shared(tmp_path)
    assert is_gone_soon(pid)


def test_the_folder_of_a_shared_process_may_have_a_long_name_and_is_private(tmp_path: Path) -> None:
    place = tmp_path / ("long" * 40)
    with EmbeddingProcess(shared_by=place) as one, EmbeddingProcess(shared_by=place) as other:
        assert one.pid == other.pid
    assert place.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_a_shared_process_exits_without_a_new_caller_in_time(tmp_path: Path) -> None:
    with EmbeddingProcess(shared_by=tmp_path, keep_warm_seconds=0.5) as process:
        pid = process.pid
    assert is_gone_soon(pid)


def hanging(base: BaseModel, folder: Path) -> Path:
    """Return an adapter whose pattern of target modules takes longer to match than anyone can wait."""
    tiny_models.build_adapter(base.checkpoint.folder, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": "(([a-z._0-9]+)+)+!"}))
    return folder


def test_a_caller_whose_job_hangs_delays_no_other_and_is_told_alone(
    base: BaseModel, adapter: Finetune, tmp_path: Path
) -> None:
    hostile = Finetune(local(hanging(base, tmp_path / "hanging")), "weights")
    with (
        EmbeddingProcess(shared_by=tmp_path / "shared", threads=1) as one,
        EmbeddingProcess(shared_by=tmp_path / "shared", threads=1) as other,
        ThreadPoolExecutor() as pool,
    ):
        late = pool.submit(ask, one, base, hostile, deadline=20)
        assert ask(other, base, adapter).norm > 0
        with pytest.raises(Shortage, match="longer than 20 s"):
            late.result()
        assert ask(other, base, adapter).norm > 0
        assert len(children(other)) == 1, "the one that hangs was killed"


def test_a_caller_killed_during_a_job_disturbs_no_other(base: BaseModel, adapter: Finetune, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from deltadex.engine.client import EmbeddingProcess\n"
        "with EmbeddingProcess(shared_by=Path(sys.argv[1]), threads=1) as process:\n"
        "    process.send(sys.stdin.buffer.read())\n"
        "    print('asked', flush=True)\n"
        "    sys.stdin.buffer.read()\n"
        "    import time; time.sleep(600)\n"
    )
    job = to_line(Job(base, (adapter,), tmp_path))
    with EmbeddingProcess(shared_by=tmp_path, threads=1) as process:
        command = [sys.executable, "-c", script, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as caller:
            caller.stdin.write(job)
            caller.stdin.close()
            assert caller.stdout.readline() == b"asked\n"
            caller.kill()
        assert ask(process, base, adapter).norm > 0


def test_the_process_gets_no_credentials_and_stays_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_SECRET_ACCESS_KEY",
        "PGPASSWORD",
        "BOTO_CONFIG",
        "DATABRICKS_HOST",
        "MINIO_SECRET",
        "wandb_api_key",
    ):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("DELTADEX_DATABASE__URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with EmbeddingProcess(threads=1) as process:
        child, until = psutil.Process(process.pid), time.monotonic() + 30
        while not (environment := child.environ()) and time.monotonic() < until:
            time.sleep(0.1)  # Linux shows none while the program begins.
    assert not [name for name, value in environment.items() if "secret" in value]
    assert environment["HF_HUB_OFFLINE"] == environment["OMP_NUM_THREADS"] == "1"
    assert environment["OMP_WAIT_POLICY"] == "ACTIVE"


def test_the_child_has_no_network_where_the_machine_can_withhold_it(
    base: BaseModel, process: EmbeddingProcess, adapter: Finetune
) -> None:
    ask(process, base, adapter)
    [child] = children(process)
    interfaces = Path(f"/proc/{child}/net/dev").read_text().splitlines()[2:]
    log = (process._folder / "embedder.log").read_text()
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"] or "network not withheld" in log


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", b'{"a": ' + b"[" * 2_000_000, "not valid JSON"),
        ("config.json", b'{"x": ' + b"9" * 8_000_000 + b"}", "not valid JSON"),
        ("config.json", b"[" + b"{}," * 5_000_000 + b"{}]", "not a mapping|GB of memory"),
        ("MLmodel", b"a: &a [x,x]\n" + b"".join(b"b%d: *a\n" % n for n in range(90)), "aliases"),
        ("MLmodel", b"{" * 200_000, "not valid YAML"),
    ],
)
def test_a_hostile_description_ends_with_a_reason(
    base: BaseModel, process: EmbeddingProcess, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    shutil.copytree(base.checkpoint.folder, tmp_path / "model")
    (tmp_path / "model" / name).write_bytes(content)
    with pytest.raises(BrokenCheckpoint, match=reason) as caught:
        process.inspect(LocalFiles(tmp_path / "model"))
    assert caught.value.hint
    assert process.inspect(LocalFiles(base.checkpoint.folder)).weight_files == ("model.safetensors",)


def test_half_a_character_in_a_reason_reaches_the_caller(
    base: BaseModel, process: EmbeddingProcess, tmp_path: Path
) -> None:
    shutil.copytree(base.checkpoint.folder, tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"architectures": ["\\ud800"], "model_type": "llama"}')
    with pytest.raises(NoLanguageModel, match="architecture \ud800"):
        process.inspect(LocalFiles(tmp_path / "model"))
