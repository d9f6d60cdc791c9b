"""Reading the MLflow Model Registry."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from deltadex.domain import ModelVersionRef, RegisteredVersion
from deltadex.mlflow_edge.connection import is_missing, registry_errors

_PAGE = 100
_PROMPT_TAG = "mlflow.prompt.is_prompt"

log = logging.getLogger(__name__)


class Registry:
    """One MLflow registry, under the name by which the store knows it.

    Parameters
    ----------
    tracking_uri
        Address of the MLflow server.
    name
        `Settings.registry`: part of each version's identity.
    """

    def __init__(self, tracking_uri: str, *, name: str) -> None:
        self.tracking_uri = tracking_uri
        self.name = name
        self.client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def newest_first(self) -> Iterator[RegisteredVersion]:
        """Yield all ready model versions, newest first, page by page.

        Page tokens are offsets: a version registered meanwhile shows one of the others twice, never hides one.
        Aliases are not filled in (mlflow#16734): see `aliases`.
        """
        token: str | None = None
        while True:
            with registry_errors("listing model versions"):
                page = self.client.search_model_versions(
                    max_results=_PAGE, order_by=["creation_timestamp DESC"], page_token=token
                )
            yield from (self._registered(version) for version in page if _is_ready_model(version))
            token = page.token
            if not token:
                return

    def read(self, name: str, version: int) -> RegisteredVersion | None:
        """Read one version with everything the registry knows of it; None if it does not exist."""
        with registry_errors(f"reading {name}/{version}"):
            try:
                found = self.client.get_model_version(name, str(version))
            except MlflowException as error:
                if is_missing(error):
                    return None
                raise
        return self._registered(found)

    def aliases(self, name: str) -> Mapping[int, tuple[str, ...]]:
        """Return the aliases of a registered model by version number."""
        with registry_errors(f"reading the aliases of {name}"):
            aliases: dict[str, str] = self.client.get_registered_model(name).aliases
        by_version: dict[int, tuple[str, ...]] = {}
        for alias, version in sorted(aliases.items()):
            by_version[int(version)] = (*by_version.get(int(version), ()), alias)
        return by_version

    def check(self) -> str:
        """Return one line about the server. Raises RegistryError when it cannot be read."""
        with registry_errors(f"asking {self.tracking_uri}"):
            models = self.client.search_registered_models(max_results=_PAGE)
        more = "+" if models.token else ""
        return f"{self.tracking_uri}, {len(models)}{more} registered models"

    def _registered(self, version: ModelVersion) -> RegisteredVersion:
        return RegisteredVersion(
            ref=ModelVersionRef(
                registry=self.name,
                name=version.name,
                version=int(version.version),
                created_ms=int(version.creation_timestamp),
            ),
            source=version.source,
            run_id=version.run_id or None,
            description=version.description or "",
            tags=dict(version.tags),
            aliases=tuple(sorted(version.aliases or ())),
        )


def _is_ready_model(version: ModelVersion) -> bool:
    return version.status == "READY" and _PROMPT_TAG not in version.tags
