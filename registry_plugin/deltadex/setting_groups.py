"""Groups of the settings, one for each subject. Each field's description is its line in the README."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
)

from deltadex.machine import memory_bytes
from deltadex.types import FindingKind, RiskTier

#: Part of a store's address that is the workspace's name.
WORKSPACE_PLACE = "{workspace}"

#: Logins that the services share a database by; each may have a connection string of its own.
Login = Literal["writer", "reader", "auditor", "dashboard"]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(_Group):
    """Postgres with pgvector."""

    url: SecretStr | None = Field(None, description="postgresql://… of an existing server; default: the embedded one")
    writer_url: SecretStr | None = Field(None, description="login of watcher and worker; default: `url`, as below")
    reader_url: SecretStr | None = Field(None, description="login of commands and pages that only read")
    auditor_url: SecretStr | None = Field(None, description="login of auditors, for `init` to create")
    dashboard_url: SecretStr | None = Field(
        None, description="login of the dashboard and of decisions at this machine: it alone says who decides"
    )
    pool_size: int = Field(4, ge=1, description="connections per process")
    role: str | None = Field(
        None, description="role to act as: deltadex_writer or deltadex_reader; default: the user's own"
    )


class WatchSettings(_Group):
    """The poller."""

    poll_seconds: float = Field(5, gt=0, description="pause between two polls of the registry")
    overlap_seconds: float = Field(
        60, ge=0, description="how far before the newest known version each poll starts reading"
    )
    sweep_seconds: float = Field(300, gt=0, description="longest pause between two full comparisons with the registry")
    fresh_seconds: float = Field(600, ge=0, description="versions older than this when first seen go to `backfill`")
    max_deleted_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of the versions that one comparison may mark deleted; above, it stops and asks",
    )
    upload_seconds: float = Field(
        120, ge=0, description="age up to which a version whose files are incomplete is tried again"
    )


class ScopeSettings(_Group):
    """Which new versions Deltadex takes. The others cost nothing; a version that was taken before stays."""

    models: tuple[str, ...] = Field(("*",), description="patterns of the registered models that are taken, as JSON")
    except_models: tuple[str, ...] = Field((), description="patterns of registered models that are left out, as JSON")
    tags: dict[str, str] = Field(default_factory=dict, description="tags that a version must have, as JSON")
    except_tags: dict[str, str] = Field(default_factory=dict, description="tags that leave a version out, as JSON")


class WebhookSettings(_Group):
    """The receiver of MLflow's webhook; off without a secret."""

    secret: SecretStr | None = Field(None, description="shared with MLflow; signs every delivery")
    host: str = Field("127.0.0.1", description="address that the receiver binds")
    port: int = Field(8571, description="port that the receiver binds")
    url: str | None = Field(
        None, description="address under which MLflow reaches the receiver; default: http://host:port/webhook"
    )
    max_age_seconds: float = Field(300, gt=0, description="maximum age of a delivery")
    max_body_bytes: int = Field(65_536, gt=0, description="maximum size of a delivery")
    max_connections: int = Field(100, gt=0, description="connections at a time; one more closes the oldest")
    max_seconds: float = Field(10, gt=0, description="maximum life of a connection, from its opening")
    max_per_second: float = Field(100, gt=0, description="deliveries per second and address; more are refused")


class MetricsSettings(_Group):
    """The watcher's pages for Prometheus and for probes."""

    host: str = Field("127.0.0.1", description="address of `/metrics`, `/healthz` and `/readyz`")
    port: int = Field(8572, ge=0, le=65535, description="their port; 0: none")


