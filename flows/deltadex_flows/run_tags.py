"""Tags of flow runs: what a version needs and the base of a shard, by which a worker chooses, and the workspace."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from deltadex.errors import Resource
from deltadex.types import VersionRow

_BASE, _WORKSPACE = "base:", "workspace:"


def needs(version: VersionRow) -> list[str]:
    """Return the tag for the limit that a version must exceed, in bytes or seconds; none if no machine was too small.

    Where the limit is not known, such as after a full disk, any machine may try.
    """
    return [f"{version.lacking}>{version.more_than:.0f}"] if version.lacking and version.more_than else []


def fits(tags: Collection[str], limits: Mapping[Resource, float]) -> bool:
    """Return whether a machine with these limits can hold a run."""
    parts = (tag.partition(">") for tag in tags)
    return all(limits[Resource(name)] > float(limit) for name, _, limit in parts if name in limits)


def of_base(base: str | None) -> list[str]:
    """Return the tag for the base of a shard; none if its versions were not read yet."""
    return [f"{_BASE}{base}"] if base else []


def base_of(tags: Collection[str]) -> str | None:
    """Return the base of a shard from its run's tags."""
    return next((tag.removeprefix(_BASE) for tag in tags if tag.startswith(_BASE)), None)


def of_workspace(workspace: str | None) -> list[str]:
    """Return the tag for the workspace of MLflow that a run is about; none for the default one."""
    return [f"{_WORKSPACE}{workspace}"] if workspace else []


def workspace_of(tags: Collection[str]) -> str | None:
    """Return the workspace that a run is about; None for the default one."""
    return next((tag.removeprefix(_WORKSPACE) for tag in tags if tag.startswith(_WORKSPACE)), None)
