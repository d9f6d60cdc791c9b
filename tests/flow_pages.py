"""Artifacts on the pages of flow runs in Prefect."""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactCollectionFilterKey
from prefect.settings import temporary_settings

from deltadex.settings import Settings
from deltadex_flows.scheduler import prefect_settings


def latest_page(settings: Settings, key: str) -> str:
    """Return the Markdown of the latest artifact with a key."""
    wanted = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=[key]))
    # Not `Artifact.get`: it leaves its connection open.
    with temporary_settings(prefect_settings(settings)), get_client(sync_client=True) as client:
        [found] = client.read_latest_artifacts(artifact_filter=wanted)
    return str(found.data)