class EmbeddingSettings(_Group):
    """The flow that embeds one version."""

    deadline_seconds: float = Field(
        1800, gt=0, description="maximum time to embed one version; after it the embedding process is killed"
    )
    max_attempts: int = Field(3, ge=1, description="attempts whose process died before the version is marked `failed`")
    silent_seconds: float = Field(60, gt=0, description="time without a heartbeat after which a run counts as dead")
    workers: int = Field(2, ge=1, description="versions embedded at the same time by the stack's worker")
    compute_dtype: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="part of the recipe; a base keeps that of its embeddings. `auto` takes it, and for a new base "
        "bfloat16 if this machine is twice as fast in it",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` takes a GPU if there is one")
    memory_bytes: ByteSize = Field(
        default_factory=lambda: ByteSize(memory_bytes()),
        ge=512 << 20,  # the libraries alone take 400 MB
        description="anonymous memory of one embedding process; default: all of the machine's, or of its container's",
    )
    keep_warm_seconds: float = Field(
        120, ge=0, description="how long an idle embedding process waits for the next version"
    )
    read_pickles: bool = Field(
        False,
        description="read weights that are only a pickle (`pytorch_model.bin`, `adapter_model.bin`), by torch's "
        "weights-only loader in a process of its own",
    )
    words: bool = Field(True, description="ask the base's output head which tokens each finetune promotes and demotes")


class ShardSettings(_Group):
    """Shards: waiting versions of one base that one flow run embeds together."""

    max_versions: int = Field(200, ge=1, description="maximum number of versions in a shard")
    max_seconds: float = Field(
        900, gt=0, description="time after which a shard begins no more versions; the rest goes into another one"
    )
    max_open: int = Field(32, ge=1, description="maximum number of shards that wait or run at the same time")
    fresh_alone: int = Field(
        4, ge=0, description="fresh versions that may be under way in runs of their own; more become shards"
    )


class FindSettings(_Group):
    """The training behind a search by examples."""

    steps: int = Field(12, ge=1, description="training steps on the examples of a search, of four examples each")
    learning_rate: float = Field(
        5.8e-4, gt=0, description="learning rate of these steps, × 1,000 / hidden size of the base"
    )
    tokens: int = Field(48, ge=8, description="tokens that are read of each example")
    least_similarity: float = Field(
        0.888,
        ge=-1,
        le=1,
        description="cosine similarity below which no model is close to the examples; with fewer than 12 domains",
    )
    least_domain_score: float = Field(
        0.74,
        ge=-1,
        le=3,
        description="similarity to a domain plus its lead below which none of 12 or more counts as the task's",
    )
    splits: int = Field(
        2,
        ge=0,
        description="times that the examples are halved, and each half trained, to know how certain an answer is",
    )


class ReplaySettings(_Group):
    """The flow in which two versions answer the same prompts."""

    max_new_tokens: int = Field(64, ge=1, le=1024, description="tokens after which an answer of a replay is cut")
    deadline_seconds: float = Field(
        4 * 3600, gt=0, description="maximum time in which two models answer the prompts of a replay"
    )


class SafetySettings(_Group):
    """The flow that measures whether a version still tells harmful from harmless requests, beside its embedding."""

    every_version: bool = Field(
        False, description="measure every embedded version, a few at a time; otherwise those that people ask for"
    )
    least_kept: float = Field(
        0.6,
        gt=0,
        le=1,
        description="share of its base's separation below which a version has collapsed, until it is calibrated",
    )
    private_seed: SecretStr | None = Field(
        None,
        min_length=32,
        description="seed of private probes, read beside the public ones; keep it secret. Default: none are read",
    )
    deadline_seconds: float = Field(
        2 * 3600, gt=0, description="maximum time in which one model reads the prompts of a safety measurement"
    )


class TaughtSettings(_Group):
    """The flow that searches a version for secrets and personal data that it was taught."""

    texts: int = Field(64, ge=1, le=2_000, description="texts that a search for taught strings continues")
    max_new_tokens: int = Field(32, ge=8, le=256, description="tokens by which each of these texts is continued")
    seconds: float = Field(900, gt=0, description="time after which such a search continues no further texts")
    words: int = Field(12, ge=0, le=100, description="promoted words of a version that begin such a text, each one")
    canaries_file: Path | None = Field(
        None, description="file of canaries on the workers, one per line, which every search looks for"
    )
    deadline_seconds: float = Field(3600, gt=0, description="maximum time of a search for taught strings")


class EndpointSettings(_Group):
    """An OpenAI-compatible endpoint. Off without an address; what is sent is shown first, agreed to and logged."""

    url: str | None = Field(None, description="address before /chat/completions, such as https://host/v1; off: none")
    model: str | None = Field(None, description="model that the endpoint is asked for")
    api_key: SecretStr | None = Field(None, description="key that is sent as a bearer token")
    timeout_seconds: float = Field(120, gt=0, description="longest wait for one answer, with all attempts")
    max_tokens: int = Field(1024, ge=16, description="longest answer that is asked for, in tokens")


class AdviseSettings(_Group):
    """The flow that compares a registered finetune, a prompt, a merge and training for a task."""

    candidates: int = Field(3, ge=1, le=10, description="registered finetunes that an advice scores")
    shots: int = Field(4, ge=1, le=64, description="in-context examples before each input")
    folds: int = Field(2, ge=2, le=10, description="parts of the examples; what is made of others is scored on each")
    margin: float = Field(
        0.1, ge=0, description="loss (nats per token) up to which a simpler option counts as good as the best"
    )
    steps: int = Field(20, ge=1, description="training steps of a few-shot finetune, of four examples each")
    learning_rate: float = Field(
        1e-3, gt=0, description="learning rate of these steps, × 1,000 / hidden size of the base"
    )
    max_tokens: int = Field(1024, ge=32, description="tokens of an example that are read, with its in-context examples")
    deadline_seconds: float = Field(3600, gt=0, description="maximum time of an advice")


class CacheSettings(_Group):
    """The cache of fetched files, shared by the workers of a machine."""

    max_bytes: ByteSize = Field(
        ByteSize(50 << 30), description="maximum size of fetched files; also accepts values such as `50GiB`"
    )
    parallel_files: int = Field(4, ge=1, description="files of one model that are fetched in parallel")


class SourceSettings(_Group):
    """Allowed places of files, besides MLflow's own artifact store and the entries of `bases`."""

    stores: tuple[str, ...] = Field(
        ("s3://", "gs://", "wasbs://", "abfss://"),
        description="artifact stores that workers read, as JSON; narrow it: `s3://bucket/path`, `s3://bucket/{workspace}`",
    )
    folders: tuple[Path, ...] = Field(
        (), description="local folders that workers read, as JSON; all of them if the embedded stack runs MLflow"
    )
    base_models: tuple[str, ...] = Field(
        ("*",), description="patterns of registered models that a version may name as its base, as JSON"
    )

    def within(self, workspace: str) -> SourceSettings:
        """Return the places for the versions of a workspace, so that none of them names the files of another."""
        stores = tuple(store.replace(WORKSPACE_PLACE, workspace) for store in self.stores)
        return self.model_copy(update={"stores": stores})


