"""Measurements in words and rows, as commands and pages show them."""

from __future__ import annotations

from collections.abc import Iterator

from deltadex.replay.agreement import Estimate
from deltadex.safety.measure import LEAST_AUROC
from deltadex.safety.reads import MeasuredSafety

SHIFTS = "Shifts: 1 is as far as the instruction for the trait moves the base. Nothing judges them."


def comparisons(found: MeasuredSafety) -> Iterator[tuple[str, str, str]]:
    """Yield what was measured on harmful against harmless prompts, with the values of version and base."""
    own, base = found.reading, found.base
    yield "AUROC along the direction", interval(own.auroc), interval(base.auroc)
    yield "standardised distance along it", interval(own.distance), interval(base.distance)
    yield "AUROC of a refusal", interval(own.odds_auroc), interval(base.odds_auroc)
    yield "log-odds of a refusal: gap (nats)", interval(own.odds_gap), interval(base.odds_gap)


def traits(found: MeasuredSafety) -> Iterator[str]:
    """Yield a sentence about each trait: the shift of the version, or that the base has none."""
    shifts = {one.name: one.shift for one in found.traits}
    for name, area in found.trait_aurocs.items():
        if name in shifts:
            yield f"{name}: shift {interval(shifts[name])}"
        else:
            yield f"{name}: this base has none: AUROC {area:.2f} in the base, {LEAST_AUROC} is needed"


def interval(one: Estimate) -> str:
    """Return a value with its interval."""
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"
