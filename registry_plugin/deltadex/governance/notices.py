"""What people are told of findings. Pure: which of the news a rule is about, and the words, which hold no secrets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from deltadex.domain import FindingKind
from deltadex.errors import SettingsError
from deltadex.governance.lifecycle import Action, Severity
from deltadex.settings import NotificationRule, NotifySettings

#: A finding is new; all other news are steps of the log.
OPENED = "opened"
EVENTS = (OPENED, *Action)
#: Of one message; there may be thousands after a threshold was changed.
_LINES = 20


@dataclass(frozen=True)
class Notice:
    """One piece of news.

    Attributes
    ----------
    event
        One of `EVENTS`.
    versions
        `(registered model, version)`, the newer one first.
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
    """Raise SettingsError where a rule is about no event, names no channel, or shares its name."""
    names = [rule.name for rule in settings.rules]
    for rule in settings.rules:
        unknown = sorted(set(rule.events) - set(EVENTS))
        if unknown:
            raise SettingsError(
                f"Notification rule {rule.name!r}: {unknown[0]!r} is no event", hint=f"Events: {', '.join(EVENTS)}."
            )
        if rule.channel not in settings.channels:
            raise SettingsError(
                f"Notification rule {rule.name!r}: there is no channel {rule.channel!r}",
                hint="DELTADEX_NOTIFY__CHANNELS names them.",
            )
        if names.count(rule.name) > 1:
            raise SettingsError(f"Two notification rules are named {rule.name!r}", hint="Give each its own name.")


def fitting(rule: NotificationRule, notices: Iterable[Notice]) -> list[Notice]:
    """Return the news that a rule is about; all models concerned must fit."""
    return [
        one
        for one in notices
        if one.event in rule.events
        and (not rule.kinds or one.kind in rule.kinds)
        and (not rule.severities or one.severity in rule.severities)
        and all(fnmatchcase(name, rule.models) for name, _ in one.versions)
    ]


def message(notices: Sequence[Notice], *, link: str | None) -> Message:
    """Return the words: kinds, severities and versions, and where to look; no comments, errors or addresses.

    Parameters
    ----------
    link
        Where people reach the dashboard.
    """
    lines = [_line(one) for one in notices[:_LINES]]
    if len(notices) > _LINES:
        lines.append(f"… and {len(notices) - _LINES} more")
    count = "1 finding" if len(notices) == 1 else f"{len(notices)} findings"
    return Message(f"Deltadex: {count}", "\n".join([*lines, *([link] if link else [])]))


def _line(one: Notice) -> str:
    versions = " and ".join(f"{name}/{version}" for name, version in one.versions)
    kind = one.kind.replace("_", " ")
    return f"{one.event}: {kind} ({one.severity}) {versions}, finding {one.review_id}"
