"""Selectors of in-context examples. A new one is a function and a row in `SELECTORS`.

Each says how near every input of a task is to every other one. What is picked is the same for all: the nearest inputs
of other folds, the nearest last, next to the prompt.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deltadex.advise.folds import FoldedTask, prompt_of
from deltadex.engine.examples import Example
from deltadex.types import FloatArray
from deltadex.vectors import cosine_similarity

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Inputs:
    """Inputs of a task.

    Attributes
    ----------
    states
        `(n, hidden_size)` mean hidden states of the base; None unless the selector reads them.
    """

    texts: tuple[str, ...]
    states: FloatArray | None = None

    @property
    def words(self) -> list[list[str]]:
        """Words of each input."""
        return [_WORD.findall(text) for text in self.texts]


@dataclass(frozen=True)
class Selector:
    """A way to choose in-context examples.

    Attributes
    ----------
    nearness
        Returns `(n, n)`: row, the input that is answered; column, the input that may stand before it.
    reads_states
        True if it needs the hidden states of the inputs.
    """

    nearness: Callable[[Inputs], FloatArray]
    reads_states: bool = False


def jaccard(inputs: Inputs) -> FloatArray:
    """Return the share of common words of each pair of inputs."""
    sets = [frozenset(each) for each in inputs.words]
    return np.array([[len(a & b) / max(1, len(a | b)) for b in sets] for a in sets], dtype=np.float32)


def bm25(inputs: Inputs) -> FloatArray:
    """Return the BM25 score (Robertson and Zaragoza 2009) of each input for each other one, by the library bm25s."""
    import bm25s  # with the engine only: the dashboard reads results without it

    words = inputs.words
    if not any(words):
        return np.zeros((len(words), len(words)), dtype=np.float32)
    index = bm25s.BM25()
    index.index(words, show_progress=False)
    blank = np.zeros(len(words), dtype=np.float32)
    return np.stack([index.get_scores(each) if each else blank for each in words]).astype(np.float32)


def embedding(inputs: Inputs) -> FloatArray:
    """Return the cosine similarity of the base's mean hidden states, after their common mean was taken away."""
    if inputs.states is None:
        raise ValueError("the selector needs hidden states")
    centred = inputs.states - inputs.states.mean(axis=0)
    return cosine_similarity(centred).astype(np.float32)


def fixed(inputs: Inputs) -> FloatArray:
    """Return one random order for all inputs: a fixed set per fold, as a prompt written by hand would have."""
    order = list(range(len(inputs.texts)))
    random.Random(0).shuffle(order)  # noqa: S311 - no secret
    return np.tile(np.array(order, dtype=np.float32), (len(order), 1))


SELECTORS: Mapping[str, Selector] = {
    "jaccard": Selector(jaccard),
    "bm25": Selector(bm25),
    "embedding": Selector(embedding, reads_states=True),
    "fixed": Selector(fixed),
}


def contexts(
    task: FoldedTask, name: str, *, shots: int, states: FloatArray | None = None
) -> tuple[tuple[Example, ...], ...]:
    """Return the in-context examples of each example, all from other folds, the nearest last.

    Parameters
    ----------
    name
        Key in `SELECTORS`.
    states
        See `Inputs`.
    """
    nearness = SELECTORS[name].nearness(Inputs(tuple(map(prompt_of, task.examples)), states))
    pools = [task.outside(fold) for fold in range(task.fold_count)]
    return tuple(
        _nearest(task.examples, nearness[number], pools[fold], shots) for number, fold in enumerate(task.folds)
    )


def _nearest(examples: Sequence[Example], near: FloatArray, pool: Sequence[int], shots: int) -> tuple[Example, ...]:
    chosen = sorted(pool, key=lambda other: (-float(near[other]), other))[:shots]
    return tuple(examples[other] for other in reversed(chosen))