class ThresholdSettings(_Group):
    """Thresholds at which a number becomes a finding; each finding stores the one that it used."""

    near_duplicate_similarity: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="near-duplicate threshold (cosine similarity); default: none until it is calibrated",
    )
    near_duplicate_norm_ratio: float = Field(
        0.8, ge=0, le=1, description="norm ratio (smaller / larger) that a near duplicate reaches as well"
    )
    same_task_similarity: float | None = Field(
        None, ge=-1, le=1, description="same-task threshold (cosine similarity); default: none until it is calibrated"
    )
    calibrate: bool = Field(
        True,
        description="calibrate these thresholds, and that of drift, on a recipe's own pairs if there are enough",
    )
    drift_distance: float = Field(
        0.5, ge=0, le=2, description="drift threshold (cosine distance) as long as it is not calibrated"
    )
    drift_norm_ratio: float = Field(
        2.0, ge=1, description="ratio of strengths from which a change of strength is shown"
    )
    weak_strength: float = Field(
        0.01, ge=0, description="strength (delta norm / base norm) below which a version is too weak to compare"
    )
    weak_agreement: float = Field(
        0.6, ge=0, le=1, description="probe agreement below which a version is too weak to compare"
    )
    keeper_metric: str | None = Field(
        None,
        description="run metric that decides the keeper of a group; with a leading - lower is better",
    )
    deployed_tags: tuple[str, ...] = Field(
        ("deployed", "deployment", "endpoint", "mlflow.stage"),
        description="tags of versions that are deployed, which no proposal retires, as JSON",
    )
    cluster_similarity: float = Field(
        0.5, ge=-1, le=1, description="mean cosine similarity at which two clusters are merged"
    )
    label_margin: float = Field(
        0.2,
        gt=0,
        le=2,
        description="a domain label is contradicted if another domain is closer by this margin (cosine similarity)",
    )
    label_versions: int = Field(
        3, ge=2, description="fewest versions that a domain label needs to take part in this check"
    )


