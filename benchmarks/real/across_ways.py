"""Ways of comparing finetunes of two bases: from readings to one common space. Pure functions of readings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.across_pools import Read
from benchmarks.real.texts import Role
from deltadex.across.texts import MEANING_TEXTS
from deltadex.vectors import unit_vectors

Matrix = NDArray[np.float64]
#: Vectors of the finetunes of two bases in one space, `(n, d)` and `(m, d)`, of what was read of each. Nothing in it
#: may depend on domains. What is read of `TRAIN` domains' finetunes comes third and fourth: other models of the bases.
Way = Callable[[Read, Read], tuple[Matrix, Matrix]]

_BYTES = np.array([len(one.continuation.encode()) for one in MEANING_TEXTS.texts], dtype=float)


@dataclass(frozen=True)
class Centring:
    """What is subtracted from, and divided out of, a base's vectors before they are compared.

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


def meaning(centring: Centring, *, per_byte: bool = True, texts: NDArray[np.bool_] | None = None) -> Way:
    """Compare likelihoods of fixed texts."""

    def compare(one: Read, other: Read) -> tuple[Matrix, Matrix]:
        first, second = (_meaning(each, per_byte=per_byte) for each in (one, other))
        kept = slice(None) if texts is None else texts
        return centring(first[:, kept]), centring(second[:, kept])

    return compare


def _meaning(read: Read, *, per_byte: bool) -> Matrix:
    return read.readings["meaning"].astype(float) / (_BYTES if per_byte else 1.0)


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


def by_models(centring: Centring) -> Way:
    """Compare each finetune's similarities to the finetunes of the train domains, which both bases have.

    The relative representations of arXiv 2209.15430, with finetunes as anchors.
    """

    def compare(one: Read, other: Read) -> tuple[Matrix, Matrix]:
        return centring(_relative(one)), centring(_relative(other))

    return compare


def _relative(read: Read) -> Matrix:
    anchors = read.of(Role.TRAIN)
    mean = unit_vectors(read.readings["content"]).mean(0)
    own, known = (unit_vectors(unit_vectors(each.readings["content"]) - mean) for each in (read, anchors))
    names = sorted({one.domain for one in anchors.models})
    directions = [known[[one.domain == name for one in anchors.models]].mean(0) for name in names]
    return np.asarray(own @ unit_vectors(np.array(directions)).T)


Ways = Mapping[str, Way]
