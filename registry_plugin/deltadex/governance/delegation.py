"""Decisions that a person delegated to a rule. Pure: which rule, if any, decides a finding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from deltadex.domain import FindingKind, RegisteredVersion
from deltadex.errors import SettingsError
from deltadex.governance.reasons import NEEDS_APPROVAL, Decision, Reason, reasons_for
from deltadex.settings import RuleSettings


@dataclass(frozen=True)
class Rule:
    """What somebody lets be dismissed without looking.

    Attributes
    ----------
    models, tags
        What every version concerned must be called, and be tagged with.
    by
        Who delegated it, and answers for what it does.
    """

    name: str
    kinds: frozenset[FindingKind]
    models: str
    tags: tuple[tuple[str, str], ...]
    reason: Reason
    comment: str
    by: str

    def fits(self, kind: FindingKind, versions: Iterable[RegisteredVersion]) -> bool:
        """Whether a finding of this kind about these versions is the rule's to decide."""
        return kind in self.kinds and all(
            fnmatchcase(version.ref.name, self.models)
            and all(version.tags.get(key) == value for key, value in self.tags)
            for version in versions
        )


def parse_rules(settings: Iterable[RuleSettings]) -> tuple[Rule, ...]:
    """Read the rules of the settings.

    Raises
    ------
    SettingsError
        Two have one name, or a reason is none for a kind, or needs a second person.
    """
    rules = tuple(_rule(one) for one in settings)
    if len({rule.name for rule in rules}) < len(rules):
        raise SettingsError("Two review rules have the same name", hint="The log tells rules apart by their names.")
    return rules


def first_fitting(rules: Sequence[Rule], kind: FindingKind, versions: Sequence[RegisteredVersion]) -> Rule | None:
    """Return the first rule that decides a finding; None where a person must."""
    return next((rule for rule in rules if rule.fits(kind, versions)), None)


def _rule(one: RuleSettings) -> Rule:
    for kind in one.kinds:
        allowed = [reason for reason in reasons_for(kind, Decision.DISMISSED) if reason not in NEEDS_APPROVAL]
        if one.reason not in allowed:
            raise SettingsError(
                f"Rule {one.name!r}: {one.reason!r} is no reason to dismiss a {kind} finding",
                hint=f"Reasons for that: {', '.join(allowed)}.",
            )
    return Rule(
        one.name,
        frozenset(one.kinds),
        one.models,
        tuple(sorted(one.tags.items())),
        Reason(one.reason),
        one.comment,
        one.by,
    )
