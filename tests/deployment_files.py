"""Folder of the deployment files, and names of settings in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from deltadex.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"


def unknown_settings(variables: Iterable[str]) -> set[str]:
    """Return the variables with Deltadex's prefix that are not settings."""
    return {name for name in variables if name.startswith(PREFIX) and not _is_setting(name)}


def _is_setting(variable: str) -> bool:
    first, *rest = variable.removeprefix(PREFIX).lower().split("__")
    field = Settings.model_fields.get(first)
    return field is not None and all(inner in field.annotation.model_fields for inner in rest)


def env_file(path: Path) -> dict[str, str]:
    """Return the variables of an environment file."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}
