"""The middle scale: whether models that are tagged or used together also do similar things.

Two partitions of the same models are compared (arXiv 2410.19750, section 4): one by what they carry, one by what they
do (the angle between their embeddings, by spectral clustering). What they carry is taken as a whole (the phi
coefficient of their tags and aliases, by spectral clustering as well), and key by key: three independent tags make no
lobes together, while one of them alone may say it all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import laplacian
from scipy.special import entr, rel_entr
from scipy.stats import false_discovery_control
from sklearn.cluster import SpectralClustering
from sklearn.metrics.cluster import expected_mutual_information

from deltadex.analysis.geometry.chance import (
    SEED,
    SIGNIFICANT,
    Measured,
    Refusal,
    content_order,
    generator,
    measured,
)
from deltadex.analysis.similarity import cosine_similarity, unit_vectors

#: What kind of thing is carried, such as `tag domain`, and its value: a tag, an alias, a use, an evaluation.
Item = tuple[str, str]

ALL_ITEMS = "all that they carry"
#: From here on planted lobes were found (tests/analysis/geometry/test_lobes.py).
FEWEST_MODELS = 15
_FEWEST_LOBES, _MOST_LOBES = 2, 10
#: Models per group, at least, on average.
_MODELS_PER_GROUP = 3
_DRAWS = 999
#: Affinity of two models that share nothing, so that no part of the graph is cut off.
_NOTHING_SHARED = 0.01
_WORDS = ((0.6, "nearly"), (0.3, "roughly"), (0.1, "a little"), (-1.0, "hardly"))

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Lobes:
    """How far the groups by one thing that models carry, and the groups by behaviour, are the same.

    Attributes
    ----------
    name
        A key, or `ALL_ITEMS`.
    models, groups
        How many models, in how many groups: a key's values, or the largest gap in the spectrum of what models share.
    agreement
        Adjusted mutual information of the two partitions: 1 where they are the same, near 0 by chance.
    adjusted_p
        Its p-value, corrected for all that was asked about (Benjamini and Hochberg 1995).
    """

    name: str
    models: int
    groups: int
    agreement: Measured
    adjusted_p: float

    @property
    def is_found(self) -> bool:
        """Whether the agreement is more than chance; its size says whether it matters."""
        return self.adjusted_p <= SIGNIFICANT

    @property
    def meaning(self) -> str:
        """Say in a sentence what it means for the registry."""
        numbers = (
            f"agreement {self.agreement.value:.2f} of 1, {self.models} models, corrected p = {self.adjusted_p:.3f}"
        )
        if not self.is_found:
            return f"Models don't sit together by {self.name} ({numbers})."
        how = next(word for least, word in _WORDS if self.agreement.value >= least)
        return f"Models sit together {how} as {self.name} says ({numbers})."


def lobes(vectors: ArrayLike, items: Sequence[Collection[Item]]) -> tuple[Lobes | Refusal, ...]:
    """Compare what models carry with what they do: everything together first, then key by key.

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe, one row for each registered model. Their order changes nothing.
    items
        What each model carries. What one model alone or all of them carry joins none; keys without any other item are
        not asked about.
    """
    units = unit_vectors(vectors)
    names = ["\0".join(f"{key}\0{value}" for key, value in sorted(each)) for each in items]
    order = content_order(units, names=names)
    units, carried = units[order], _Carried.by([items[row] for row in order])
    found = [_together(units, carried), *(_by_key(units, carried, key) for key in carried.keys)]
    answered = [one for one in found if isinstance(one, Lobes)]
    adjusted = iter(false_discovery_control([one.agreement.p_value for one in answered]) if answered else ())
    return tuple(replace(one, adjusted_p=float(next(adjusted))) if isinstance(one, Lobes) else one for one in found)


@dataclass(frozen=True, eq=False)
class _Carried:
    """Who carries what: `matrix` is `(n, len(items))`."""

    items: tuple[Item, ...]
    matrix: NDArray[np.bool_]

    @classmethod
    def by(cls, items: Sequence[Collection[Item]]) -> _Carried:
        counts = Counter(item for each in items for item in set(each))
        kept = sorted(item for item, count in counts.items() if 1 < count < len(items))
        matrix = np.array([[item in set(each) for item in kept] for each in items], dtype=bool)
        return cls(tuple(kept), matrix.reshape(len(items), len(kept)))

    @property
    def keys(self) -> list[str]:
        return sorted({key for key, _ in self.items})

    def of(self, key: str) -> NDArray[np.bool_]:
        """Return the columns of one key."""
        return self.matrix[:, [place for place, item in enumerate(self.items) if item[0] == key]]


def _together(units: Matrix, carried: _Carried) -> Lobes | Refusal:
    inside = carried.matrix.any(axis=1)
    if inside.sum() < FEWEST_MODELS:
        return Refusal(ALL_ITEMS, "models that share one", int(inside.sum()), FEWEST_MODELS)
    shared = _shared(carried.matrix[inside])
    count = _lobe_count(shared)
    return _compared(ALL_ITEMS, _partition(shared, count), _partition(_alike(units[inside]), count))


def _by_key(units: Matrix, carried: _Carried, key: str) -> Lobes | Refusal:
    columns = carried.of(key)
    inside = columns.any(axis=1)
    values, labels = np.unique(columns[inside], axis=0, return_inverse=True)
    needed = max(FEWEST_MODELS, _MODELS_PER_GROUP * len(values))
    if len(labels) < needed:
        return Refusal(key, "models that share a value of it", len(labels), needed)
    if len(values) < _FEWEST_LOBES:
        return Refusal(key, "values that models share", len(values), _FEWEST_LOBES)
    return _compared(key, labels.astype(np.int64), _partition(_alike(units[inside]), len(values)))


def _compared(name: str, carrying: Labels, behaving: Labels) -> Lobes:
    agreement = _agreement(carrying, behaving)
    return Lobes(name, len(carrying), len(np.unique(carrying)), agreement, adjusted_p=agreement.p_value)


def _shared(carried: NDArray[np.bool_]) -> Matrix:
    """Return `(n, n)` phi coefficients between models over the items; negative ones are nothing shared."""
    centred = carried - carried.mean(axis=1, keepdims=True)
    phi: Matrix = np.maximum(cosine_similarity(centred), 0.0)
    return _NOTHING_SHARED + (1 - _NOTHING_SHARED) * phi


def _alike(units: Matrix) -> Matrix:
    """Return `(n, n)` affinities: 1 less the angle between two models around the mean, in half turns."""
    affinity: Matrix = 1 - np.arccos(cosine_similarity(units - units.mean(axis=0))) / np.pi
    return affinity


def _lobe_count(affinity: Matrix) -> int:
    """Return after how many eigenvalues of the normalised Laplacian the largest gap is (von Luxburg 2007)."""
    values = np.linalg.eigvalsh(laplacian(affinity, normed=True))
    most = min(_MOST_LOBES, len(affinity) // _MODELS_PER_GROUP)
    return _FEWEST_LOBES + int(np.argmax(np.diff(values)[_FEWEST_LOBES - 1 : most]))


def _partition(affinity: Matrix, count: int) -> Labels:
    clustering = SpectralClustering(count, affinity="precomputed", assign_labels="cluster_qr", random_state=SEED)
    found: Labels = clustering.fit_predict(affinity).astype(np.int64)
    return found


def _agreement(carrying: Labels, behaving: Labels) -> Measured:
    """Return the adjusted mutual information (Vinh, Epps and Bailey 2010), and that of permuted labels.

    Permuting changes neither the groups' sizes nor what is adjusted by, so all draws are one product of indicators.
    """
    one, other = _indicators(carrying), _indicators(behaving)
    random = generator()
    permuted = np.stack([other, *(random.permutation(other) for _ in range(_DRAWS))])
    information = _mutual_information(one.T @ permuted / len(one))
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
