"""Scores of all options of a task, from the likelihoods that the models give to its reference answers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from deltadex.advise.folds import FoldedTask
from deltadex.advise.rule import Choice
from deltadex.engine.text_requests import Scored

_Values = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A registered version that may be for the task.

    Attributes
    ----------
    similarity
        Cosine similarity of its delta to that of the examples; None if it was named.
    """

    version_id: int
    label: str
    similarity: float | None = None


@dataclass(frozen=True)
class Unscored:
    """A candidate that could not be scored, and why."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True)
class Readings:
    """Scores of the examples of a task, in their order.

    Attributes
    ----------
    base, prompted
        Of the base alone, and with in-context examples.
    candidates
        Of each candidate alone, in the order of the candidates.
    trained
        Of few-shot finetunes, each trained on the other folds; None if none was trained.
    training_tokens, training_seconds
        Of one few-shot training on all folds but one.
    """

    base: Sequence[Scored]
    prompted: Sequence[Scored]
    candidates: Sequence[Sequence[Scored]] = ()
    trained: Sequence[Scored] | None = None
    training_tokens: int = 0
    training_seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class OptionReading:
    """One option over the examples.

    Attributes
    ----------
    nats
        `(n,)` of each completion.
    prompt_tokens
        Mean over the examples.
    scored
        Scores of the model that it is; None for a model that was not built.
    members
        Numbers of the candidates that it stands on: the chosen one of each fold, or the pair.
    """

    choice: Choice
    nats: _Values
    prompt_tokens: float
    scored: Sequence[Scored] | None = None
    members: tuple[int, ...] = ()

    @classmethod
    def of(cls, choice: Choice, scored: Sequence[Scored], members: tuple[int, ...] = ()) -> OptionReading:
        """Return the option of a model that was run."""
        return cls(choice, nats_of(scored), _prompt_tokens(scored), scored, members)


def options_of(task: FoldedTask, readings: Readings) -> list[OptionReading]:
    """Return the options, the base first.

    A candidate, or a pair of them, is chosen for each fold by its score on the other folds: a score on the examples
    that it was chosen by would be too good.
    """
    base = readings.base
    found = [OptionReading.of(Choice.BASE, base)]
    if readings.candidates:
        found.append(_reuse(task, readings))
    found.append(OptionReading.of(Choice.PROMPT, readings.prompted))
    if len(readings.candidates) > 1:
        found.append(_merge(task, readings))
    if readings.trained is not None:
        found.append(OptionReading.of(Choice.TRAIN, readings.trained))
    return found


def nats_of(scored: Sequence[Scored]) -> _Values:
    """Return the `(n,)` nats of the completions."""
    return np.array([one.nats for one in scored])


def mixture(one: Sequence[Scored], other: Sequence[Scored]) -> _Values:
    """Return the `(n,)` nats under the mean of two models' probabilities, token by token.

    Models that read other tokens are mixed completion by completion.
    """
    return np.array([_mixed(*pair) for pair in zip(one, other, strict=True)])


def _mixed(one: Scored, other: Scored) -> float:
    if one.token_texts == other.token_texts:
        pair = -np.array([one.token_nats, other.token_nats])
    else:
        pair = -np.array([[one.nats], [other.nats]])
    return float(-(np.logaddexp(*pair) - np.log(2)).sum())


def _reuse(task: FoldedTask, readings: Readings) -> OptionReading:
    nats = [nats_of(each) for each in readings.candidates]
    choice, _ = _cross_fitted(task, dict(enumerate(nats)), per_token(readings.base))
    scored = [readings.candidates[choice[fold]][number] for number, fold in enumerate(task.folds)]
    members = tuple(choice[fold] for fold in range(task.fold_count))
    return OptionReading.of(Choice.REUSE, scored, members)


def _merge(task: FoldedTask, readings: Readings) -> OptionReading:
    pairs = list(combinations(range(len(readings.candidates)), 2))
    nats = {
        number: mixture(readings.candidates[one], readings.candidates[other])
        for number, (one, other) in enumerate(pairs)
    }
    choice, chosen = _cross_fitted(task, nats, per_token(readings.base))
    # The pair that most folds chose is the one to merge.
    members = pairs[max(choice, key=choice.count)]
    return OptionReading(Choice.MERGE, chosen, _prompt_tokens(readings.candidates[members[0]]), members=members)


def _cross_fitted(
    task: FoldedTask, nats: Mapping[int, _Values], scale: Callable[[_Values], _Values]
) -> tuple[list[int], _Values]:
    """Return for each fold what was chosen by the other folds, and the `(n,)` nats of what was chosen for each."""
    choice = []
    for fold in range(task.fold_count):
        outside = task.outside(fold)
        choice.append(min(nats, key=lambda number: (scale(nats[number])[outside].mean(), number)))
    return choice, np.array([nats[choice[fold]][number] for number, fold in enumerate(task.folds)])


def per_token(base: Sequence[Scored]) -> Callable[[_Values], _Values]:
    """Return a function from nats to nats per token of the base, which are comparable across tokenizers."""
    tokens = np.array([one.tokens for one in base])
    return lambda nats: nats / tokens


def _prompt_tokens(scored: Sequence[Scored]) -> float:
    return float(np.mean([one.prompt_tokens for one in scored]))
