"""Reads from the MLflow Model Registry."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run as Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking._model_registry.client import ModelRegistryClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.server_info import SERVER_INFO_WORKSPACES_ENABLED, fetch_server_info
from mlflow.utils.workspace_context import WorkspaceContext, get_request_workspace

from deltadex.errors import RegistryError
from deltadex.registry.connection import is_missing, registry_errors
from deltadex.registry.trust import transport
from deltadex.setting_groups import SourceSettings
from deltadex.settings import DEFAULT_WORKSPACE, workspace_of
from deltadex.types import STAGE_TAG, ModelVersionRef, RegisteredVersion

_PAGE_SIZE = 100
_PROMPT_TAG = "mlflow.prompt.is_prompt"
#: Ids of runs that can be part of a filter: MLflow's filters cannot escape a quote.
_PLAIN_ID = re.compile(r"[\w-]+", re.ASCII)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model's entry, without its versions.

    Attributes
    ----------
    created_ms
        Time of creation in milliseconds: after a deletion, another model may have the name. None: the server has none.
    aliases
        By version number.
    """

    created_ms: int | None
    aliases: Mapping[int, tuple[str, ...]]
    tags: Mapping[str, str]


class Registry:
    """One MLflow registry, with its name in the store: of a server, or of one of its workspaces.

    That of a workspace is used within `bound`, because MLflow's client takes the workspace from its process.

    Parameters
    ----------
    tracking_uri
        Address of the MLflow server.
    name
        `Settings.registry`, which is part of each version's identity; `server/workspace` for a workspace.
    sources
        Places besides the server's own artifact store from which files of versions are read.
    """

    def __init__(self, tracking_uri: str, *, name: str, sources: SourceSettings | None = None) -> None:
        self.tracking_uri = tracking_uri
        self.name = name
        self.workspace = workspace_of(name)
        self.sources = (sources or SourceSettings()).within(self.workspace)
        self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        self._registry_client = ModelRegistryClient(tracking_uri, tracking_uri)
        self._with_models: dict[str, bool] = {}

    def bound(self) -> AbstractContextManager[object]:
        """Have this process's requests to MLflow, of all threads, go to the workspace during a block.

        The default one needs no name, and a server without workspaces refuses any.
        """
        return nullcontext() if self.workspace == DEFAULT_WORKSPACE else WorkspaceContext(self.workspace)

    @property
    def client(self) -> MlflowClient:
        """MLflow's client.

        Raises
        ------
        RuntimeError
            Requests would go to another workspace, whose versions would become those of this one.
        """
        if self.workspace not in (DEFAULT_WORKSPACE, get_request_workspace()):
            raise RuntimeError(f"the registry {self.name} is used outside of `bound`")
        return self._client

    def workspaces(self) -> tuple[str, ...]:
        """Return the names of all workspaces that the account may see.

        Raises
        ------
        RegistryError
            The server has none.
        """
        with registry_errors("listing the workspaces"):
            # Asked for a list, a server without workspaces answers as one that is overloaded.
            server = fetch_server_info(get_default_host_creds(self.tracking_uri))
            if server.status_code == HTTPStatus.OK and not server.data.get(SERVER_INFO_WORKSPACES_ENABLED):
                raise RegistryError(
                    f"MLflow at {self.tracking_uri} has no workspaces",
                    hint="Unset DELTADEX_WORKSPACES, or start MLflow with --enable-workspaces.",
                )
            return tuple(sorted(one.name for one in self.client.list_workspaces()))

    def newest_first(self) -> Iterator[RegisteredVersion]:
        """Yield all ready model versions, newest first, page by page.

        Page tokens are offsets: a version registered between two pages repeats another one, but never hides one.
        Aliases are missing (mlflow#16734): see `aliases`.
        """
        found = self._search(order_by=["creation_timestamp DESC"])
        yield from (self._as_registered(version) for version in found if _is_ready_model(version))

    def read(self, name: str, version: int) -> RegisteredVersion | None:
        """Read one version, including aliases; None if it does not exist."""
        with registry_errors(f"reading {name}/{version}"):
            try:
                found = self.client.get_model_version(name, str(version))
            except MlflowException as error:
                if is_missing(error):
                    return None
                raise
        return self._as_registered(found)

    def read_all(self, known: Collection[RegisteredVersion]) -> Mapping[ModelVersionRef, RegisteredVersion]:
        """Read versions again, without aliases, with one request per hundred runs; those that are gone are left out."""
        found: dict[ModelVersionRef, RegisteredVersion] = {}
        run_ids = sorted({one.run_id for one in known if one.run_id and _PLAIN_ID.fullmatch(one.run_id)})
        for start in range(0, len(run_ids), _PAGE_SIZE):
            names = ", ".join(f"'{run_id}'" for run_id in run_ids[start : start + _PAGE_SIZE])
            versions = map(self._as_registered, self._search(filter_string=f"run_id IN ({names})"))
            found |= {version.ref: version for version in versions}
        for one in known:  # without a run, or missed: pages shift while versions change
            if one.ref not in found and (version := self.read(one.ref.name, one.ref.version)):
                found[version.ref] = version
        return found

    def _search(self, **options: Any) -> Iterator[ModelVersion]:
        token: str | None = None
        while True:
            with registry_errors("listing model versions"):
                page = self.client.search_model_versions(max_results=_PAGE_SIZE, page_token=token, **options)
            yield from page
            token = page.token
            if not token:
                return

    def find_run(self, run_id: str) -> Run | None:
        """Read a run; None if it does not exist."""
        with registry_errors(f"reading run {run_id}"):
            try:
                return self.client.get_run(run_id)
            except MlflowException as error:
                if is_missing(error):
                    return None
                raise

    def has_logged_models(self, experiment_id: str) -> bool:
        """Return whether an experiment has any logged models; asked once, as this object lives for one flow run."""
        if experiment_id not in self._with_models:
            found = self.client.search_logged_models([experiment_id], max_results=1)
            self._with_models[experiment_id] = bool(found)
        return self._with_models[experiment_id]

    def run_of(self, version: RegisteredVersion) -> Run | None:
        """Read the run of a version; None if it has none, or if that does not exist any more."""
        return None if version.run_id is None else self.find_run(version.run_id)

    def aliases(self, name: str) -> Mapping[int, tuple[str, ...]]:
        """Return the aliases of a registered model by version number; none if it was deleted since."""
        with registry_errors(f"reading the aliases of {name}"):
            try:
                return _by_version(self.client.get_registered_model(name).aliases)
            except MlflowException as error:
                if is_missing(error):
                    return {}
                raise

    def registered_models(self) -> Mapping[str, RegisteredModel]:
        """Return all registered models by name, with one call per page of models.

        Page tokens are offsets: a model may be missing if another one was deleted during the read.
        """
        found: dict[str, RegisteredModel] = {}
        token: str | None = None
        while True:
            with registry_errors("listing registered models"):
                page = self.client.search_registered_models(max_results=_PAGE_SIZE, page_token=token)
            found |= {
                model.name: RegisteredModel(
                    int(model.creation_timestamp or 0) or None, _by_version(model.aliases), dict(model.tags)
                )
                for model in page
            }
            token = page.token
            if not token:
                return found

    def set_tag(self, version: ModelVersionRef, key: str, value: str) -> None:
        """Set a tag of a version; it is not a prompt, which MLflow's own client would ask the server each time."""
        with registry_errors(f"tagging {version.label}"):
            assert self.client  # noqa: S101 - bound
            self._registry_client.set_model_version_tag(version.name, str(version.version), key, value)

    def check(self) -> str:
        """Return one line about the server; raise RegistryError if it cannot be read."""
        with registry_errors(f"asking {self.tracking_uri}"):
            models = self.client.search_registered_models(max_results=_PAGE_SIZE)
        more = "+" if models.token else ""
        return f"{self.tracking_uri}, {len(models)}{more} registered models, {transport(self.tracking_uri)}"

    def _as_registered(self, version: ModelVersion) -> RegisteredVersion:
        stage = version.current_stage or ""
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
            tags={**version.tags, **({STAGE_TAG: stage} if stage not in ("", "None") else {})},
            aliases=tuple(sorted(version.aliases or ())),
        )


def _by_version(aliases: Mapping[str, str]) -> Mapping[int, tuple[str, ...]]:
    found: dict[int, tuple[str, ...]] = {}
    for alias, version in sorted(aliases.items()):
        found[int(version)] = (*found.get(int(version), ()), alias)
    return found


def _is_ready_model(version: ModelVersion) -> bool:
    return version.status == "READY" and _PROMPT_TAG not in version.tags
