"""The text of messages, and invalid rules."""

from __future__ import annotations

import pytest

from deltadex.errors import SettingsError
from deltadex.findings.kinds import Severity
from deltadex.notifications.message import Notice, check_rules, message
from deltadex.setting_groups import NotifySettings
from deltadex.types import FindingKind

CHANNELS = {"ops": "json://host"}


def notice(number: int) -> Notice:
    versions = (("support", 2), ("support", 1))
    return Notice("returned", number, FindingKind.NEAR_DUPLICATE, Severity.LOW, versions)


def test_a_message_names_event_kind_and_versions() -> None:
    sent = message([notice(7)], link=None)
    assert sent.title == "Deltadex: 1 finding"
    assert sent.body == "returned: near duplicate (low) support/2 and support/1, finding 7"


def test_thousands_of_findings_are_one_short_message() -> None:
    sent = message([notice(number) for number in range(2000)], link="http://dash")
    assert sent.title == "Deltadex: 2000 findings"
    assert sent.body.splitlines()[-2:] == ["… and 1980 more", "http://dash"]


@pytest.mark.parametrize(
    ("rules", "error"),
    [
        ([{"name": "a", "channel": "ops", "events": ["exploded"]}], "unknown event 'exploded'"),
        ([{"name": "a", "channel": "sales"}], "unknown channel 'sales'"),
        ([{"name": "a", "channel": "ops"}] * 2, "Two notification rules are named 'a'"),
    ],
)
def test_invalid_rules_are_refused(rules: list[dict[str, object]], error: str) -> None:
    with pytest.raises(SettingsError, match=error):
        check_rules(NotifySettings.model_validate({"channels": CHANNELS, "rules": rules}))
