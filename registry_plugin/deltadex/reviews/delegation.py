"""Delegated decisions: rules from the settings that dismiss findings. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from deltadex.errors import SettingsError
from deltadex.findings.kinds import Reason
from deltadex.reviews.reasons import NEEDS_APPROVAL, Decision, reasons_for
from deltadex.setting_groups import RuleSettings
from deltadex.types import FindingKind, RegisteredVersion


@dataclass(frozen=True)
class Rule:
    """A rule that dismisses findings.

    Attributes
    ----------
    models, tags
        Name pattern and tags that every version of a finding must match.
    by
        The person who delegated the decision and is responsible for it.
    """

    name: str
    kinds: frozenset[FindingKind]
    models: str
    tags: tuple[tuple[str, str], ...]
    reason: Reason
    comment: str
    by: str

    def matches(self, kind: FindingKind, versions: Iterable[RegisteredVersion]) -> bool:
        """Return whether the rule decides a finding of this kind about these versions."""
        return kind in self.kinds and all(
            fnmatchcase(version.ref.name, self.models)
            and all(version.tags.get(key) == value for key, value in self.tags)
            for version in versions
        )


def parse_rules(settings: Iterable[RuleSettings]) -> tuple[Rule, ...]:
    """Return the rules of the settings.

    Raises
    ------
    SettingsError
        Two rules have the same name, or a reason is not allowed for a kind, or needs a second person's approval.
    """
    rules = tuple(_rule(one) for one in settings)
    if len({rule.name for rule in rules}) < len(rules):
        raise SettingsError("Two review rules have the same name", hint="Rename one: the log identifies rules by name.")
    return rules


def first_matching(rules: Sequence[Rule], kind: FindingKind, versions: Sequence[RegisteredVersion]) -> Rule | None:
    """Return the first rule that decides a finding; None if a person must decide."""
    return next((rule for rule in rules if rule.matches(kind, versions)), None)


def _rule(one: RuleSettings) -> Rule:
    for kind in one.kinds:
        allowed = [reason for reason in reasons_for(kind, Decision.DISMISSED) if reason not in NEEDS_APPROVAL]
        if one.reason not in allowed:
            raise SettingsError(
                f"Rule {one.name!r}: {one.reason!r} is no reason to dismiss a {kind} finding",
                hint=f"Allowed reasons: {', '.join(allowed)}.",
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
