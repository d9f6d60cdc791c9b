"""What people are told, in words."""

from __future__ import annotations

import pytest

from deltadex.domain import FindingKind
from deltadex.errors import SettingsError
from deltadex.governance.lifecycle import Severity
from deltadex.governance.notices import Notice, check_rules, message
from deltadex.settings import NotifySettings

CHANNELS = {"ops": "json://host"}


def notice(number: int) -> Notice:
    versions = (("support", 2), ("support", 1))
    return Notice("returned", number, FindingKind.NEAR_DUPLICATE, Severity.LOW, versions)


def test_a_message_names_what_it_is_about() -> None:
    said = message([notice(7)], link=None)
    assert said.title == "Deltadex: 1 finding"
    assert said.body == "returned: near duplicate (low) support/2 and support/1, finding 7"


def test_thousands_of_findings_are_one_short_message() -> None:
    said = message([notice(number) for number in range(2000)], link="http://dash")
    assert said.title == "Deltadex: 2000 findings"
    assert said.body.splitlines()[-2:] == ["… and 1980 more", "http://dash"]


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([{"name": "a", "channel": "ops", "events": ["exploded"]}], "'exploded' is no event"),
        ([{"name": "a", "channel": "sales"}], "no channel 'sales'"),
        ([{"name": "a", "channel": "ops"}] * 2, "Two notification rules are named 'a'"),
    ],
)
def test_rules_that_would_tell_nobody_are_refused(rules: list[dict[str, object]], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        check_rules(NotifySettings.model_validate({"channels": CHANNELS, "rules": rules}))
