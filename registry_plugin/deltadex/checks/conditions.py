"""The findings on which a check fails, as `--fail-on` names them. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.errors import DeltadexError
from deltadex.findings.kinds import KINDS, Severity
from deltadex.types import FindingKind

#: Names every kind.
ANY = "any"


@dataclass(frozen=True)
class FailOn:
    """Kinds of findings on which a check fails.

    Attributes
    ----------
    kinds
        All of them, in the order of the table of kinds.
    named
        Those that were named themselves, not by a severity or `any`.
    """

    kinds: tuple[FindingKind, ...]
    named: frozenset[FindingKind] = frozenset()


def parse_fail_on(text: str) -> FailOn:
    """Read kinds and severities, separated by commas; a severity stands for the kinds of it and of a higher one.

    Raises
    ------
    DeltadexError
        A name is neither a kind nor a severity nor `any`; the hint lists them.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in (ANY, *FindingKind, *Severity)]
    if unknown or not names:
        problem = f"{unknown[0]!r} is no kind of finding" if unknown else "No kind of finding is named"
        raise DeltadexError(problem, hint=f"Kinds: {', '.join(KINDS)}. Severities: {', '.join(Severity)}. Or: {ANY}.")
    wanted = {kind for kind in KINDS if any(_names(name, kind) for name in names)}
    return FailOn(tuple(kind for kind in KINDS if kind in wanted), frozenset(kind for kind in KINDS if kind in names))


def _names(name: str, kind: FindingKind) -> bool:
    if name in list(Severity):
        ranks = list(Severity)
        return ranks.index(KINDS[kind].severity) <= ranks.index(Severity(name))
    return name in (ANY, kind)
