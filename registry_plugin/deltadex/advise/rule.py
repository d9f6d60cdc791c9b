"""The rule that turns measured options into a recommendation. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from deltadex.replay.agreement import Estimate

#: With fewer examples the intervals are so wide that nothing is recommended.
ENOUGH_EXAMPLES = 30


class Choice(StrEnum):
    """Options of a team for a task, the simplest first."""

    BASE = "base"
    REUSE = "reuse"
    PROMPT = "prompt"
    MERGE = "merge"
    TRAIN = "train"


@dataclass(frozen=True)
class Weighed:
    """An option as the rule sees it.

    Attributes
    ----------
    gain
        Nats per token that it saves against the base alone; positive is better.
    worse
        Nats per token that it loses against the best option; 0 for the best one.
    cost
        Of a year, in one unit for all options; None if no volume was stated.
    """

    choice: Choice
    gain: Estimate
    worse: Estimate
    cost: float | None = None


def eligible(gain: Estimate, choice: Choice) -> bool:
    """Return True for the base, and for an option whose whole interval lies above it."""
    return choice is Choice.BASE or gain.low > 0


def choose(options: Sequence[Weighed], *, examples: int, margin: float) -> Choice | None:
    """Return the recommended option; None with too few examples.

    Options that are not surely better than the base are left out. Of the others, those are acceptable that lose at
    most `margin` against the best of them, by the upper end of the interval. The cheapest acceptable one is
    recommended where costs are known, else the simplest; the simplest decides between equal costs.

    Parameters
    ----------
    options
        With the base among them; `worse` is measured against the best of the eligible ones.
    margin
        Nats per token.
    """
    if examples < ENOUGH_EXAMPLES:
        return None
    order = list(Choice)
    known = [one for one in options if eligible(one.gain, one.choice)]
    acceptable = [one for one in known if one.worse.high <= margin]
    if not acceptable:
        raise ValueError("the best option loses nothing against itself, so it is acceptable")
    has_costs = all(one.cost is not None for one in acceptable)
    return min(acceptable, key=lambda one: (one.cost or 0.0 if has_costs else 0.0, order.index(one.choice))).choice
