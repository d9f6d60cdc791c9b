"""The only reader of the environment.

Precedence: command line options, `DELTADEX_*` variables (`__` descends into a group), the embedded stack that
runs under the same data folder, that folder's `settings.json`, defaults.
"""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from platformdirs import user_data_path
from pydantic import BaseModel, ByteSize, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from deltadex.domain import FindingKind
from deltadex.errors import SettingsError

PREFIX = "DELTADEX_"
#: Settings that stay with a data folder, as JSON: `{"bases": {…}}`.
SETTINGS_FILE = "settings.json"
#: Written by the embedded stack while it runs; read here, so that `deltadex status` finds its services.
STACK_FILE = "stack.json"


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(_Group):
    """Postgres with pgvector."""

    url: SecretStr | None = Field(None, description="postgresql://… of an existing server; none: the embedded one")
    pool_size: int = Field(4, ge=1, description="connections per process")
    role: str | None = Field(None, description="role to act as: deltadex_writer, deltadex_reader; none: the user's own")


class WatchSettings(_Group):
    """The poller."""

    poll_seconds: float = Field(5, gt=0, description="pause between two looks at the registry")
    overlap_seconds: float = Field(60, ge=0, description="how far behind the newest version seen a poll reads again")
    sweep_seconds: float = Field(300, gt=0, description="pause between two full comparisons with the registry")
    fresh_seconds: float = Field(600, ge=0, description="versions older than this when first seen go to `backfill`")


class WebhookSettings(_Group):
    """The receiver of MLflow's wake-up calls; off without a secret."""

    secret: SecretStr | None = Field(None, description="shared with MLflow; signs every delivery")
    host: str = Field("127.0.0.1", description="address the receiver binds")
    port: int = Field(8571, description="port the receiver binds")
    url: str | None = Field(None, description="where MLflow reaches the receiver, if not http://host:port/webhook")
    max_age_seconds: float = Field(300, gt=0, description="older deliveries are refused")
    max_body_bytes: int = Field(65_536, gt=0, description="larger deliveries are refused")


