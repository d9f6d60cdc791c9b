import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.torch import load_file, save_file

from deltadex.activations.delta import Base, Finetune
from deltadex.activations.process import EmbeddingProcess
from deltadex.checkpoints.files import LocalFiles
from deltadex.checkpoints.layout import LocalCheckpoint, inspect
from deltadex.domain import Embedding
from deltadex.errors import BrokenCheckpoint, DeadlineExceeded, EmbeddingError
from tests import tiny_models

GENEROUS = 300.0


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LocalCheckpoint:
    return local(tiny_models.build_base(tmp_path_factory.mktemp("models") / "base"))


@pytest.fixture(scope="module")
def adapter(base: LocalCheckpoint) -> LocalCheckpoint:
    return local(tiny_models.build_adapter(base.folder, base.folder.parent / "adapter"))


def ask(process: EmbeddingProcess, finetune: LocalCheckpoint, base: LocalCheckpoint, **changes: float) -> Embedding:
    asked = {"deadline_seconds": GENEROUS, **changes}
    return process.embed(finetune, base, base_digest="base", weights_digest="weights", **asked)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_child_embeds_as_the_engine_does_and_survives_a_bad_checkpoint(
    base: LocalCheckpoint, adapter: LocalCheckpoint, tmp_path: Path
) -> None:
    damaged = tiny_models.build_full_finetune(base.folder, tmp_path / "damaged")
    tensors = load_file(damaged / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if n != "model.norm.weight"}, damaged / "model.safetensors")
    ((_, expected),) = Base(base, digest="base").embed([Finetune(adapter, "weights")])
    with EmbeddingProcess(threads=1) as process:
        child = process.pid
        with pytest.raises(BrokenCheckpoint, match=r"model\.norm\.weight") as caught:
            ask(process, local(damaged), base)
        found = ask(process, adapter, base)
        assert process.pid == child
    assert caught.value.hint
    assert found.recipe == expected.recipe
    np.testing.assert_allclose(found.probe_deltas, expected.probe_deltas, rtol=1e-4, atol=1e-6)
    assert is_gone(child)


def test_at_its_deadline_the_child_is_killed_and_the_next_job_gets_a_new_one(
    base: LocalCheckpoint, adapter: LocalCheckpoint
) -> None:
    with EmbeddingProcess(threads=1) as process:
        child = process.pid
        with pytest.raises(DeadlineExceeded, match=r"longer than 0\.1 s") as caught:
            ask(process, adapter, base, deadline_seconds=0.1)
        assert "DEADLINE_SECONDS" in caught.value.hint
        assert is_gone(child)
        assert ask(process, adapter, base).norm > 0
        assert process.pid != child


def test_a_child_killed_at_work_is_a_retryable_error(base: LocalCheckpoint, adapter: LocalCheckpoint) -> None:
    with EmbeddingProcess(threads=1) as process:
        os.kill(process.pid, signal.SIGSTOP)  # so that it can't be done too soon
        threading.Timer(1, os.kill, [process.pid, signal.SIGKILL]).start()
        with pytest.raises(EmbeddingError, match="SIGKILL") as caught:
            ask(process, adapter, base)
        assert caught.value.retryable


def test_a_child_that_died_at_rest_is_replaced(base: LocalCheckpoint, adapter: LocalCheckpoint) -> None:
    with EmbeddingProcess(threads=1) as process:
        dead = psutil.Process(process.pid)
        dead.kill()
        while dead.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert ask(process, adapter, base).norm > 0


def test_what_a_crash_said_last_is_reported(base: LocalCheckpoint, adapter: LocalCheckpoint) -> None:
    impossible = LocalCheckpoint(adapter.kind, adapter.folder, (adapter.folder / "gone",), None)
    with EmbeddingProcess(threads=1) as process, pytest.raises(EmbeddingError, match=r"exit code 1: FileNotFound") as e:
        ask(process, impossible, base)
    assert not e.value.retryable


def test_nothing_is_left_when_the_parent_leaves_without_asking() -> None:
    with EmbeddingProcess() as process:
        child = process.pid
    assert is_gone(child)


def test_the_child_dies_with_a_parent_that_is_killed() -> None:
    script = (
        "import time\n"
        "from deltadex.activations.process import EmbeddingProcess\n"
        "with EmbeddingProcess() as process:\n"
        "    print(process.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    give_up = time.monotonic() + 120
    while not is_gone(child) and time.monotonic() < give_up:
        time.sleep(0.1)
    assert is_gone(child)


def test_the_child_gets_no_credentials_and_stays_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("DELTADEX_DATABASE__URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with EmbeddingProcess(threads=1) as process:
        environment = psutil.Process(process.pid).environ()
    assert not [name for name, value in environment.items() if "secret" in value]
    assert environment["HF_HUB_OFFLINE"] == environment["OMP_NUM_THREADS"] == "1"
    assert environment["OMP_WAIT_POLICY"] == "ACTIVE"


def test_the_parent_needs_no_torch() -> None:
    script = "import sys, deltadex.activations.process; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
