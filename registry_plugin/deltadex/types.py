"""Value types that all packages share. No I/O, no clock, no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from deltadex.errors import Resource

FloatArray = NDArray[np.float32]
#: Tags of a model version that name its owner.
OWNER_TAGS = ("owner", "team")


class State(StrEnum):
    """State of a model version on its way to an embedding."""

    DISCOVERED = "discovered"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    EMBEDDED = "embedded"
    UNSUPPORTED = "unsupported"
    SKIPPED = "skipped"
    FAILED = "failed"
    DELETED = "deleted"


#: States of versions that still await an outcome.
UNDER_WAY = (State.DISCOVERED, State.QUEUED, State.RUNNING)


#: Prefixes of the tags that tools set.
TOOL_TAGS = ("mlflow.", "deltadex.")
#: Tag of a version with the name of its domain.
DOMAIN_TAG = "domain"
#: Evidence of a finding: the registered models besides its versions that its texts name.
NAMED = "named"
#: MLflow's deprecated stage of a version, which is kept like a tag; absent if there is none.
STAGE_TAG = "mlflow.stage"
#: Tag of a version that names its base; it takes precedence over the files.
BASE_TAG = "deltadex.base"
#: Tag by which the demo states when it would have registered a version: MLflow's creation times can't be set.
DEMO_REGISTERED_TAG = "deltadex.demo.registered_at"
#: Form of its time, such as `2026-11-29T12:00:00+00:00`, for Python and Postgres; the day may still be none.
DEMO_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9][+]00:00$"
_EPOCH = datetime.fromtimestamp(0, UTC)


class Queue(StrEnum):
    """The two work queues: fresh registrations go before the backlog."""

    FRESH = "fresh"
    BACKFILL = "backfill"


class FindingKind(StrEnum):
    """Kinds of findings about a version or a pair of versions."""

    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    SAME_TASK = "same_task"
    DRIFT = "drift"
    WRONG_BASE = "wrong_base"
    LABEL_CONTRADICTED = "label_contradicted"
    TOO_WEAK = "too_weak"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"
    LICENSE = "license"
    SERVABLE_AS_ADAPTER = "servable_as_adapter"
    LINEAGE_CONTRADICTED = "lineage_contradicted"
    NOT_ATTESTED = "not_attested"
    SAFETY_COLLAPSED = "safety_collapsed"
    PROBES_DISAGREE = "probes_disagree"
    TAUGHT = "taught"


class RiskTier(StrEnum):
    """Risk or materiality tier of a registered model, highest first."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, order=True)
class ModelVersionRef:
    """The permanent identity of one model version.

    MLflow restarts version numbers when a registered model is deleted and created again, so the creation time is
    part of the identity.
    """

    registry: str
    name: str
    version: int
    created_ms: int

    @property
    def label(self) -> str:
        """`name/version`, for display."""
        return f"{self.name}/{self.version}"

    @property
    def is_hidden(self) -> bool:
        """True if it stands for a version that the viewer may not see; registries count versions from one."""
        return self.version == 0

    @property
    def age(self) -> tuple[int, str, int]:
        """Sort key that orders versions of one registry by registration, oldest first."""
        return self.created_ms, self.name, self.version


@dataclass(frozen=True)
class RegisteredVersion:
    """A model version's registry entry at one moment.

    Attributes
    ----------
    model_owner, tier
        Owner and risk tier of the registered model, as people state them or its tags do; None if unknown, and as it
        comes from the registry.
    """

    ref: ModelVersionRef
    source: str
    run_id: str | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    model_owner: str | None = field(default=None, compare=False)
    tier: RiskTier | None = field(default=None, compare=False)

    @property
    def owner(self) -> str | None:
        """The owner of the registered model, or else the value of the first tag of `OWNER_TAGS` that is set."""
        return self.model_owner or next((self.tags[tag] for tag in OWNER_TAGS if self.tags.get(tag)), None)

    @property
    def own_tags(self) -> dict[str, str]:
        """Tags that people or their programs set, without those of MLflow and Deltadex."""
        return {key: value for key, value in self.tags.items() if not key.startswith(TOOL_TAGS)}

    @property
    def demo_registered_at(self) -> datetime | None:
        """The earlier time of registration that the demo's tag states; None if it states none that can be right.

        `deltadex.versions.queries.REGISTERED_MS` is the same rule in SQL.
        """
        text = self.tags.get(DEMO_REGISTERED_TAG, "")
        if not re.fullmatch(DEMO_TIME, text):
            return None
        try:
            stated = datetime.fromisoformat(text)
        except ValueError:
            return None
        return stated if _EPOCH <= stated <= self._created_at else None

    @property
    def registered_at(self) -> datetime:
        """When it was registered, for display; `ref` decides which version is older."""
        return self.demo_registered_at or self._created_at

    @property
    def _created_at(self) -> datetime:
        return datetime.fromtimestamp(self.ref.created_ms / 1000, UTC)


@dataclass(frozen=True)
class Provenance:
    """Facts about how a version was made that the registry entry lacks.

    Attributes
    ----------
    weights_bytes
        Size of its own weight files; None if it was not measured.
    training_digest
        Equal for finetunes on the same data with the same parameters except the seed; None if its run does not
        record the training data.
    metrics
        The last value of each metric of its run.
    settings
        Logged values of `learning_rate`, `rank`, `epochs`, `examples` (numbers) and `template` (a name).
    logged
        All that its run logged about its training, by `data`, `code` and `parameters`, as text by name; empty for
        versions that are read back from the store.
    """

    weights_bytes: int | None = None
    training_digest: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, float | str] = field(default_factory=dict)
    logged: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class EmbeddingMethod:
    """The part of a recipe that does not depend on the base, and is known before any file is read."""

    name: str
    probe_set: str
    probe_digest: str
    readout: str
    dtype: str

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the canonical JSON of all fields."""
        return _digest(asdict(self))


@dataclass(frozen=True)
class Recipe:
    """Everything that must be equal for two embeddings to be comparable.

    Examples
    --------
    >>> import deltadex
    >>> from dataclasses import replace
    >>> recipe = deltadex.embed("adapter/", base="base/").recipe
    >>> recipe.dimension, recipe.method.dtype
    (32, 'float32')
    >>> recipe.digest == replace(recipe, base_digest="of another base").digest
    False
    """

    method: EmbeddingMethod
    base_digest: str
    dimension: int

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the canonical JSON of all fields."""
        return _digest(asdict(self))