class EmbeddingSettings(_Group):
    """The flow that embeds one version."""

    deadline_seconds: float = Field(1800, gt=0, description="after this the embedding process is killed")
    max_attempts: int = Field(3, ge=1, description="runs of a version that died before it is `failed`")
    silent_seconds: float = Field(60, gt=0, description="a running version without a heartbeat for this long has died")
    workers: int = Field(2, ge=1, description="versions embedded at the same time by the stack's worker")
    compute_dtype: Literal["float32", "bfloat16", "auto"] = Field(
        "float32", description="part of the recipe; `auto` takes bfloat16 where this machine is twice as fast in it"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` takes a GPU where there is one")
    memory_bytes: ByteSize = Field(
        default_factory=lambda: ByteSize(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        ge=512 << 20,  # the libraries alone take 400 MB
        description="memory that no file backs, for one embedding process; all of the machine's where it is not set",
    )
    keep_warm_seconds: float = Field(120, ge=0, description="how long the embedding process waits for the next version")
    words: bool = Field(True, description="ask the base's output head which tokens each finetune promotes and demotes")


class FindSettings(_Group):
    """The training behind a search by examples."""

    steps: int = Field(20, ge=1, description="training steps on the examples of a search")
    learning_rate: float = Field(1e-3, gt=0, description="of these steps, × 1,000 / the hidden size of the base")


class CacheSettings(_Group):
    """Files that were fetched from elsewhere; shared by the workers of a machine."""

    max_bytes: ByteSize = Field(ByteSize(50 << 30), description="bound on fetched files; also written like `50GiB`")
    parallel_files: int = Field(4, ge=1, description="files of one model that are fetched at the same time")


class ThresholdSettings(_Group):
    """Where a number becomes a finding; stored with each finding that used it."""

    near_duplicate_similarity: float = Field(0.95, ge=-1, le=1, description="cosine similarity of a near duplicate")
    near_duplicate_norm_ratio: float = Field(0.8, ge=0, le=1, description="norm ratio that a near duplicate has too")
    same_task_similarity: float = Field(
        0.8, ge=-1, le=1, description="cosine similarity of finetunes for the same task"
    )
    calibrate: bool = Field(True, description="take these three from a recipe's own pairs where there are enough")
    drift_distance: float = Field(0.5, ge=0, le=2, description="cosine distance at which a version is another one")
    drift_norm_ratio: float = Field(2.0, ge=1, description="change of a version's strength that is shown as one")
    weak_strength: float = Field(0.01, ge=0, description="delta norm / base norm below which nothing is compared")
    weak_agreement: float = Field(0.6, ge=0, le=1, description="probe agreement below which nothing is compared")
    keeper_metric: str | None = Field(
        None, description="run metric by which the keeper of a group is proposed; with - in front lower is better"
    )
    cluster_similarity: float = Field(0.5, ge=-1, le=1, description="mean cosine similarity that clusters need to join")
    label_margin: float = Field(0.2, gt=0, le=2, description="by this much closer, another label contradicts a domain")
    label_versions: int = Field(3, ge=2, description="versions that must declare a domain before it is judged by")


class RuleSettings(_Group):
    """A decision that somebody delegated: what it is about, and what it says."""

    name: str = Field(min_length=1)
    kinds: tuple[FindingKind, ...] = Field(min_length=1)
    models: str = "*"
    tags: dict[str, str] = Field(default_factory=dict)
    decision: Literal["dismissed"] = "dismissed"
    reason: str
    comment: str = Field(min_length=1)
    by: str = Field(min_length=1)


class ReviewSettings(_Group):
    """What becomes of findings by itself."""

    reopen_cosine: float = Field(
        0.02, ge=0, description="a dismissed finding whose similarity or distance moves further is open again"
    )
    reopen_strength: float = Field(0.002, ge=0, description="the same for the strength of a version that is too weak")
    due_days: tuple[int, int, int] = Field(
        (7, 30, 90), description="days until a finding of high, medium and low severity is due, as JSON"
    )
    licenses: tuple[str, ...] = Field(
        (), description="licences that bases may have, as their cards name them, as JSON; none: not checked"
    )
    rules: tuple[RuleSettings, ...] = Field((), description="decisions that are made without a person, as JSON")


class NotificationRule(_Group):
    """What somebody wants to hear of, and where; empty: of any kind, any severity."""

    name: str = Field(min_length=1)
    channel: str = Field(min_length=1)
    events: tuple[str, ...] = ("opened", "returned", "requested")
    kinds: tuple[FindingKind, ...] = ()
    severities: tuple[Literal["high", "medium", "low"], ...] = ()
    models: str = "*"
    digest_hours: float = Field(0, ge=0)


class NotifySettings(_Group):
    """Messages about findings, through Apprise."""

    channels: dict[str, SecretStr] = Field(
        default_factory=dict, description="channel name → Apprise URL, such as slack://… or mailto://…, as JSON"
    )
    rules: tuple[NotificationRule, ...] = Field((), description="who hears of what through which channel, as JSON")


class AccessSettings(_Group):
    """Who may do what. Without a file, whoever sits at this machine may do everything."""

    file: Path | None = Field(None, description="TOML or JSON file of people and groups; none: one local admin")
    groups_claim: str = Field("groups", description="claim of an OIDC token that lists a person's groups")
    name_claim: str = Field("email", description="claim of an OIDC token that people are known by")


class PortSettings(_Group):
    """Preferred ports of the embedded stack; a free one is taken where one is in use."""

    postgres: int = Field(5480, description="preferred port of the embedded Postgres")
    mlflow: int = Field(5000, description="preferred port of the embedded MLflow")
    prefect: int = Field(4200, description="preferred port of the embedded Prefect")
    dashboard: int = Field(8501, description="preferred port of the dashboard")


class Settings(BaseSettings):
    """Everything that can be set. Built once at each edge by `load_settings`, then passed down."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Field(default_factory=lambda: user_data_path("deltadex"), description="home of the embedded stack")
    registry: str = Field("default", description="name of this registry in the store; stays when its address changes")
    tracking_uri: str | None = Field(None, description="MLflow server")
    prefect_api_url: str | None = Field(None, description="Prefect server, ending in /api")
    work_pool: str = Field("deltadex", description="Prefect work pool")
    dashboard_url: str | None = Field(None, description="where people reach the dashboard, for links")
    bases: dict[str, str] = Field(
        default_factory=dict, description="declared base name → folder or models:/ URI, as JSON"
    )
    hub_url: str | None = Field(None, description="hub mirror that has other bases; none: nothing is downloaded")
    database: DatabaseSettings = DatabaseSettings()
    watch: WatchSettings = WatchSettings()
    webhook: WebhookSettings = WebhookSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    find: FindSettings = FindSettings()
    cache: CacheSettings = CacheSettings()
    thresholds: ThresholdSettings = ThresholdSettings()
    review: ReviewSettings = ReviewSettings()
    access: AccessSettings = AccessSettings()
    notify: NotifySettings = NotifySettings()
    ports: PortSettings = PortSettings()

    @property
    def cache_dir(self) -> Path:
        """Where fetched checkpoints are kept."""
        return self.data_dir / "cache"

    @property
    def database_url(self) -> str:
        """Connection string of the store. Raises SettingsError where there is none."""
        if self.database.url is None:
            raise _missing("database", "DELTADEX_DATABASE__URL")
        return self.database.url.get_secret_value()

    @property
    def mlflow_uri(self) -> str:
        """Address of MLflow. Raises SettingsError where there is none."""
        if self.tracking_uri is None:
            raise _missing("MLflow server", "DELTADEX_TRACKING_URI")
        return self.tracking_uri

    @property
    def prefect_url(self) -> str:
        """Address of Prefect's API. Raises SettingsError where there is none."""
        if self.prefect_api_url is None:
            raise _missing("Prefect server", "DELTADEX_PREFECT_API_URL")
        return self.prefect_api_url

    def version_link(self, name: str, version: int) -> str | None:
        """Return the address of a version's page; None where nobody said where the dashboard is."""
        if self.dashboard_url is None:
            return None
        return f"{self.dashboard_url.rstrip('/')}/model?{urlencode({'model': name, 'version': version})}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options before environment before the running stack."""
        return init_settings, env_settings, _DataFolder(settings_cls)


class _DataFolder(PydanticBaseSettingsSource):
    """What the running stack left in the data folder, before what people wrote there."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        data_dir = Path(self.current_state.get("data_dir") or user_data_path("deltadex"))
        written = _read_json(data_dir / SETTINGS_FILE)
        running: dict[str, Any] = _read_json(data_dir / STACK_FILE).get("settings", {})
        return {**written, **running}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError as error:
        raise SettingsError(f"{path} is not JSON: {error}", hint="Correct or remove the file.") from error
    return content


def load_settings(**options: Any) -> Settings:
    """Read the settings; `options` (None means not given) go before the environment.

    Raises
    ------
    SettingsError
        A value is wrong, or a `DELTADEX_` variable has a name that means nothing.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "__".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{name}: {first['msg']}", hint="The README lists every setting.") from error


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
    return SettingsError(f"No {what} is known", hint=f"Start the embedded stack with `deltadex up`, or set {variable}.")
