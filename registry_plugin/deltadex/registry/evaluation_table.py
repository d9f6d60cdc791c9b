"""Tables of prompts that runs logged by `mlflow.log_table` or `mlflow.evaluate`."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from deltadex.errors import RegistryError
from deltadex.registry.client import Registry
from deltadex.registry.connection import store_errors
from deltadex.registry.sources import check_source
from deltadex.types import RegisteredVersion

#: Columns that hold prompts: the name of `mlflow.evaluate`, and the common one.
_COLUMNS = ("inputs", "prompt")
_MOST_BYTES = 16 << 20
_HINT = f"Log one by mlflow.log_table, with a column named {' or '.join(_COLUMNS)}, or give a file of prompts."


@dataclass(frozen=True)
class LoggedPrompts:
    """A column of prompts that a run logged.

    Attributes
    ----------
    path
        Artifact of the run.
    cells
        The column, of any JSON values.
    """

    path: str
    cells: tuple[object, ...]


def logged_prompts(registry: Registry, version: RegisteredVersion) -> LoggedPrompts:
    """Return the prompts in the latest table of a version's run that has some.

    Raises
    ------
    RegistryError
        The run has no such table, or MLflow refuses.
    UnsupportedCheckpoint
        Its artifacts are where Deltadex may not read.
    """
    run = registry.run_of(version)
    if run is None:
        raise RegistryError(f"{version.ref.label} has no run in MLflow", hint="Give a file of prompts.")
    where = f"the run of {version.ref.label}"
    check_source(run.info.artifact_uri, tracking_uri=registry.tracking_uri, allowed=registry.sources, where=where)
    with store_errors(f"reading the tables of {where}"):
        for path, table in _tables(registry, run):
            if cells := _prompts(table):
                return LoggedPrompts(path, cells)
    raise RegistryError(f"{where[0].upper()}{where[1:]} has no table of prompts", hint=_HINT)


def _tables(registry: Registry, run: Run) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield path and content of the tables that a run logged as JSON, the latest first."""
    for path in reversed(_logged_paths(run)):
        listed = registry.client.list_artifacts(run.info.run_id, posixpath.dirname(path) or None)
        if any(each.path == path and not each.is_dir and (each.file_size or 0) <= _MOST_BYTES for each in listed):
            with TemporaryDirectory(prefix="deltadex-") as folder:
                content = Path(registry.client.download_artifacts(run.info.run_id, path, folder)).read_bytes()
            yield path, _parsed(content)


def _logged_paths(run: Run) -> list[str]:
    """Return the paths of tables in the tag by which MLflow keeps them; anyone may write it."""
    logged = _parsed(run.data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]").encode())
    entries = [entry for entry in logged if isinstance(entry, dict)] if isinstance(logged, list) else []
    paths = [str(entry.get("path")) for entry in entries if entry.get("type") == "table"]
    return [path for path in paths if path.endswith(".json")]


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return []


def _prompts(table: Any) -> tuple[object, ...]:
    """Return the cells of the column of prompts, if there is one; the format is pandas' `split`."""
    columns, rows = (table.get("columns"), table.get("data")) if isinstance(table, dict) else (None, None)
    if not isinstance(columns, list) or not isinstance(rows, list):
        return ()
    place = next((columns.index(name) for name in _COLUMNS if name in columns), None)
    if place is None:
        return ()
    return tuple(row[place] for row in rows if isinstance(row, list) and len(row) > place)
