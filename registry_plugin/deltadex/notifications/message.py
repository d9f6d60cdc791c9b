"""Notices that match a rule, and the text of a message, which contains no secrets. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from deltadex.errors import SettingsError
from deltadex.escaping import message_text
from deltadex.findings.kinds import KINDS, Severity
from deltadex.reviews.lifecycle import Action
from deltadex.reviews.titles import listed
from deltadex.setting_groups import NotificationRule, NotifySettings
from deltadex.types import FindingKind

#: The event of a new finding; all other events are entries of the decision log.
OPENED = "opened"
EVENTS = (OPENED, *Action)
#: Lines of one message; a changed threshold can give thousands of notices.
_LINES = 20


@dataclass(frozen=True)
class Notice:
    """One event of one finding.

    Attributes
    ----------
    event
        One of `EVENTS`.
    versions
        `(registered model, version)` of the versions concerned, the newer one of a pair first.
    """

    event: str
    review_id: int
    kind: FindingKind
    severity: Severity
    versions: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Message:
    """A message to a channel."""

    title: str
    body: str


def check_rules(settings: NotifySettings) -> None:
    """Raise SettingsError if a rule has an unknown event or channel, if two have one name, or an owner's is unknown."""
    for owner, channel in settings.owners.items():
        if channel not in settings.channels:
            raise SettingsError(
                f"The owner {owner!r} has the unknown channel {channel!r}",
                hint="DELTADEX_NOTIFY__CHANNELS lists the channels.",
            )
    names = [rule.name for rule in settings.rules]
    for rule in settings.rules:
        unknown = sorted(set(rule.events) - set(EVENTS))
        if unknown:
            raise SettingsError(
                f"Notification rule {rule.name!r}: unknown event {unknown[0]!r}", hint=f"Events: {', '.join(EVENTS)}."
            )
        if rule.channel not in settings.channels:
            raise SettingsError(
                f"Notification rule {rule.name!r}: unknown channel {rule.channel!r}",
                hint="DELTADEX_NOTIFY__CHANNELS lists the channels.",
            )
        if names.count(rule.name) > 1:
            raise SettingsError(f"Two notification rules are named {rule.name!r}", hint="Give each its own name.")


def matching_notices(rule: NotificationRule, notices: Iterable[Notice]) -> list[Notice]:
    """Return the notices that match a rule; all models of a notice must match its pattern."""
    return [
        one
        for one in notices
        if one.event in rule.events
        and (not rule.kinds or one.kind in rule.kinds)
        and (not rule.severities or one.severity in rule.severities)
        and all(fnmatchcase(name, rule.models) for name, _ in one.versions)
    ]


def message(notices: Sequence[Notice], *, link: str | None) -> Message:
    """Return the message: kinds, severities, versions and the link, but no comments, errors or other addresses.

    Parameters
    ----------
    link
        Address of the dashboard.
    """
    lines = [_line(one) for one in notices[:_LINES]]
    if len(notices) > _LINES:
        lines.append(f"… and {len(notices) - _LINES} more")
    count = "1 finding" if len(notices) == 1 else f"{len(notices)} findings"
    return Message(f"Deltadex: {count}", "\n".join([*lines, *([link] if link else [])]))


def _line(one: Notice) -> str:
    versions = listed([f"{message_text(name)}/{version}" for name, version in one.versions])
    return f"{one.event}: {KINDS[one.kind].words} ({one.severity}) {versions}, finding {one.review_id}"
