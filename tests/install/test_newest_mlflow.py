"""The newest MLflow that pyproject.toml allows: the tests of the registry's client and of the plugin, run with it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.install.environments import ROOT, locked_but_for

pytestmark = pytest.mark.install

FOLDERS = ("tests/mlflow_plugin", "tests/registry")
#: What the locked packages lack of its requirements. The index may not have its own two parts yet: the wheel of MLflow
#: holds their code, and MLflow warns of their numbers.
UNMET = """
import importlib.metadata as m
from packaging.requirements import Requirement
for text in m.requires("mlflow"):
    one = Requirement(text)
    if (one.marker is None or one.marker.evaluate({"extra": ""})) and not one.name.startswith("mlflow-"):
        if not one.specifier.contains(m.version(one.name), prereleases=True):
            print(text)
"""


@pytest.fixture(scope="module")
def newest() -> Path:
    return locked_but_for("mlflow>=3.17,<4")


def test_the_locked_packages_are_enough_for_it(newest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(newest, "-c", UNMET) == ""
    with capsys.disabled():
        version = run(newest, "-c", "import importlib.metadata as m; print(m.version('mlflow'))").strip()
        print(f"\nnewest MLflow: {version}")  # noqa: T201


def test_what_it_registers_and_serves_is_as_with_the_locked_one(newest: Path) -> None:
    mismatch = "ignore:Versions of mlflow:UserWarning"
    run(newest, "-m", "pytest", *FOLDERS, "-q", "-W", mismatch, "-p", "no:cacheprovider")


def run(interpreter: Path, *arguments: str) -> str:
    done = subprocess.run([interpreter, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout
