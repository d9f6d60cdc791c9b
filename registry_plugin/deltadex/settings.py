"""Settings, read from the environment and the data folder. No other module reads environment variables of Deltadex.

Precedence: command line options, `DELTADEX_*` variables (`__` descends into a group), the embedded stack that
runs under the same data folder, that folder's `settings.json`, defaults.
"""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlencode

from platformdirs import user_data_path
from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSettings

from deltadex.errors import SettingsError
from deltadex.setting_groups import (
    AccessSettings,
    AdviseSettings,
    CacheSettings,
    CostSettings,
    DatabaseSettings,
    EmbeddingSettings,
    EndpointSettings,
    EvidenceSettings,
    FindSettings,
    Login,
    McpSettings,
    MetricsSettings,
    NotifySettings,
    OwnershipSettings,
    PortSettings,
    ReplaySettings,
    ReviewSettings,
    SafetySettings,
    ScopeSettings,
    ShardSettings,
    SourceSettings,
    TaughtSettings,
    ThresholdSettings,
    WatchSettings,
    WebhookSettings,
)

PREFIX = "DELTADEX_"
#: Settings of a data folder, written by people as JSON: `{"bases": {…}}`.
SETTINGS_FILE = "settings.json"
#: Written by the embedded stack while it runs, so that commands find its services.
STACK_FILE = "stack.json"


#: The workspace of MLflow that requests without a name of one go to.
DEFAULT_WORKSPACE = "default"

#: Written once by the embedded stack, readable by its user only.
ARTIFACT_KEY_FILE = "artifact.key"
#: Written by `deltadex evidence new-key`: signs evidence packs.
EVIDENCE_KEY_FILE = "evidence.key"


class Settings(BaseSettings):
    """All settings. Built once at each edge by `load_settings`, then passed down.

    Examples
    --------
    Arguments go before the environment, the environment before the data folder:

    >>> import deltadex
    >>> settings = deltadex.Settings(registry="production", thresholds={"drift_distance": 0.4})
    >>> settings.registry, settings.thresholds.drift_distance
    ('production', 0.4)
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Field(
        default_factory=lambda: user_data_path("deltadex"), description="data folder of the embedded stack"
    )
    registry: str = Field("default", description="name of this registry in the store; keep it when the address changes")
    workspace: str | None = Field(
        None, description="workspace of MLflow that commands are about; default: MLflow's own default"
    )
    workspaces: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="workspaces of MLflow that are watched, with commas; `*`: all; default: MLflow has none"
    )
    tracking_uri: str | None = Field(None, description="MLflow server")
    requests_per_second: float | None = Field(
        None, gt=0, description="most requests per second that the watcher, or one flow run, sends to MLflow"
    )
    prefect_api_url: str | None = Field(None, description="Prefect server, ending in /api")
    prefect_auth: SecretStr | None = Field(
        None, description="user:password of Prefect's API, as in its PREFECT_SERVER_API_AUTH_STRING"
    )
    work_pool: str = Field("deltadex", description="Prefect work pool; one that exists keeps its type and template")
    work_pool_type: str = Field(
        "deltadex", description="type of a pool that `init` makes: `deltadex`, `process`, `docker`, `kubernetes`, …"
    )
    job_variables: dict[str, Any] = Field(
        default_factory=dict,
        description="job variables of the flow runs in a pool of another type than `deltadex`, as JSON: image, env, …",
    )
    dashboard_url: str | None = Field(None, description="address of the dashboard, for links")
    artifact_key: SecretStr | None = Field(
        None, min_length=32, description="seals embeddings on MLflow's runs; `rebuild` trusts only what it sealed"
    )
    bases: dict[str, str] = Field(
        default_factory=dict, description="declared base name → folder or models:/ URI, as JSON"
    )
    mergekit: str | None = Field(
        None,
        description="program `mergekit-yaml`, which merges full models; default: found beside Python or on the path",
    )
    hub_url: str | None = Field(None, description="hub mirror for other bases; default: nothing is downloaded")
    mlflow_app: str | None = Field(
        None,
        description="app of MLflow's server that `mlflow server --app-name deltadex` wraps, such as `oidc-auth`; "
        "default: MLflow without logins",
    )
    mlflow_user_header: str | None = Field(
        None,
        description="header in which a proxy tells MLflow who asks, if the wrapped app does not; only where every "
        "request passes that proxy",
    )
    witnesses: tuple[SecretStr, ...] = Field(
        (),
        description="where the watcher publishes the head of the decision log, as JSON: `folder:/…`, `s3://…`, "
        "`git+ssh://…`, `tsa+https://…`, `notify:CHANNEL`, `mlflow:`; see docs/witness.md",
    )
    database: DatabaseSettings = DatabaseSettings()
    watch: WatchSettings = WatchSettings()
    scope: ScopeSettings = ScopeSettings()
    webhook: WebhookSettings = WebhookSettings()
    metrics: MetricsSettings = MetricsSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    shards: ShardSettings = ShardSettings()
    find: FindSettings = FindSettings()
    replay: ReplaySettings = ReplaySettings()
    safety: SafetySettings = SafetySettings()
    taught: TaughtSettings = TaughtSettings()
    endpoint: EndpointSettings = EndpointSettings()
    advise: AdviseSettings = AdviseSettings()
    cache: CacheSettings = CacheSettings()
    sources: SourceSettings = SourceSettings()
    thresholds: ThresholdSettings = ThresholdSettings()
    costs: CostSettings = CostSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    review: ReviewSettings = ReviewSettings()
    ownership: OwnershipSettings = OwnershipSettings()
    access: AccessSettings = AccessSettings()
    notify: NotifySettings = NotifySettings()
    mcp: McpSettings = McpSettings()
    ports: PortSettings = PortSettings()

    @field_validator("workspaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return (
            json.loads(value) if value.startswith("[") else [name.strip() for name in value.split(",") if name.strip()]
        )

    @model_validator(mode="after")
    def _name_registry(self) -> Self:
        """Let the registry's name carry the workspace: each one is a registry of its own, under the server's name."""
        if self.workspace is not None:
            object.__setattr__(self, "registry", registry_name(self.server, self.workspace))
        elif "/" in self.registry:
            object.__setattr__(self, "workspace", workspace_of(self.registry))
        return self

    @property
    def server(self) -> str:
        """Name of the registry without its workspace."""
        return self.registry.partition("/")[0]

    def within(self, workspace: str) -> Settings:
        """Return the settings for one workspace of the same MLflow server."""
        return self.model_copy(update={"workspace": workspace, "registry": registry_name(self.server, workspace)})

    @property
    def cache_dir(self) -> Path:
        """Folder of fetched checkpoints."""
        return self.data_dir / "cache"

    @property
    def database_url(self) -> str:
        """Connection string of the store. Raises SettingsError if it is not set."""
        if self.database.url is None:
            raise _missing("database", "DELTADEX_DATABASE__URL")
        return self.database.url.get_secret_value()

    def url_of(self, login: Login) -> str:
        """Return the connection string of a login, or else that of the store. Raises SettingsError if there is none."""
        own: SecretStr | None = getattr(self.database, f"{login}_url")
        return self.database_url if own is None else own.get_secret_value()

    @property
    def sealing_key(self) -> bytes | None:
        """The key that seals artifacts: the setting, or the embedded stack's own; None if there is neither."""
        if self.artifact_key is not None:
            return self.artifact_key.get_secret_value().encode()
        try:
            return (self.data_dir / ARTIFACT_KEY_FILE).read_bytes()
        except FileNotFoundError:
            return None

    @property
    def mlflow_uri(self) -> str:
        """Address of MLflow. Raises SettingsError if it is not set."""
        if self.tracking_uri is None:
            raise _missing("MLflow server", "DELTADEX_TRACKING_URI")
        return self.tracking_uri

    @property
    def prefect_url(self) -> str:
        """Address of Prefect's API. Raises SettingsError if it is not set."""
        if self.prefect_api_url is None:
            raise _missing("Prefect server", "DELTADEX_PREFECT_API_URL")
        return self.prefect_api_url

    def version_link(self, name: str, version: int) -> str | None:
        """Return the address of a version's page; None if `dashboard_url` is not set."""
        if self.dashboard_url is None:
            return None
        where = {"workspace": self.workspace} if self.workspace else {}
        return f"{self.dashboard_url.rstrip('/')}/model?{urlencode({'model': name, 'version': version, **where})}"

    def finding_link(self, review_id: int) -> str | None:
        """Return the address of a finding's page; None if `dashboard_url` is not set."""
        if self.dashboard_url is None:
            return None
        return f"{self.dashboard_url.rstrip('/')}/inbox?{urlencode({'finding': review_id})}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: options, environment, data folder."""
        return init_settings, env_settings, _DataFolder(settings_cls)


class _DataFolder(PydanticBaseSettingsSource):
    """Settings from the data folder; those of the running stack override those that people wrote."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        data_dir = Path(self.current_state.get("data_dir") or user_data_path("deltadex"))
        written = _read_json(data_dir / SETTINGS_FILE)
        running: dict[str, Any] = _read_json(data_dir / STACK_FILE).get("settings", {})
        given = self.current_state.get("database") or {}
        if given.get("url") if isinstance(given, dict) else given.url:
            # A service has its own login, and another database has other ones.
            running.pop("database", None)
        return {**written, **running}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError as error:
        raise SettingsError(f"{path} is not JSON: {error}", hint="Correct or remove the file.") from error
    return content


def registry_name(server: str, workspace: str) -> str:
    """Return the name of a workspace's registry in the store; MLflow's default one has the server's own name.

    So a company that switches workspaces on keeps what it has: MLflow moves its models into that one.
    """
    return server if workspace == DEFAULT_WORKSPACE else f"{server}/{workspace}"


def workspace_of(registry: str) -> str:
    """Return the workspace that a registry's name carries."""
    return registry.partition("/")[2] or DEFAULT_WORKSPACE


def load_settings(**options: Any) -> Settings:
    """Read the settings; `options` override the environment unless they are None.

    Raises
    ------
    SettingsError
        A value is invalid, or a `DELTADEX_` variable is not a setting.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "__".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{name}: {first['msg']}", hint="The README lists every setting.") from error
    except UnreadableSettings as error:  # a list or a group that is no JSON
        raise SettingsError(f"A setting is no JSON: {error}", hint="The README lists every setting.") from error


def _refuse_unknown_variables() -> None:
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    for variable in sorted(os.environ):
        if variable.startswith(PREFIX) and variable.split("__")[0] not in known:
            close = difflib.get_close_matches(variable, known, n=1)
            raise SettingsError(
                f"{variable} is not a setting",
                hint=f"Did you mean {close[0]}?" if close else "The README lists every setting.",
            )


def _missing(what: str, variable: str) -> SettingsError:
    return SettingsError(f"No {what} is set", hint=f"Start the embedded stack with `deltadex up`, or set {variable}.")
