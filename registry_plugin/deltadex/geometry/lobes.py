"""Lobes, the middle scale: agreement between groups of models by tag or alias and groups by behaviour.

Two partitions of the same models are compared (arXiv 2410.19750, section 4): one by labels (tags and aliases), one by
behaviour (the angle between embeddings, by spectral clustering). Labels are used all together (the phi coefficient of
tags and aliases, by spectral clustering as well) and key by key: three independent tags form no lobes together, while
a single one of them may explain the behaviour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import laplacian
from scipy.special import entr, rel_entr

from deltadex.geometry.chance import (
    SEED,
    SIGNIFICANT,
    NumberByChance,
    Refusal,
    adjusted_for_their_number,
    content_order,
    generator,
    measured,
)
from deltadex.vectors import cosine_similarity, unit_vectors

#: The key of a label, such as `tag domain`, and its value.
Item = tuple[str, str]

ALL_ITEMS = "all tags and aliases"
#: With this many models planted lobes were found (tests/geometry/test_lobes.py).
FEWEST_MODELS = 15
_FEWEST_LOBES, _MOST_LOBES = 2, 10
#: Minimum of the mean number of models per group.
_MODELS_PER_GROUP = 3
_DRAWS = 999
#: Affinity of two models that share nothing; it keeps the graph connected.
_NOTHING_SHARED = 0.01
#: Lower bound of the agreement, and the adverb for it.
_ADVERBS = ((0.6, "closely"), (0.3, "roughly"), (0.1, "slightly"), (-1.0, "barely"))

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Lobes:
    """Agreement between the groups by one label and the groups by behaviour.

    Attributes
    ----------
    name
        A key, or `ALL_ITEMS`.
    models, groups
        Number of models and of groups. The groups are the values of a key; for `ALL_ITEMS` their number is where the
        spectrum of shared labels has its largest gap.
    agreement
        Adjusted mutual information of the two partitions: 1 for equal partitions, near 0 by chance.
    adjusted_p
        Its p-value, corrected for the number of keys (Benjamini and Hochberg 1995).
    """

    name: str
    models: int
    groups: int
    agreement: NumberByChance
    adjusted_p: float

    @property
    def is_found(self) -> bool:
        """True if the agreement is significant, whatever its size."""
        return self.adjusted_p <= SIGNIFICANT

    @property
    def meaning(self) -> str:
        """One sentence on what the result means for the registry."""
        numbers = (
            f"agreement {self.agreement.value:.2f} of 1, {self.models} models, corrected p = {self.adjusted_p:.3f}"
        )
        if not self.is_found:
            return f"Groups by {self.name} do not match groups by behaviour ({numbers})."
        adverb = next(word for least, word in _ADVERBS if self.agreement.value >= least)
        return f"Groups by {self.name} {adverb} match groups by behaviour ({numbers})."


def lobes(vectors: ArrayLike, items: Sequence[Collection[Item]]) -> tuple[Lobes | Refusal, ...]:
    """Compare labels with behaviour: all labels together first, then key by key.

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe, one row per registered model. The result does not depend on their order.
    items
        The labels of each model. Labels of only one model or of all models are ignored, and so are keys without any
        other label.
    """
    units = unit_vectors(vectors)
    names = ["\0".join(f"{key}\0{value}" for key, value in sorted(each)) for each in items]
    order = content_order(units, names=names)
    units, labels = units[order], _LabelMatrix.of_items([items[row] for row in order])
    found = [_together(units, labels), *(_by_key(units, labels, key) for key in labels.keys)]
    answers = [one for one in found if isinstance(one, Lobes)]
    adjusted = iter(adjusted_for_their_number([one.agreement.p_value for one in answers]))
    return tuple(replace(one, adjusted_p=next(adjusted)) if isinstance(one, Lobes) else one for one in found)


@dataclass(frozen=True, eq=False)
class _LabelMatrix:
    """Labels by model: `matrix` is `(n, len(items))`."""

    items: tuple[Item, ...]
    matrix: NDArray[np.bool_]

    @classmethod
    def of_items(cls, items: Sequence[Collection[Item]]) -> _LabelMatrix:
        counts = Counter(item for each in items for item in set(each))
        shared = sorted(item for item, count in counts.items() if 1 < count < len(items))
        matrix = np.array([[item in set(each) for item in shared] for each in items], dtype=bool)
        return cls(tuple(shared), matrix.reshape(len(items), len(shared)))

    @property
    def keys(self) -> list[str]:
        return sorted({key for key, _ in self.items})

    def columns(self, key: str) -> NDArray[np.bool_]:
        """Return the columns of one key."""
        return self.matrix[:, [column for column, item in enumerate(self.items) if item[0] == key]]


def _together(units: Matrix, labels: _LabelMatrix) -> Lobes | Refusal:
    inside = labels.matrix.any(axis=1)
    if inside.sum() < FEWEST_MODELS:
        return Refusal(ALL_ITEMS, "models that share one", int(inside.sum()), FEWEST_MODELS)
    affinity = _label_affinity(labels.matrix[inside])
    count = _lobe_count(affinity)
    return _compare(ALL_ITEMS, _partition(affinity, count), _partition(_behaviour_affinity(units[inside]), count))


def _by_key(units: Matrix, labels: _LabelMatrix, key: str) -> Lobes | Refusal:
    columns = labels.columns(key)
    inside = columns.any(axis=1)
    values, groups = np.unique(columns[inside], axis=0, return_inverse=True)
    needed = max(FEWEST_MODELS, _MODELS_PER_GROUP * len(values))
    if len(groups) < needed:
        return Refusal(key, "models that share a value of it", len(groups), needed)
    if len(values) < _FEWEST_LOBES:
        return Refusal(key, "values that models share", len(values), _FEWEST_LOBES)
    return _compare(key, groups.astype(np.int64), _partition(_behaviour_affinity(units[inside]), len(values)))


def _compare(name: str, by_label: Labels, by_behaviour: Labels) -> Lobes:
    agreement = _agreement(by_label, by_behaviour)
    return Lobes(name, len(by_label), len(np.unique(by_label)), agreement, adjusted_p=agreement.p_value)


def _label_affinity(matrix: NDArray[np.bool_]) -> Matrix:
    """Return `(n, n)` affinities: phi coefficients between models over the labels, negative ones as 0."""
    centred = matrix - matrix.mean(axis=1, keepdims=True)
    phi: Matrix = np.maximum(cosine_similarity(centred), 0.0)
    return _NOTHING_SHARED + (1 - _NOTHING_SHARED) * phi


def _behaviour_affinity(units: Matrix) -> Matrix:
    """Return `(n, n)` affinities: 1 less the angle between two models around the mean, in half turns."""
    affinity: Matrix = 1 - np.arccos(cosine_similarity(units - units.mean(axis=0))) / np.pi
    return affinity


def _lobe_count(affinity: Matrix) -> int:
    """Return the number of eigenvalues of the normalised Laplacian before their largest gap (von Luxburg 2007)."""
    values = np.linalg.eigvalsh(laplacian(affinity, normed=True))
    most = min(_MOST_LOBES, len(affinity) // _MODELS_PER_GROUP)
    return _FEWEST_LOBES + int(np.argmax(np.diff(values)[_FEWEST_LOBES - 1 : most]))


def _partition(affinity: Matrix, count: int) -> Labels:
    from sklearn.cluster import SpectralClustering  # large: the watcher, which only asks what is due, does without it

    clustering = SpectralClustering(count, affinity="precomputed", assign_labels="cluster_qr", random_state=SEED)
    found: Labels = clustering.fit_predict(affinity).astype(np.int64)
    return found


def _agreement(by_label: Labels, by_behaviour: Labels) -> NumberByChance:
    """Return the adjusted mutual information (Vinh, Epps and Bailey 2010) with its null of permuted labels.

    Permuting changes neither the sizes of groups nor the adjustment, so that all draws are one product of indicators.
    """
    one, other = _indicators(by_label), _indicators(by_behaviour)
    random = generator()
    permuted = np.stack([other, *(random.permutation(other) for _ in range(_DRAWS))])
    information = _mutual_information(one.T @ permuted / len(one))
    from sklearn.metrics.cluster import expected_mutual_information

    expected = expected_mutual_information((one.T @ other).astype(np.int64), len(one))
    entropy = (_entropy(one.mean(axis=0)) + _entropy(other.mean(axis=0))) / 2
    adjusted = (information - expected) / max(entropy - expected, np.finfo(float).eps)
    return measured(adjusted[0], adjusted[1:])


def _indicators(labels: Labels) -> Matrix:
    indicators: Matrix = (labels[:, None] == np.unique(labels)).astype(np.float64)
    return indicators


def _mutual_information(joint: Matrix) -> Matrix:
    """Return `(k,)` for `(k, a, b)` joint distributions, in nats."""
    independent = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    found: Matrix = rel_entr(joint, independent).sum(axis=(1, 2))
    return found


def _entropy(shares: Matrix) -> float:
    return float(entr(shares).sum())
