"""The option with examples of a task, for every command that takes some."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from deltadex.engine.example_files import MAX_BYTES, read_file, read_text
from deltadex.engine.examples import Example

ExamplesPath = Annotated[
    Path | None,
    typer.Option(
        help="Inputs and outputs of the task: JSON lines, CSV, Parquet, Arrow, or a folder saved by `datasets`; - "
        "reads standard input.",
        exists=True,
        allow_dash=True,
    ),
]


def read_given(path: Path) -> tuple[Example, ...]:
    """Return the examples of a file, or of standard input.

    Raises
    ------
    ExamplesError
        See `deltadex.engine.example_files`.
    """
    if str(path) == "-":
        return read_text(sys.stdin.buffer.read(MAX_BYTES).decode("utf-8-sig", errors="replace"))
    return read_file(path)
