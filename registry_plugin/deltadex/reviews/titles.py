"""Titles of findings, in words. They contain names from the registry: escape them for the output."""

from __future__ import annotations

from collections.abc import Sequence

from deltadex.access import HIDDEN
from deltadex.findings.kinds import KINDS
from deltadex.reviews.queries import ReviewRow
from deltadex.types import VersionRow

#: Names in a list; more are counted.
_NAMED = 3


def title(row: ReviewRow, *, about: int | None = None) -> str:
    """Return the title of a finding, such as `b/1 has the same weights as a/1, which is champion`.

    Parameters
    ----------
    about
        Id of a version, from which a group's title starts, whichever one is kept.
    """
    others, kept = _parts(row)
    if subject := next((one for one in row.members if one.id == about), None):
        rest = listed([label(one) for one in row.members if one.id != about])
        return KINDS[row.finding.kind].headline.format(
            others=label(subject), kept=rest, have="has", are="is", behave="behaves"
        )
    is_one = len(others) == 1
    return KINDS[row.finding.kind].headline.format(
        version=label(row.version),
        model=row.version.registered.ref.name,
        other=label(row.other) if row.other else "",
        others=listed([label(one) for one in others]),
        kept=label(kept) + (f", which is {', '.join(kept.registered.aliases)}" if kept.registered.aliases else ""),
        have="has" if is_one else "have",
        are="is" if is_one else "are",
        behave="behaves" if is_one else "behave",
    )


def label(version: VersionRow) -> str:
    """Return `name/version`, or that the version is hidden."""
    return HIDDEN if version.registered.ref.is_hidden else version.label


def _parts(row: ReviewRow) -> tuple[Sequence[VersionRow], VersionRow]:
    """Return the others of a group, and the version that is kept, or else the oldest one."""
    keeper = row.plan.keeper
    versions = row.versions
    kept = next((one for one in versions if keeper is not None and one.id == keeper.id), versions[0])
    return [one for one in versions if one.id != kept.id], kept


def listed(names: Sequence[str]) -> str:
    """Return names as an English list; beyond a few they are counted."""
    shown = list(names[:_NAMED])
    if len(names) > _NAMED:
        shown.append(f"{len(names) - _NAMED} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)