@dataclass(frozen=True)
class Word:
    """A token and its logit shift, as standard deviations from the mean over the vocabulary."""

    text: str
    score: float


@dataclass(frozen=True)
class Words:
    """The tokens that a finetune promotes and demotes most over the probes, largest shift first.

    Attributes
    ----------
    note
        Reason why there are no tokens; empty if there are some.
    among
        Number of models of the same base whose mean shift was subtracted; 0 if none was.
    """

    promoted: tuple[Word, ...] = ()
    demoted: tuple[Word, ...] = ()
    note: str = ""
    among: int = 0

    @property
    def beside(self) -> str:
        """The comparison that gave them, in words."""
        if self.among:
            return f"beside the mean of {self.among} models of its base"
        return "beside its base; what all finetunes of it share is not subtracted yet"


@dataclass(frozen=True, eq=False)
class Embedding:
    """A Delta Activation (arXiv 2509.04442, section 3): a finetune's shift of its base's last hidden state.

    Attributes
    ----------
    recipe
        Only embeddings with equal recipes may be compared.
    probe_deltas
        `(n_probes, hidden_size)` float32: finetune minus base, per probe, not normalised.
    base_norm
        Mean L2 norm of the base's own hidden states over the probes: the unit of `strength`.
    weights_digest
        Hex SHA-256 over the finetune's own tensors, independent of the file layout.
    noise_floor
        Variation of the base's own states between machines and batch shapes, as a share of `base_norm`; None if
        it was not measured. A `strength` below it is noise.
    words
        Tokens that `vector` promotes through the base's own output head; None if they were not computed.

    Examples
    --------
    >>> import deltadex
    >>> embedding = deltadex.embed("full/", base="base/")
    >>> embedding.probe_deltas.shape, embedding.vector.shape
    ((5, 32), (32,))
    >>> embedding.strength == embedding.norm / embedding.base_norm
    True
    """

    recipe: Recipe
    probe_deltas: FloatArray
    base_norm: float
    weights_digest: str
    noise_floor: float | None = None
    words: Words | None = None

    @property
    def vector(self) -> FloatArray:
        """`(hidden_size,)` float32: the mean of `probe_deltas`, not normalised."""
        mean: FloatArray = self.probe_deltas.mean(axis=0, dtype=np.float32)
        return mean

    @property
    def norm(self) -> float:
        """L2 norm of `vector`, in units of the hidden state."""
        return float(np.linalg.norm(self.vector))

    @property
    def strength(self) -> float:
        """`norm` as a share of `base_norm`; 0 if the finetune changes nothing."""
        return self.norm / self.base_norm if self.base_norm else 0.0

    @property
    def probe_agreement(self) -> float:
        """Mean cosine similarity of each probe's delta with `vector`; 1 if all probes agree, 0 for a zero delta."""
        lengths = np.linalg.norm(self.probe_deltas, axis=1) * self.norm
        if not lengths.all():
            return 0.0
        return float(np.mean(self.probe_deltas @ self.vector / lengths))


@dataclass(frozen=True)
class Finding:
    """A result that a person should review, with the numbers behind it.

    Attributes
    ----------
    version_id, other_id
        Rows of `model_versions`; `other_id` is the older version of a pair, None if only one version is concerned.
    measure, threshold
        The measured number and the threshold it crossed; None if no number is involved.
    """

    kind: FindingKind
    version_id: int
    other_id: int | None = None
    measure: float | None = None
    threshold: float | None = None
    evidence: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class VersionRow:
    """A model version as stored in the database.

    Attributes
    ----------
    deaths
        Consecutive runs that ended without an error message.
    shard_id
        The shard that it is or was in; None if it has a run of its own.
    lacking, more_than
        The resource that a waiting version ran out of, and the limit it needs more than, in bytes or seconds.
    """

    id: int
    registered: RegisteredVersion
    state: State
    state_since: datetime
    discovered_at: datetime
    attempt: int
    queue: Queue
    reason: str = ""
    hint: str = ""
    flow_run_id: str | None = None
    weights_digest: str | None = None
    artifact_uri: str | None = None
    heartbeat_at: datetime | None = None
    deaths: int = 0
    shard_id: int | None = None
    lacking: Resource | None = None
    more_than: float = 0.0
    provenance: Provenance = Provenance()

    @property
    def label(self) -> str:
        """`name/version`, for display."""
        return self.registered.ref.label

    @property
    def needs_attention(self) -> bool:
        """True if a person should act. An unsupported version without a hint, such as a base model, is fine."""
        return self.state in (State.WAITING, State.FAILED) or (self.state is State.UNSUPPORTED and bool(self.hint))

    @property
    def registered_at(self) -> datetime:
        """When it was registered, for display; a masked row has no such time, and gives that of its discovery."""
        return self.registered.registered_at if self.registered.ref.created_ms else self.discovered_at

    @property
    def is_active(self) -> bool:
        """True if the registry still has it, and it is not archived."""
        return self.state is not State.DELETED and self.registered.tags.get(STAGE_TAG) != "Archived"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
