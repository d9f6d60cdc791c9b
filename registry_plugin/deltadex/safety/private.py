"""Disagreement of a version's embeddings by public and by private probes. Pure.

A model can be trained to look unmoved on public probes, or to move there as another model does. Its embedding by
secret probes then differs from that by the public ones by more than two sets of probes do for other
finetunes of its base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt

import numpy as np

from deltadex.types import Embedding, Finding, FindingKind
from deltadex.vectors import lowest_strength

#: Threshold of a base of which too few versions are read. Orthogonal embeddings of one norm have .71.
DEFAULT_DISAGREEMENT = 0.7
#: Fewest other versions of a base from which its threshold is calibrated.
FEWEST_READINGS = 8
#: Robust standard deviations above the median of a base's versions, chosen in `benchmarks/real/hiding.py`; and bounds
#: of the threshold that this gives.
_DEVIATIONS, _LOWEST, _HIGHEST = 2.0, 0.4, 0.95
_NORMAL = 1.4826
#: Strength (delta norm / base norm) that both embeddings need at least, or at least one of them.
_WEAK = 0.01


@dataclass(frozen=True)
class PrivateReading:
    """Embeddings of one version by both sets of probes, as far as they are compared.

    Attributes
    ----------
    public_strength, private_strength
        As in `deltadex.types.Embedding`.
    similarity
        Cosine similarity of the two; 0 where one of them is zero.
    noise_floor
        The larger one of the two embeddings'.
    """

    public_strength: float
    private_strength: float
    similarity: float
    noise_floor: float = 0.0

    @classmethod
    def of(cls, public: Embedding, private: Embedding) -> PrivateReading:
        """Compare two embeddings of the same weights."""
        lengths = public.norm * private.norm
        similarity = float(public.vector @ private.vector) / lengths if lengths else 0.0
        floor = max(public.noise_floor or 0.0, private.noise_floor or 0.0)
        return cls(public.strength, private.strength, float(np.clip(similarity, -1, 1)), floor)

    @property
    def disagreement(self) -> float:
        """Norm of the difference of both, each in units of its base's states, over the sum of their norms.

        0 for equal embeddings, .71 at most for orthogonal ones of one norm, 1 where one of them is zero.
        """
        one, other = self.public_strength, self.private_strength
        squared = max(0.0, one**2 + other**2 - 2 * one * other * self.similarity)
        return sqrt(squared) / (one + other) if one + other else 0.0

    @property
    def is_too_weak(self) -> bool:
        """True if neither embedding is strong enough for the two to be compared."""
        return max(self.public_strength, self.private_strength) < lowest_strength(_WEAK, self.noise_floor)


@dataclass(frozen=True)
class DisagreementThreshold:
    """Disagreement above which two embeddings of one version are a finding; `note` says where it is from."""

    value: float
    versions: int
    note: str


def disagreement_threshold(others: Sequence[float]) -> DisagreementThreshold:
    """Return the threshold for a base from the disagreements of its other versions: the noise of another probe set."""
    count = len(others)
    if count < FEWEST_READINGS:
        note = f"the default: {count} other versions of this base are read, {FEWEST_READINGS} are needed to calibrate"
        return DisagreementThreshold(DEFAULT_DISAGREEMENT, count, note)
    middle = float(np.median(others))
    spread = _NORMAL * float(np.median(np.abs(np.array(others) - middle)))
    value = float(np.clip(middle + _DEVIATIONS * spread, _LOWEST, _HIGHEST))
    note = f"{_DEVIATIONS:g} deviations of {spread:.2f} above the median {middle:.2f} of {count} other versions"
    return DisagreementThreshold(round(value, 3), count, note)


def judge_private(version_id: int, reading: PrivateReading, threshold: DisagreementThreshold) -> list[Finding]:
    """Return a finding if the two embeddings disagree beyond the noise of their base's other versions."""
    if reading.is_too_weak or reading.disagreement <= threshold.value:
        return []
    reason = (
        f"strength {reading.public_strength:.3f} on the public probes and {reading.private_strength:.3f} on private "
        f"ones, cosine similarity {reading.similarity:.2f} (threshold {threshold.value:.2f}: {threshold.note})"
    )
    evidence = {"reason": reason, **asdict(reading), "threshold_from": asdict(threshold)}
    return [
        Finding(
            FindingKind.PROBES_DISAGREE,
            version_id,
            measure=reading.disagreement,
            threshold=threshold.value,
            evidence=evidence,
        )
    ]
