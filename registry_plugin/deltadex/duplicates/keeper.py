"""Proposal for a group of redundant versions: which one to keep, which to retire, and which are left alone.

A proposal must be safe to act on. What is in use, or what another version needs, is never retired; a version with an
open finding of high severity is never kept, and a superseded one only if nothing better is there. Where that leaves no
safe keeper, or nothing to retire, nothing is proposed, and the proposal says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from deltadex.settings import Settings
from deltadex.types import VersionRow

#: Tag of a version with its usage, such as requests per day: any number, higher is more; another text is some use.
USAGE_TAG = "deltadex.usage"
#: Of a hidden version nothing is told but that something needs the one in view.
NEEDED_ELSEWHERE = "is needed elsewhere"
#: Values of a deployment tag that say that the version isn't deployed.
_NOT_DEPLOYED = frozenset(("", "no", "none", "false", "0", "archived", "retired"))

#: A number, higher is better, and its description for display.
Score = tuple[float, str]


@dataclass(frozen=True)
class Standing:
    """Facts about a version beyond its own row that a proposal depends on, in words.

    Attributes
    ----------
    needed_by
        Why other versions need it, such as `has the copy b/2`.
    open_high
        Its open findings of high severity, such as `wrong base`.
    is_latest
        True if its model has no later version.
    """

    needed_by: tuple[str, ...] = ()
    open_high: tuple[str, ...] = ()
    is_latest: bool = True


_NOTHING_KNOWN = Standing()


@dataclass(frozen=True)
class Policy:
    """Settings that proposals depend on.

    Attributes
    ----------
    metric
        Metric of the versions' runs; with a leading `-` lower is better. It is ignored unless all versions have it.
    deployed_tags
        Keys of tags that say where a version is deployed.
    """

    metric: str | None = None
    deployed_tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the policy of the settings."""
        return cls(settings.thresholds.keeper_metric, settings.thresholds.deployed_tags)


@dataclass(frozen=True)
class Proposal:
    """Proposal for a group.

    Attributes
    ----------
    keeper
        The version to keep; None if nothing is proposed.
    reason
        Why it is kept, or why nothing is proposed.
    retired
        Versions to retire.
    spared
        Versions that are neither kept nor retired, by id, with the reason.
    advice
        What would make a proposal possible; empty if there is one.
    """

    keeper: VersionRow | None
    reason: str
    retired: tuple[VersionRow, ...] = ()
    spared: Mapping[int, str] = field(default_factory=dict)
    advice: str = ""


def propose(
    versions: Sequence[VersionRow],
    standings: Mapping[int, Standing],
    policy: Policy,
    *,
    chosen: VersionRow | None = None,
) -> tuple[Proposal, VersionRow]:
    """Return the proposal for a group, and the version that stands for the group.

    Parameters
    ----------
    standings
        By version id; nothing is known of the others.
    chosen
        The version that a reviewer wants to keep. Nothing is proposed if it can't be kept safely.
    """
    of = {row.id: standings.get(row.id, _NOTHING_KNOWN) for row in versions}
    uses = {row.id: in_use(row, policy) for row in versions}
    needs = {row.id: holds(row, of[row.id], policy) for row in versions}
    sound = [row for row in versions if not of[row.id].open_high]
    current = [row for row in sound if uses[row.id] or of[row.id].is_latest]
    best, why = _best_of(current or sound or versions, uses, needs, policy.metric)
    unsound = [row for row in versions if of[row.id].open_high and needs[row.id]]
    if unsound or not sound:
        return _without_sound_keeper(unsound or versions, of, needs), best
    if chosen is not None and chosen.id != best.id:
        if objection := _objection(chosen, best, of[chosen.id], is_current=chosen in (current or sound)):
            return objection, best
        best, why = chosen, "chosen by the reviewer"
    spared = {row.id: _why_spared(row, best, of[row.id], needs[row.id]) for row in versions if row.id != best.id}
    retired = tuple(row for row in versions if not spared.get(row.id, "the keeper"))
    kept = {each: reason for each, reason in spared.items() if reason}
    if not retired:
        others = [row for row in versions if row.id in kept]
        stays = "; ".join(f"{row.label} {kept[row.id]}" for row in others)
        return Proposal(
            None, f"nothing can be retired: {stays}", spared=kept, advice=_advice(others, best, uses, of)
        ), best
    return Proposal(best, why, retired, kept), best


def holds(row: VersionRow, standing: Standing, policy: Policy) -> tuple[str, ...]:
    """Return why a version must never be retired, in words; empty if nothing speaks against it."""
    return (*in_use(row, policy), *standing.needed_by)


def in_use(row: VersionRow, policy: Policy) -> tuple[str, ...]:
    """Return how a version is in use, in words: by aliases, tags of deployments, or observed use."""
    aliases, tags = row.registered.aliases, row.registered.tags
    found = [f"is in use as {', '.join(aliases)}"] if aliases else []
    found += [f"is deployed ({key}: {tags[key]})" for key in deployed_by(row, policy.deployed_tags)]
    usage = tags.get(USAGE_TAG, "").strip()
    if is_deployed(usage) and _number(usage) != 0:
        found.append(f"is used ({usage})")
    return tuple(found)


