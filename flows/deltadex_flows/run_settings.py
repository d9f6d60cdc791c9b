"""Settings of the current flow run: those of its process, for the workspace that its tags name."""

from __future__ import annotations

from prefect.runtime import flow_run

from deltadex.settings import Settings, load_settings
from deltadex_flows import run_tags


def run_settings() -> Settings:
    """Return the settings of the flow run that calls this; a worker serves all workspaces of an MLflow server."""
    return load_settings(workspace=run_tags.workspace_of(flow_run.get_tags()))
