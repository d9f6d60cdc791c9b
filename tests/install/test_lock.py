"""requirements.lock resolves for every supported platform and Python; needs an index, but no such machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
#: The oldest patch version of each, since markers look at it; 3.11.2 is Debian 12's own.
PYTHONS = ("3.11.2", "3.12.0", "3.13.0")


pytestmark = pytest.mark.install


def uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    # PyTorch's packages for macOS need version 14; no interpreter is downloaded for a resolution.
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0", "UV_PYTHON_DOWNLOADS": "never"}
    command = [sys.executable, "-m", "uv", "pip", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_locked_package_has_a_wheel_with_a_locked_hash(platform: str, python: str, tmp_path: Path) -> None:
    target = ["--python-platform", platform, "--python-version", python, "--target", str(tmp_path)]
    # openTSNE has no wheel for ARM Linux and is compiled there, from a source that has a hash in the lock, too.
    compiled = ["--no-binary", "opentsne"] if platform.startswith("aarch64-manylinux") else []
    install = ["install", "--dry-run", "--require-hashes", "--only-binary", ":all:", *compiled]
    assert "+ torch==2.13.0" in uv(*install, *target, "-r", "requirements.lock").stderr


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_lock_satisfies_the_package_with_all_that_make_lock_names(
    platform: str, python: str, tmp_path: Path
) -> None:
    target = ["--python-platform", platform, "--python-version", python]
    pins = tmp_path / "pins.txt"
    entries = (ROOT / "requirements.lock").read_text().splitlines()
    pins.write_text("\n".join(line.removesuffix(" \\") for line in entries if line[:1].isalnum()))
    # Extras and groups; the clients of clouds are not among them.
    named = re.findall(r"--(?:extra|group) \w+", (ROOT / "Makefile").read_text())
    assert "--extra embed" in named
    wanted = " ".join(named).split()
    resolved = {
        line.split(" ")[0]
        for line in uv("compile", *target, *wanted, "pyproject.toml", "--constraint", str(pins)).stdout.splitlines()
        if line[:1].isalnum()
    }
    assert resolved <= {line.split(" ")[0] for line in entries}
