"""Delta Meaning and Delta Logits: finetunes of any base as what they make likelier, comparable across bases.

After the architecture-free variants of arXiv 2509.04442, which take a model's meaning from the likelihoods of texts
(Liu et al. 2023, arXiv 2310.18348). There the texts are sampled from models; here they are fixed, so that all bases
read the same ones, and a likelihood is divided by the bytes of its text, so that tokenizers don't matter. The logits
are those of short strings that most vocabularies hold as one token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltadex.across.texts import MEANING_TEXTS
from deltadex.engine.text_requests import Scanned
from deltadex.types import FloatArray
from deltadex.vectors import unit_vectors

#: Fewest registered models of a base whose mean is subtracted; with fewer, what all finetunes share stays in.
FEWEST_MODELS = 3


@dataclass(frozen=True, eq=False)
class Meaning:
    """Differences of a finetune from its base.

    Attributes
    ----------
    texts
        `(n_texts,)` float32: by how much it finds each text likelier, in nats per byte.
    tokens
        `(n_tokens,)` float32: by how much it finds each token likelier, in nats; NaN for what is not one token of the
        base.
    """

    texts: FloatArray
    tokens: FloatArray

    @classmethod
    def between(cls, finetune: Scanned, base: Scanned) -> Meaning:
        """Return the differences of two scans of `MEANING_TEXTS`."""
        lengths = np.array([len(one.text.encode()) for one in MEANING_TEXTS.texts], dtype=np.float32)
        texts, tokens = (
            np.array(own, dtype=np.float32) - np.array(of_base, dtype=np.float32)
            for own, of_base in ((finetune.texts, base.texts), (finetune.tokens, base.tokens))
        )
        return cls(np.divide(texts, lengths, dtype=np.float32), tokens)


def comparable(
    texts: FloatArray, tokens: FloatArray, bases: Sequence[str], models: Sequence[str]
) -> tuple[NDArray[np.float64], frozenset[str]]:
    """Return unit vectors whose scalar products are similarities across bases, and the bases that were not centred.

    Of each base the mean over its models is subtracted, and the standard deviation divided out: all finetunes of a base
    make some texts likelier, and one whose tokens the base hardly knows moves more than all others. Texts and tokens
    then count alike.

    Parameters
    ----------
    texts, tokens
        `(n, n_texts)` and `(n, n_tokens)`, as in `Meaning`, of versions.
    bases, models
        Base and registered model of each version.
    """
    few = {base for base in bases if len({m for m, b in zip(models, bases, strict=True) if b == base}) < FEWEST_MODELS}
    blocks = [_centred(values.astype(np.float64), bases, models, few=few) for values in (texts, tokens)]
    return unit_vectors(np.concatenate(blocks, axis=1)), frozenset(few)


def _centred(
    values: NDArray[np.float64], bases: Sequence[str], models: Sequence[str], *, few: set[str]
) -> NDArray[np.float64]:
    known = np.isfinite(values)
    own = np.where(known, values, 0).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    vectors = unit_vectors(np.where(known, values - own, 0))
    for base in {*bases} - few:
        rows = np.array([one == base for one in bases])
        means = _means_of_models(vectors[rows], [m for m, here in zip(models, rows, strict=True) if here])
        spread = means.std(axis=0)
        centred = vectors[rows] - means.mean(axis=0)
        vectors[rows] = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > _NO_SPREAD)
    return unit_vectors(vectors)


#: Standard deviation of an entry of unit vectors below which it is rounding.
_NO_SPREAD = 1e-9


def _means_of_models(vectors: NDArray[np.float64], models: Sequence[str]) -> NDArray[np.float64]:
    """Return, for each model, the mean over its versions."""
    numbers = np.unique(models, return_inverse=True)[1]
    return np.array([vectors[numbers == number].mean(axis=0) for number in range(int(numbers.max()) + 1)])
