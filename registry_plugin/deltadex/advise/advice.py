"""The result of an advice: scores of the options with intervals, the recommendation, and what is known beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltadex.advise.costs import Tariff, Usage
from deltadex.advise.folds import FoldedTask
from deltadex.advise.measured import Candidate, OptionReading, Readings, Unscored, nats_of, options_of, per_token
from deltadex.advise.rule import Choice, Weighed, choose, eligible
from deltadex.advise.style import StyleGain, style_gain
from deltadex.replay.agreement import Estimate, bootstrap, wilson

#: Up to so many tokens (median) an answer is short enough for an exact match to mean something.
_SHORT = 12


@dataclass(frozen=True)
class OptionScore:
    """One option.

    Attributes
    ----------
    nats_per_token
        Mean over the examples, each with the same weight, in tokens of the base.
    nats_per_byte
        Nats of all completions over their bytes in UTF-8.
    gain
        Paired difference from the base alone (nats per token); positive is better.
    worse
        Paired difference from the best option that is surely better than the base; positive is worse.
    exact
        Share of completions that greedy decoding writes exactly (found under teacher forcing, which is the same); None
        where answers are long, or nothing was decoded.
    candidates
        Places in `Advice.candidates` of what it stands on: what each fold chose, or the pair to merge.
    """

    choice: Choice
    nats_per_token: Estimate
    nats_per_byte: float
    gain: Estimate
    worse: Estimate
    usage: Usage
    exact: Estimate | None = None
    candidates: tuple[int, ...] = ()
    cost_of_year: float | None = None


@dataclass(frozen=True)
class CandidateScore:
    """One candidate over all examples. The best of several is a little too good: it was chosen by these scores."""

    candidate: Candidate
    nats_per_token: Estimate
    gain: Estimate


@dataclass(frozen=True)
class Advice:
    """Measured options of a task.

    Attributes
    ----------
    examples, duplicates
        Distinct examples, and those that were left out because they repeat one.
    recommended
        None below the fewest examples that a recommendation needs.
    margin
        Loss in nats per token up to which an option counts as good as the best.
    wins
        Examples on which the first and the second of the pair to merge is the better one; None without a pair.
    style
        Gain of the recommended finetune (or of the best one) on style and on content; None if nothing is known.
    cut
        Examples of which a part was not read.
    unscored
        Candidates that could not be scored.
    note
        Reason why there are no candidates; empty if there are some.
    """

    base_name: str
    selector: str
    shots: int
    examples: int
    duplicates: int
    folds: int
    options: tuple[OptionScore, ...]
    candidates: tuple[CandidateScore, ...]
    tariff: Tariff
    margin: float
    recommended: Choice | None
    wins: tuple[int, int] | None = None
    style: StyleGain | None = None
    cut: int = 0
    unscored: tuple[Unscored, ...] = ()
    note: str = ""

    def of(self, choice: Choice) -> OptionScore | None:
        """Return an option; None if it was not measured."""
        return next((one for one in self.options if one.choice is choice), None)

    @property
    def base(self) -> OptionScore:
        """The base alone."""
        return self.options[0]


@dataclass(frozen=True)
class AskedTask:
    """Options of the request that an advice answers.

    Attributes
    ----------
    margin, unscored, note
        See `Advice`.
    """

    base_name: str
    selector: str
    shots: int
    margin: float
    unscored: tuple[Unscored, ...] = ()
    note: str = ""


def advice_of(
    task: FoldedTask, asked: AskedTask, candidates: Sequence[Candidate], readings: Readings, *, tariff: Tariff
) -> Advice:
    """Compare the options of a task and recommend one."""
    found = options_of(task, readings)
    scale = per_token(readings.base)
    total_bytes = sum(one.bytes for one in readings.base)
    is_short = float(np.median([one.tokens for one in readings.base])) <= _SHORT
    relative = {one.choice: scale(one.nats) for one in found}
    best = _best(relative)
    options = tuple(
        OptionScore(
            one.choice,
            bootstrap(relative[one.choice]),
            float(one.nats.sum() / total_bytes),
            bootstrap(relative[Choice.BASE] - relative[one.choice]),
            bootstrap(relative[one.choice] - relative[best]),
            usage := _usage(one, found[0], readings),
            _exact(one) if is_short else None,
            one.members,
            tariff.of_year(usage),
        )
        for one in found
    )
    weighed = [Weighed(one.choice, one.gain, one.worse, one.cost_of_year) for one in options]
    recommended = choose(weighed, examples=len(task.examples), margin=asked.margin)
    return Advice(
        asked.base_name,
        asked.selector,
        asked.shots,
        len(task.examples),
        task.duplicates,
        task.fold_count,
        options,
        _candidates(candidates, readings),
        tariff,
        asked.margin,
        recommended,
        _wins(found, readings),
        _style(recommended, found),
        max(sum(each.is_cut for each in one.scored or ()) for one in found),
        asked.unscored,
        asked.note,
    )


def _best(relative: dict[Choice, NDArray[np.float64]]) -> Choice:
    """Return the option with the lowest nats per token of those that are surely better than the base, or the base."""
    base = relative[Choice.BASE]
    known = [one for one, values in relative.items() if eligible(bootstrap(base - values), one)]
    return min(known, key=lambda one: float(relative[one].mean()))


def _usage(one: OptionReading, base: OptionReading, readings: Readings) -> Usage:
    training = readings.training_tokens if one.choice is Choice.TRAIN else 0
    return Usage(one.prompt_tokens, max(0.0, one.prompt_tokens - base.prompt_tokens), training)


def _candidates(candidates: Sequence[Candidate], readings: Readings) -> tuple[CandidateScore, ...]:
    scale = per_token(readings.base)
    base = scale(nats_of(readings.base))
    values = [scale(nats_of(each)) for each in readings.candidates]
    return tuple(
        CandidateScore(one, bootstrap(each), bootstrap(base - each))
        for one, each in zip(candidates, values, strict=True)
    )


def _wins(found: Sequence[OptionReading], readings: Readings) -> tuple[int, int] | None:
    pair = next((one.members for one in found if one.choice is Choice.MERGE), None)
    if pair is None:
        return None
    one, other = (nats_of(readings.candidates[number]) for number in pair)
    return int((one < other).sum()), int((other < one).sum())


def _exact(one: OptionReading) -> Estimate | None:
    return None if one.scored is None else wilson(sum(each.is_greedy for each in one.scored), len(one.scored))


def _style(recommended: Choice | None, found: Sequence[OptionReading]) -> StyleGain | None:
    """Return the gains of the finetune that is recommended, or else of the better one of those that were run."""
    run: dict[Choice, OptionReading] = {one.choice: one for one in found if one.choice in (Choice.REUSE, Choice.TRAIN)}
    if not run:
        return None
    shown = run.get(recommended) if recommended else None
    shown = shown or min(run.values(), key=lambda one: float(one.nats.sum()))
    return style_gain(found[0].scored or (), shown.scored or ())