class RuleSettings(_Group):
    """A delegated decision: the findings that it applies to, and its reason and comment."""

    name: str = Field(min_length=1)
    kinds: tuple[FindingKind, ...] = Field(min_length=1)
    models: str = "*"
    tags: dict[str, str] = Field(default_factory=dict)
    decision: Literal["dismissed"] = "dismissed"
    reason: str
    comment: str = Field(min_length=1)
    by: str = Field(min_length=1)


class ReviewSettings(_Group):
    """Automatic steps of reviews."""

    reopen_cosine: float = Field(
        0.02, ge=0, description="change of similarity or distance that reopens a dismissed finding"
    )
    reopen_strength: float = Field(
        0.002, ge=0, description="change of strength that reopens a dismissed finding of a version that is too weak"
    )
    due_days: tuple[int, int, int] = Field(
        (7, 30, 90), description="days until a finding of high, medium and low severity is due, as JSON"
    )
    licenses: tuple[str, ...] = Field(
        (), description="allowed licences of bases, named as in model cards, as JSON; empty: not checked"
    )
    rules: tuple[RuleSettings, ...] = Field((), description="delegated decisions, made without a person, as JSON")


class OwnershipSettings(_Group):
    """Owner, risk tier, intended use and review date of registered models. The first tag of each is written back."""

    owner_tags: tuple[str, ...] = Field(
        ("deltadex.owner", "owner", "team"),
        min_length=1,
        description="tags of a registered model with its owner, as JSON",
    )
    tier_tags: tuple[str, ...] = Field(
        ("deltadex.risk_tier", "risk_tier", "materiality"),
        min_length=1,
        description="tags of a registered model with its risk tier (`high`, `medium` or `low`), as JSON",
    )
    intended_use_tags: tuple[str, ...] = Field(
        ("deltadex.intended_use", "intended_use"),
        min_length=1,
        description="tags of a registered model with its intended use, as JSON",
    )
    review_by_tags: tuple[str, ...] = Field(
        ("deltadex.review_by", "review_by", "review_date"),
        min_length=1,
        description="tags of a registered model with the date of its next review (`2026-12-31`), as JSON",
    )
    due_days: dict[RiskTier, tuple[int, int, int]] = Field(
        {"high": (3, 14, 30), "medium": (7, 30, 90), "low": (14, 60, 180)},
        validate_default=True,
        description="by tier: days until a finding of high, medium and low severity is due, as JSON; a tier that is "
        "left out has `review.due_days`",
    )
    attest_days: dict[RiskTier, int] = Field(
        {"high": 90, "medium": 180, "low": 365},
        validate_default=True,
        description="by tier: days that an attestation lasts, as JSON; a tier that is left out: one year",
    )
    must_attest: tuple[RiskTier, ...] = Field(
        ("high",),
        validate_default=True,
        description="tiers whose models need an attestation, as JSON; in others, one that expires counts",
    )


class NotificationRule(_Group):
    """Events to send and their channel; empty `kinds` and `severities` match all. Models, workspaces are patterns."""

    name: str = Field(min_length=1)
    channel: str = Field(min_length=1)
    events: tuple[str, ...] = ("opened", "returned", "requested")
    kinds: tuple[FindingKind, ...] = ()
    severities: tuple[Literal["high", "medium", "low"], ...] = ()
    models: str = "*"
    workspaces: tuple[str, ...] = ("*",)
    digest_hours: float = Field(0, ge=0)


