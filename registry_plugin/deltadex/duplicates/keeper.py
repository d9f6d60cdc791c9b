"""Choice of a group's keeper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from deltadex.types import VersionRow

#: Tag of a version with its usage, such as requests per day: any number, higher is more.
USAGE_TAG = "deltadex.usage"


#: A number, higher is better, and its description for display.
Score = tuple[float, str]


@dataclass(frozen=True)
class Keeper:
    """The proposed version of a group to keep, with the reason."""

    version: VersionRow
    reason: str


def propose_keeper(versions: Sequence[VersionRow], metric: str | None = None) -> Keeper:
    """Choose the version to keep: one with an alias, then the most used, then the best by a metric, then the newest.

    Parameters
    ----------
    metric
        Metric of the versions' runs; with a leading `-` lower is better. It is ignored unless all versions have it.
    """
    left, reasons = list(versions), []
    for criterion in (_in_use, _most_used, partial(_best, metric=metric)):
        scores = criterion(left)
        best = max(scores, key=lambda each: each[0])
        if any(score != best[0] for score, _ in scores):
            reasons.append(best[1])
            left = [version for version, (score, _) in zip(left, scores, strict=True) if score == best[0]]
    if len(left) > 1:
        reasons.append("the newest of those" if reasons else "the newest")
    return Keeper(max(left, key=lambda version: version.registered.ref.age), ", ".join(reasons))


def _in_use(versions: Sequence[VersionRow]) -> list[Score]:
    aliases = [version.registered.aliases for version in versions]
    return [(float(bool(each)), f"in use as {', '.join(each)}") for each in aliases]


def _most_used(versions: Sequence[VersionRow]) -> list[Score]:
    usage = [_number(version.registered.tags.get(USAGE_TAG)) for version in versions]
    return [(each, f"used most ({each:g})") for each in usage]


def _best(versions: Sequence[VersionRow], *, metric: str | None) -> list[Score]:
    name = (metric or "").removeprefix("-")
    values = [version.provenance.metrics.get(name) for version in versions]
    sign = -1.0 if (metric or "").startswith("-") else 1.0
    if None in values:
        return [(0.0, "")] * len(values)
    return [(sign * value, f"best {name} ({value:g})") for value in values if value is not None]


def _number(text: str | None) -> float:
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0
