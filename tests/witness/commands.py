"""The command line in this process: a process of its own takes seconds to start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from deltadex.cli import app
from deltadex.errors import DeltadexError
from tests.stored import REGISTRY


def run(*arguments: str, url: str, folder: Path, witnesses: tuple[str, ...], code: int = 0) -> Any:
    """Run a command; return its JSON, or what it printed and its error as one line."""
    variables = {
        "DELTADEX_DATABASE__URL": url, "DELTADEX_DATA_DIR": str(folder), "DELTADEX_REGISTRY": REGISTRY,
        "DELTADEX_WITNESSES": json.dumps(witnesses),
    }  # fmt: skip
    done = CliRunner().invoke(app, arguments, env=variables)
    error = done.exception if isinstance(done.exception, DeltadexError) else None
    if done.exception is not None and error is None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    if "--json" in arguments:
        return json.loads(done.stdout)
    return " ".join(f"{done.output} {error.message} {error.hint}".split() if error else done.output.split())
