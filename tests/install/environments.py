"""Virtual environments with packages that this project's own can't stand beside, kept between runs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from platformdirs import user_cache_path

ROOT = Path(__file__).parents[2]


def environment_with(*packages: str, python: str = sys.executable) -> Path:
    """Return the interpreter of an environment with this project, editable, and the newest of some packages.

    It is made anew when pyproject.toml, the interpreter or the packages change.
    """
    return _kept(python, packages, ["--editable", str(ROOT), *packages])


def locked_but_for(*packages: str) -> Path:
    """Return an interpreter that has this environment's packages, but the newest of some, without what they require."""
    own = Path(sys.executable).parent.parent / "lib"
    [below] = own.glob("python3*/site-packages")
    return _kept(sys.executable, packages, ["--no-deps", *packages], below=below)


def _kept(python: str, packages: tuple[str, ...], wanted: list[str], *, below: Path | None = None) -> Path:
    told = (str(ROOT), python, *packages, (ROOT / "pyproject.toml").read_text(), str(below))
    names = [re.split(r"\W", package.replace("-", "_"))[0] for package in packages]
    digest = hashlib.sha256("\0".join(told).encode()).hexdigest()
    folder = user_cache_path("deltadex-tests") / "-".join([*names, digest[:12]])
    interpreter = folder / "bin" / "python"
    if (folder / "ready").exists():
        return interpreter
    shutil.rmtree(folder, ignore_errors=True)
    _uv("venv", "--python", python, str(folder))
    if below is not None:
        [own] = folder.glob("lib/python3*/site-packages")
        # As a site folder: those of its own that are editable come along.
        (own / "below.pth").write_text(f"import site; site.addsitedir({str(below)!r})")
    _uv("pip", "install", "--python", str(interpreter), *wanted)
    (folder / "ready").touch()
    return interpreter


def _uv(*arguments: str) -> None:
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run([sys.executable, "-m", "uv", *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
