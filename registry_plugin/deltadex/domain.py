"""The values everything else speaks in. No I/O, no clock, no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from deltadex.errors import Resource

FloatArray = NDArray[np.float32]
#: Tags of a model version that say whose it is.
OWNER_TAGS = ("owner", "team")


class State(StrEnum):
    """Where a model version stands on its way to an embedding."""

    DISCOVERED = "discovered"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    EMBEDDED = "embedded"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    DELETED = "deleted"


#: What a worker has yet to end.
UNDER_WAY = (State.DISCOVERED, State.QUEUED, State.RUNNING)


class Queue(StrEnum):
    """The two work queues: what was just registered goes before what lay there already."""

    FRESH = "fresh"
    BACKFILL = "backfill"


class FindingKind(StrEnum):
    """What a person should know about a version, or about a pair of versions."""

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


@dataclass(frozen=True, order=True)
class ModelVersionRef:
    """One model version, for good.

    MLflow restarts version numbers when a registered model is deleted and made again, so the creation time
    belongs to the identity.
    """

    registry: str
    name: str
    version: int
    created_ms: int

    @property
    def label(self) -> str:
        """`name/version`, as people write it."""
        return f"{self.name}/{self.version}"

    @property
    def age(self) -> tuple[int, str, int]:
        """What versions of one registry are put into the order of their registration by, the oldest first."""
        return self.created_ms, self.name, self.version


@dataclass(frozen=True)
class RegisteredVersion:
    """What the registry says about one model version at one moment."""

    ref: ModelVersionRef
    source: str
    run_id: str | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @property
    def owner(self) -> str | None:
        """Whose it is, by the first tag of `OWNER_TAGS` that it has."""
        return next((self.tags[tag] for tag in OWNER_TAGS if self.tags.get(tag)), None)


@dataclass(frozen=True)
class Provenance:
    """What is known about how a version was made, besides what the registry says.

    Attributes
    ----------
    weights_bytes
        Size of its own weight files; None where nobody looked.
    training_digest
        Equal for finetunes of the same data under the same parameters but for the seed; None where its run does not
        say what it was trained on.
    metrics
        The last value of each metric of its run.
    settings
        What its run logged of `learning_rate`, `rank`, `epochs`, `examples` (numbers) and `template` (a name).
    """

    weights_bytes: int | None = None
    training_digest: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class EmbeddingMethod:
    """How embeddings are made, whatever the base: the part of a recipe that is known before any file is read."""

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
    """Everything that must be equal for two embeddings to be comparable."""

    method: EmbeddingMethod
    base_digest: str
    dimension: int

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the canonical JSON of all fields."""
        return _digest(asdict(self))


@dataclass(frozen=True)
class Word:
    """A token, and how far its logit is moved: in standard deviations over the vocabulary, from its mean."""

    text: str
    score: float


@dataclass(frozen=True)
class Words:
    """The tokens that a finetune promotes and demotes most where an answer begins, the furthest first.

    Attributes
    ----------
    note
        Why there are none, where there are none.
    """

    promoted: tuple[Word, ...] = ()
    demoted: tuple[Word, ...] = ()
    note: str = ""


@dataclass(frozen=True, eq=False)
class Embedding:
    """A Delta Activation (arXiv 2509.04442, section 3): how a finetune shifts its base's last hidden state.

    Attributes
    ----------
    recipe
        What it may be compared with: embeddings of an equal recipe, nothing else.
    probe_deltas
        `(n_probes, hidden_size)` float32: finetune minus base, per probe, not normalised.
    base_norm
        Mean L2 norm of the base's own hidden states over the probes: the unit for `strength`.
    weights_digest
        Hex SHA-256 over the finetune's own tensors, whatever the file layout.
    noise_floor
        How far the base's own states move between machines and batch shapes, as a share of `base_norm`; None where
        nobody measured it. A `strength` below it means nothing.
    words
        What `vector` says through the base's own output head; None where nobody asked.
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
        """`norm` as a share of the base's own hidden state norm; 0 where the finetune changes nothing."""
        return self.norm / self.base_norm if self.base_norm else 0.0

    @property
    def probe_agreement(self) -> float:
        """Mean cosine similarity of each probe's delta with `vector`; 1 where all probes agree, 0 for a zero delta."""
        lengths = np.linalg.norm(self.probe_deltas, axis=1) * self.norm
        if not lengths.all():
            return 0.0
        return float(np.mean(self.probe_deltas @ self.vector / lengths))


@dataclass(frozen=True)
class Finding:
    """One thing that a person should look at, with the numbers it rests on.

    Attributes
    ----------
    version_id, other_id
        Rows of `model_versions`; `other_id` is the one of a pair that was registered first, None where only one version
        is concerned.
    measure, threshold
        The number that was found and the threshold it crossed; None where no number is involved.
    """

    kind: FindingKind
    version_id: int
    other_id: int | None = None
    measure: float | None = None
    threshold: float | None = None
    evidence: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class VersionRow:
    """One model version as the store holds it.

    Attributes
    ----------
    deaths
        Runs in a row that ended without saying why.
    lacking, more_than
        What a waiting version needs more of than it was given, in bytes or seconds.
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
    lacking: Resource | None = None
    more_than: float = 0.0
    provenance: Provenance = Provenance()

    @property
    def label(self) -> str:
        """`name/version`, as people write it."""
        return self.registered.ref.label


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
