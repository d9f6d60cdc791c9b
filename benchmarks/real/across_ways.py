"""Ways of comparing finetunes of two bases: from readings to one common space. Pure functions of readings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.across_pools import Read
from deltadex.across.meaning import comparable
from deltadex.across.texts import MEANING_TEXTS
from deltadex.vectors import unit_vectors

Matrix = NDArray[np.float64]
#: Vectors of the finetunes of two bases in one space, `(n, d)` and `(m, d)`, of what was read of each. Nothing in it
#: may depend on domains. What is read of `TRAIN` domains' finetunes comes third and fourth: other models of the bases.
Way = Callable[[Read, Read], tuple[Matrix, Matrix]]

_BYTES = np.array([len(one.text.encode()) for one in MEANING_TEXTS.texts], dtype=float)
_CUTS = (16, 32, 64, 1_000)


@dataclass(frozen=True)
class Centring:
    """Centre and scale of a base's vectors, taken out before they are compared.

    Attributes
    ----------
    own
        Subtract each vector's own mean over its entries.
    base
        Subtract the mean over the finetunes of the base.
    scale
        Divide each entry by its standard deviation over the finetunes of the base.
    """

    own: bool = False
    base: bool = True
    scale: bool = False

    def __call__(self, vectors: Matrix) -> Matrix:
        """Return centred `(n, d)` vectors of the finetunes of one base."""
        if self.own:
            vectors = vectors - vectors.mean(1, keepdims=True)
        vectors = unit_vectors(vectors)  # a strong finetune must not count more in the mean
        if self.base:
            vectors = vectors - vectors.mean(0)
        if self.scale:
            vectors = vectors / (vectors.std(0) + 1e-12)
        return unit_vectors(vectors)


def meaning(centring: Centring, *, cut: int, per_byte: bool = True, texts: NDArray[np.bool_] | None = None) -> Way:
    """Compare likelihoods of fixed texts.

    Parameters
    ----------
    cut
        Number of the cut up to which a text is read.
    texts
        `(n_texts,)`: those that are read; None for all.
    """

    def compare(one: Read, other: Read) -> tuple[Matrix, Matrix]:
        first, second = (_meaning(each, cut, per_byte=per_byte) for each in (one, other))
        kept = slice(None) if texts is None else texts
        return centring(first[:, kept]), centring(second[:, kept])

    return compare


def _meaning(read: Read, cut: int, *, per_byte: bool) -> Matrix:
    return read.readings["meaning"][:, :, cut].astype(float) / (np.minimum(_BYTES, _CUTS[cut]) if per_byte else 1.0)


def logits(reading: str, centring: Centring, *, tokens: int) -> Way:
    """Compare the next-token shifts of the shared tokens that SmolLM2's vocabulary lists first."""
    return lambda one, other: (
        centring(one.readings[reading][:, :tokens].astype(float)),
        centring(other.readings[reading][:, :tokens].astype(float)),
    )


def mapped(centring: Centring, *, ridge: float) -> Way:
    """Compare Delta Activations, the first base's mapped by a ridge regression between states of anchor texts."""

    def compare(one: Read, other: Read) -> tuple[Matrix, Matrix]:
        source, target = (each.states.astype(float) - each.states.mean(0) for each in (one, other))
        penalty = ridge * np.trace(source.T @ source) / source.shape[1]
        weights = np.linalg.solve(source.T @ source + penalty * np.eye(source.shape[1]), source.T @ target)
        return centring(one.readings["content"] @ weights), centring(other.readings["content"].astype(float))

    return compare


def rotated(centring: Centring) -> Way:
    """Compare Delta Activations, turned into a common space by the singular vectors of the anchors' cross-covariance.

    That is orthogonal Procrustes where both bases have one hidden size, and its reduced form where they do not.
    """

    def compare(one: Read, other: Read) -> tuple[Matrix, Matrix]:
        source, target = (unit_vectors(each.states - each.states.mean(0)) for each in (one, other))
        left, _, right = np.linalg.svd(source.T @ target, full_matrices=False)
        return centring(one.readings["content"] @ left), centring(other.readings["content"] @ right.T)

    return compare


def product(one: Read, other: Read) -> tuple[Matrix, Matrix]:
    """Compare by texts and tokens together, by the product's own function."""
    count = len(one.models), len(other.models)
    texts = np.concatenate([_meaning(each, _WHOLE, per_byte=True) for each in (one, other)])
    tokens = np.concatenate([each.readings["everywhere"] for each in (one, other)])
    bases = ["one"] * count[0] + ["other"] * count[1]
    vectors, _ = comparable(texts.astype(np.float32), tokens, bases, [str(number) for number in range(sum(count))])
    return vectors[: count[0]], vectors[count[0] :]


_BOTH = Centring(own=True, base=True, scale=True)
_WHOLE = 3
_TOKENS = 1024
_MEANING = meaning(_BOTH, cut=_WHOLE)
_LOGITS = logits("everywhere", _BOTH, tokens=_TOKENS)
#: What was chosen on the finetunes of `SELECT` domains, before those of `REUSE` were scored; see `ACROSS_CHOICE`.
WAYS: Mapping[str, Way] = {
    "Delta Meaning": _MEANING,
    "Delta Logits": _LOGITS,
    "meaning and logits, as the product": product,
    "anchor texts, rotated": rotated(Centring()),
    "anchor texts, ridge": mapped(Centring(), ridge=1),
}


def meaning_without(fields: Collection[str]) -> Way:
    """Return Delta Meaning without the texts of some fields: what is left if no text is of a tested domain."""
    kept = np.array([one.field not in fields for one in MEANING_TEXTS.texts], dtype=bool)
    return meaning(_BOTH, cut=_WHOLE, texts=kept)


#: Where a choice was made: 1-NN of 18 on the independent base (six finetunes of SmolLM2, eighteen of the other base).
ACROSS_CHOICE: Mapping[str, int] = {
    "meaning, 32 bytes of each text": 10,
    "meaning, 64 bytes of each text": 12,
    "meaning, whole texts": 13,
    "meaning, whole texts, not divided by the standard deviation": 9,
    "logits after the start of a text": 11,
    "logits after the product's probes": 9,
    "logits at every token of the texts": 15,
    "logits at every token, not divided by the standard deviation": 13,
    "anchor texts, rotated": 12,
    "anchor texts, rotated, divided by the standard deviation": 2,
    "anchor texts, ridge 1": 11,
    "meaning and anchors": 13,
    "meaning and logits": 17,
    "meaning, logits and anchors": 17,
}
