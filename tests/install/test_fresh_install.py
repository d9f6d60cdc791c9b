"""Installation into a fresh environment from the public index: an embedding, and the stack up and down."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.install.interpreters import supported_interpreters, version_of
from tests.install.known_model import FIRST, NORM, TOLERANCE, build_known_models

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.install


@dataclass
class Environment:
    """A virtual environment, and the transcript of what was done in it."""

    folder: Path
    transcript: dict[str, str] = field(default_factory=dict)

    def run(self, step: str, *command: str, **extra: str) -> str:
        """Run a command as someone who knows the public index alone; note its seconds."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_FIND", "DELTADEX_"))}
        started = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, env={**own, "PIP_CONFIG_FILE": os.devnull, **extra}, capture_output=True, text=True
        )
        self.transcript[step] = f"{time.monotonic() - started:.0f} s"
        assert done.returncode == 0, f"{step}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Environment]:
    environment = Environment(tmp_path / "venv")
    yield environment
    shutil.rmtree(environment.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build_known_models(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("interpreter", supported_interpreters())
def test_a_locked_install_embeds_and_runs_the_stack(
    interpreter: str, fresh: Environment, models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh.run("set-up", str(ROOT / "deploy" / "install.sh"), str(fresh.folder), PYTHON=interpreter)
    works(fresh, models, tmp_path)
    with capsys.disabled():
        show(fresh, f"locked, Python {version_of(interpreter)}")


@pytest.mark.skipif("INTERPRETERS" in os.environ, reason="the newest packages of today are no submission's fault")
def test_an_install_without_the_lock_works_with_the_newest_of_everything(
    fresh: Environment, models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interpreter = supported_interpreters()[-1]
    fresh.run("venv", interpreter, "-m", "venv", str(fresh.folder))
    fresh.run("set-up", fresh.program("pip"), "install", f"{ROOT}[embed,flows,dashboard,embedded]")
    fresh.run("pip check", fresh.program("pip"), "check")
    works(fresh, models, tmp_path)
    with capsys.disabled():
        show(fresh, f"newest of everything, Python {version_of(interpreter)}")


def works(fresh: Environment, models: tuple[Path, Path], tmp_path: Path) -> None:
    base, finetune = models
    output = tmp_path / "embedding.npz"
    deltadex = fresh.program("deltadex")
    fresh.run("embed", deltadex, "embed", str(finetune), "--base", str(base), "--output", str(output))
    with np.load(output) as embeddings:
        vector = embeddings[finetune.name]
    np.testing.assert_allclose(vector[: len(FIRST)], FIRST, atol=TOLERANCE * NORM)
    assert abs(np.linalg.norm(vector) - NORM) < TOLERANCE * NORM

    data_dir = str(tmp_path / "data")
    log = tmp_path / "up.log"
    started = time.monotonic()
    with log.open("w") as file:
        stack = subprocess.Popen([deltadex, "up", "--data-dir", data_dir], stdout=file, stderr=file)
    try:
        while "Ctrl-C stops everything" not in log.read_text():
            assert stack.poll() is None, log.read_text()
            assert time.monotonic() < started + 300, log.read_text()
            time.sleep(0.2)
        fresh.transcript["up"] = f"{time.monotonic() - started:.0f} s"
        fresh.run("doctor", deltadex, "doctor", "--data-dir", data_dir)
    finally:
        fresh.run("down", deltadex, "down", "--data-dir", data_dir)
        assert stack.wait(60) == 0


def show(fresh: Environment, title: str) -> None:
    """Print versions, seconds and size."""
    listed = subprocess.run([fresh.program("pip"), "freeze"], check=True, capture_output=True, text=True).stdout
    wanted = ("torch", "transformers", "peft", "mlflow", "prefect", "streamlit")
    versions = [line for line in listed.splitlines() if line.split("==")[0] in wanted]
    size = sum(path.stat().st_size for path in fresh.folder.rglob("*") if path.is_file() and not path.is_symlink())
    steps = ", ".join(f"{step} {seconds}" for step, seconds in fresh.transcript.items())
    print(f"\n{title}: {size / 1e9:.1f} GB; {steps}\n  {', '.join(versions)}")  # noqa: T201
