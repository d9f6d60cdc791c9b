"""Decisions that a person delegates to a rule."""

from __future__ import annotations

import pytest

from deltadex.errors import SettingsError
from deltadex.reviews.delegation import first_matching, parse_rules
from deltadex.setting_groups import RuleSettings
from deltadex.types import FindingKind
from tests.stored import registered

NEAR = FindingKind.NEAR_DUPLICATE


def setting(**changes: object) -> RuleSettings:
    values = {
        "name": "sandbox", "kinds": [NEAR], "tags": {"project": "sandbox"}, "reason": "sandbox",
        "comment": "Nobody ships these.", "by": "ada",
    }  # fmt: skip
    return RuleSettings.model_validate({**values, **changes})


def test_a_rule_decides_only_what_all_versions_fit() -> None:
    rules = parse_rules([setting(models="play-*")])
    inside = registered("play-a", tags={"project": "sandbox", "team": "x"})
    outside, renamed = registered("play-b"), registered("real", tags={"project": "sandbox"})
    assert first_matching(rules, NEAR, [inside, inside]) is rules[0]
    assert first_matching(rules, NEAR, [inside, outside]) is None
    assert first_matching(rules, NEAR, [inside, renamed]) is None
    assert first_matching(rules, FindingKind.DRIFT, [inside, inside]) is None


def test_the_first_of_two_decides() -> None:
    rules = parse_rules([setting(), setting(name="all", tags={})])
    assert first_matching(rules, NEAR, [registered("a", tags={"project": "sandbox"})]) is rules[0]
    assert first_matching(rules, NEAR, [registered("a")]) is rules[1]


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([setting(reason="retire")], "'retire' is no reason to dismiss a near_duplicate"),
        ([setting(kinds=[NEAR, FindingKind.DRIFT], reason="different_purpose")], "to dismiss a drift finding"),
        ([setting(), setting()], "same name"),
    ],
)
def test_rules_that_could_not_be_answered_for_are_refused(rules: list[RuleSettings], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        parse_rules(rules)