def deployed_by(row: VersionRow, deployed_tags: Sequence[str]) -> list[str]:
    """Return the keys of a version's tags that say that it is deployed."""
    keys = {key.casefold() for key in deployed_tags}
    return [key for key, value in sorted(row.registered.tags.items()) if key.casefold() in keys and is_deployed(value)]


def is_deployed(value: str) -> bool:
    """Return True unless the value of a deployment tag says that the version is not deployed."""
    return value.strip().casefold() not in _NOT_DEPLOYED


def _without_sound_keeper(
    rows: Sequence[VersionRow], of: Mapping[int, Standing], needs: Mapping[int, tuple[str, ...]]
) -> Proposal:
    """Return the proposal of nothing, because of open findings about versions that would have to stay."""
    stated = [
        " and ".join([*needs[row.id], f"has an open finding ({', '.join(of[row.id].open_high)})"]) for row in rows
    ]
    reason = "; ".join(f"{row.label} {one}" for row, one in zip(rows, stated, strict=True))
    advice = "Decide those findings first" + (", or move what points at it." if needs[rows[0].id] else ".")
    return Proposal(None, f"no version can be kept safely: {reason}", advice=advice)


def _objection(row: VersionRow, best: VersionRow, standing: Standing, *, is_current: bool) -> Proposal | None:
    """Return the proposal of nothing if a version that a reviewer has chosen can't be kept safely; else None."""
    advice = f"Keep {best.label}"
    if standing.open_high:
        found = ", ".join(standing.open_high)
        return Proposal(
            None, f"{row.label} has an open finding ({found})", advice=f"{advice}, or decide that finding first."
        )
    if not is_current:
        return Proposal(None, f"{row.label} has a later version", advice=f"{advice}, or the later version.")
    return None


def _why_spared(row: VersionRow, keeper: VersionRow, standing: Standing, needs: Sequence[str]) -> str:
    """Return why a version is not retired for this keeper; empty if it may be."""
    if needs:
        return " and ".join(needs)
    is_sibling = row.registered.ref.name == keeper.registered.ref.name
    if is_sibling and row.registered.ref.age > keeper.registered.ref.age and standing.is_latest:
        return "is the newest version of its model"
    return ""


def _advice(
    rows: Sequence[VersionRow], best: VersionRow, uses: Mapping[int, tuple[str, ...]], of: Mapping[int, Standing]
) -> str:
    """Return what would make something in a group retirable, for versions that all have to stay beside the best."""
    if unsound := [row for row in rows if of[row.id].open_high]:
        return f"Decide the open finding about {unsound[0].label} first ({', '.join(of[unsound[0].id].open_high)})."
    if any(uses[row.id] for row in rows):
        return "Move the alias or the deployment first, so that one version serves for all."
    if any(of[row.id].needed_by for row in rows):
        return "Leave it as it is: others need it."
    return f"Move what points at {best.label} to the newest version first, or leave it as it is."


def _best_of(
    versions: Sequence[VersionRow],
    uses: Mapping[int, tuple[str, ...]],
    needs: Mapping[int, tuple[str, ...]],
    metric: str | None,
) -> tuple[VersionRow, str]:
    """Choose a version: one in use, then one that must stay anyway, the most used, the best by a metric, the newest."""
    left, decisive = list(versions), list[dict[int, str]]()
    for criterion in (partial(_stays, why=uses), partial(_stays, why=needs), _most_used, partial(_best, metric=metric)):
        scores = criterion(left)
        highest = max(score for score, _ in scores)
        if any(score != highest for score, _ in scores):
            decisive.append({row.id: reason for row, (_, reason) in zip(left, scores, strict=True)})
            left = [row for row, (score, _) in zip(left, scores, strict=True) if score == highest]
    best = max(left, key=lambda row: row.registered.ref.age)
    reasons = [by_version[best.id] for by_version in decisive]
    if len(left) > 1 or not reasons:
        reasons.append("the newest of those" if reasons else "the newest")
    return best, ", ".join(reasons)


def _stays(versions: Sequence[VersionRow], *, why: Mapping[int, tuple[str, ...]]) -> list[Score]:
    return [(float(bool(why[row.id])), " and ".join(why[row.id])) for row in versions]


def _most_used(versions: Sequence[VersionRow]) -> list[Score]:
    usage = [_number(version.registered.tags.get(USAGE_TAG, "")) or 0.0 for version in versions]
    return [(each, f"used most ({each:g})") for each in usage]


def _best(versions: Sequence[VersionRow], *, metric: str | None) -> list[Score]:
    name = (metric or "").removeprefix("-")
    values = [version.provenance.metrics.get(name) for version in versions]
    sign = -1.0 if (metric or "").startswith("-") else 1.0
    if None in values:
        return [(0.0, "")] * len(values)
    return [(sign * value, f"best {name} ({value:g})") for value in values if value is not None]


def _number(text: str) -> float | None:
    """Return a number; None for a text that is none, such as `300/day`."""
    try:
        number = float(text or 0)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