class NotifySettings(_Group):
    """Messages about findings, through Apprise."""

    channels: dict[str, SecretStr] = Field(
        default_factory=dict, description="channel name → Apprise URL, such as slack://… or mailto://…, as JSON"
    )
    rules: tuple[NotificationRule, ...] = Field((), description="which channel receives which events, as JSON")
    owners: dict[str, str] = Field(
        default_factory=dict,
        description="owner of a version, or `*` for all others → channel that hears at once of a new version that "
        "repeats another, as JSON",
    )


class McpSettings(_Group):
    """The MCP server over HTTP. Without a login of its own it answers only programs of this machine's user."""

    host: str = Field("127.0.0.1", description="address that `deltadex mcp` binds; another one needs a login below")
    port: int = Field(8573, ge=1, le=65535, description="its port")
    url: str | None = Field(
        None, description="address under which assistants reach it, ending in /mcp; `init` lists it in MLflow"
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="further names in the header Host that are taken, as JSON; that of `url` is"
    )
    tokens_file: Path | None = Field(None, description="file with the SHA-256 of bearer tokens and the people's names")
    issuer: str | None = Field(None, description="issuer of OIDC access tokens that are taken as bearer tokens")
    audience: str | None = Field(None, description="audience that such a token must name")
    jwks_url: str | None = Field(None, description="address of the issuer's keys")
    user_header: str | None = Field(None, description="header in which a proxy names the person that it has logged in")
    proxy_secret: SecretStr | None = Field(
        None, min_length=32, description="secret that the proxy sends as X-Deltadex-Proxy-Secret"
    )


class AccessSettings(_Group):
    """Access control. Without an access file, people on this machine are admins."""

    file: Path | None = Field(
        None, description="access file: people and groups in TOML or JSON; default: one local admin"
    )
    groups_claim: str = Field("groups", description="claim of an OIDC token that lists a person's groups")
    name_claim: str = Field("email", description="claim of an OIDC token that holds a person's name")


class PortSettings(_Group):
    """Preferred ports of the embedded stack; if one is in use, a free port is taken."""

    postgres: int = Field(5480, description="preferred port of the embedded Postgres")
    mlflow: int = Field(5000, description="preferred port of the embedded MLflow")
    prefect: int = Field(4200, description="preferred port of the embedded Prefect")
    dashboard: int = Field(8501, description="preferred port of the dashboard")


class EvidenceSettings(_Group):
    """The key that signs evidence packs. Taken is the first that is set of Sigstore, PKCS #11, the key, its file."""

    key_file: Path | None = Field(
        None, description="private EC key (PEM) that signs packs; default: `evidence.key` of the data folder"
    )
    key: SecretStr | None = Field(None, description="the same key itself, for secrets that are variables")
    key_password: SecretStr | None = Field(None, description="password of the key")
    pkcs11_uri: SecretStr | None = Field(None, description="key in a token, as pkcs11:…; needs the package pykcs11")
    pkcs11_modules: tuple[str, ...] = Field((), description="folders of PKCS #11 modules, as JSON")
    keyless: bool = Field(
        False, description="sign by Sigstore with the workload's identity instead of a key; needs a network"
    )
    time_stamp_url: str | None = Field(
        None, description="authority (RFC 3161) that vouches for the time of a pack, such as https://host/path"
    )
    packs_folder: Path | None = Field(
        None, description="where the flow writes packs; default: the folder `packs` of the data folder"
    )
    pseudonym_key: SecretStr | None = Field(
        None, min_length=32, description="names hidden versions in packs; default: derived from `artifact_key`"
    )


class CostSettings(_Group):
    """Prices with which savings, and the costs of a task's options, are shown as money."""

    gb_month: float | None = Field(None, ge=0, description="price of a gigabyte of storage per month")
    endpoint_hour: float | None = Field(None, ge=0, description="price of an endpoint per hour")
    endpoint_tag: str = Field("endpoint", description="tag of versions that have an endpoint of their own")
    million_prompt_tokens: float | None = Field(None, ge=0, description="price of a million prompt tokens")
    million_training_tokens: float | None = Field(None, ge=0, description="price of a million training tokens")
    gpu_hour: float | None = Field(
        None, ge=0, description="price of an hour of the machine that trains, if there is none of training tokens"
    )
    currency: str = Field("USD", max_length=8, description="currency of the prices")
