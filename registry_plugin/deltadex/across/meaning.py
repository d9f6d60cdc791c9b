"""Delta Meaning: finetunes of any base as what they make more or less likely, and their similarity across bases.

After the architecture-free variant in arXiv 2509.04442, which takes a model's meaning from the likelihoods of texts
(Liu et al. 2023, arXiv 2310.18348). There the texts are sampled from models; here they are fixed, so that all bases
read the same ones, and a likelihood is divided by the bytes of its text, so that tokenizers don't matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deltadex.across.texts import MEANING_TEXTS, MeaningSet
from deltadex.types import FloatArray
from deltadex.vectors import unit_vectors

#: Fewest registered models of a base whose mean is subtracted; with fewer, what all finetunes share stays in.
FEWEST_MODELS = 3


def shifts(finetune: Sequence[float], base: Sequence[float], texts: MeaningSet = MEANING_TEXTS) -> FloatArray:
    """Return `(n_texts,)` float32: by how much a finetune finds each continuation likelier, in nats per byte.

    Parameters
    ----------
    finetune, base
        `n_texts` negative log-likelihoods of the continuations, in nats.
    """
    lengths = [len(one.continuation.encode()) for one in texts.texts]
    gained = np.asarray(base, dtype=np.float32) - np.asarray(finetune, dtype=np.float32)
    return np.divide(gained, np.array(lengths, dtype=np.float32), dtype=np.float32)


def comparable(
    all_shifts: FloatArray, bases: Sequence[str], models: Sequence[str]
) -> tuple[NDArray[np.float64], frozenset[str]]:
    """Return unit vectors whose scalar products are similarities across bases, and the bases that were not centred.

    The mean over the models of each base is subtracted: all finetunes of a base make some texts likelier, such as those
    that end as training examples do, and other bases share that only in part.

    Parameters
    ----------
    all_shifts
        `(n, n_texts)`, of versions.
    bases, models
        Base and registered model of each version.
    """
    vectors, kept = unit_vectors(all_shifts), set()
    for base in set(bases):
        rows = np.array([one == base for one in bases])
        of_base = [name for name, is_here in zip(models, rows, strict=True) if is_here]
        if len({*of_base}) < FEWEST_MODELS:
            kept.add(base)
            continue
        vectors[rows] -= _mean_of_models(vectors[rows], of_base)
    return unit_vectors(vectors), frozenset(kept)


def _mean_of_models(vectors: NDArray[np.float64], models: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean over models of the mean over each one's versions."""
    numbers = np.unique(models, return_inverse=True)[1]
    means = [vectors[numbers == number].mean(axis=0) for number in range(int(numbers.max()) + 1)]
    return np.asarray(np.mean(means, axis=0))
