"""Python interpreters on this machine that Deltadex supports."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_SUPPORTED = "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))"


def supported_interpreters() -> list[str]:
    """Return those of INTERPRETERS, else those on the path, of the system and of pyenv; each once, by version."""
    named = os.environ.get("INTERPRETERS", "").split()
    found = named or [*_on_the_path(), "/usr/bin/python3", *map(str, Path.home().glob(".pyenv/versions/*/bin/python3"))]
    usable = {version: name for name in reversed(found) if (version := version_of(name))}
    return [usable[version] for version in sorted(usable)]


def version_of(interpreter: str) -> str | None:
    """Return the version of an interpreter that is there and supported, such as `3.11.2`."""
    try:
        subprocess.run([interpreter, "-c", _SUPPORTED], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    command = [interpreter, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _on_the_path() -> list[str]:
    names = ("python3", "python3.11", "python3.12", "python3.13")
    return [path for name in names if (path := shutil.which(name))]
