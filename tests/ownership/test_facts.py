"""Facts that people and tags may state of a registered model."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.errors import IllegalStep
from deltadex.ownership.attestation import Attestation, AttestationState, judge_attestation, judged, last_day
from deltadex.ownership.facts import MOST_CHARACTERS, Fact, FactOrigin, OwnershipField, by_tags, checked, kept_tags
from deltadex.setting_groups import OwnershipSettings
from deltadex.types import FindingKind, RiskTier

SETTINGS = OwnershipSettings()
TODAY = date(2026, 11, 30)
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
ATTESTED = Attestation(1, "hash", "ada", "uid 7", AT, "ada", RiskTier.HIGH, "drafts")


def facts(**values: str) -> dict[OwnershipField, Fact]:
    return {field: Fact(values.get(field, ""), FactOrigin.STATED) for field in OwnershipField}


def known(attestation: Attestation | None, today: date = TODAY, **values: str):
    given_ = {"owner": "ada", "tier": "high", "intended_use": "drafts", **values}
    return judged("support", facts(**given_), attestation, settings=SETTINGS, today=today)


def test_the_first_tag_that_can_be_read_counts() -> None:
    tags = {"risk_tier": "critical", "materiality": "HIGH", "owner": " ", "team": "legal"}
    assert by_tags(tags, OwnershipField.OWNER, SETTINGS) == Fact("legal", FactOrigin.TAG, "team")
    tier = by_tags(tags, OwnershipField.TIER, SETTINGS)
    assert (tier.value, tier.tag) == ("high", "materiality")
    assert "risk_tier says 'critical'" in tier.remark
    nothing = by_tags({"review_by": "soon"}, OwnershipField.REVIEW_BY, SETTINGS)
    assert (nothing.value, nothing.origin) == ("", FactOrigin.NONE)
    assert "'soon'" in nothing.remark


@given(st.dictionaries(st.sampled_from([*SETTINGS.owner_tags, *SETTINGS.review_by_tags, "other"]), st.text()))
def test_tags_are_kept_within_bounds_and_never_raise(tags: dict[str, str]) -> None:
    kept = kept_tags({key: text * 3_000 for key, text in tags.items()}, SETTINGS)
    assert "other" not in kept
    assert all(len(text) <= max(MOST_CHARACTERS.values()) and "\0" not in text for text in kept.values())
    for field in OwnershipField:
        assert len(by_tags(kept, field, SETTINGS).value) <= MOST_CHARACTERS[field]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (OwnershipField.OWNER, " "),
        (OwnershipField.OWNER, "a" * 201),
        (OwnershipField.OWNER, "ada\nadmin"),
        (OwnershipField.OWNER, "ada\u202egro"),
        (OwnershipField.TIER, "critical"),
        (OwnershipField.REVIEW_BY, "soon"),
        (OwnershipField.REVIEW_BY, "2026-11-29"),
    ],
)
def test_what_people_state_is_checked(field: OwnershipField, text: str) -> None:
    with pytest.raises(IllegalStep):
        checked(field, text, today=TODAY)


def test_what_people_state_is_stored_in_one_form() -> None:
    assert checked(OwnershipField.TIER, " High ", today=TODAY) == "high"
    assert checked(OwnershipField.REVIEW_BY, "20261201", today=TODAY) == "2026-12-01"
    assert checked(OwnershipField.INTENDED_USE, "a\nb", today=TODAY) == "a\nb"


def test_an_attestation_lasts_as_long_as_the_tier_of_today_allows() -> None:
    began = AT.date()
    for tier, days in SETTINGS.attest_days.items():
        assert last_day(ATTESTED, tier=tier, review_by=None, settings=SETTINGS) == began + timedelta(days=days)
    sooner = began + timedelta(days=9)
    assert last_day(ATTESTED, tier=RiskTier.HIGH, review_by=sooner, settings=SETTINGS) == sooner
    # A review date that was past when it was attested was dealt with.
    assert last_day(ATTESTED, tier=RiskTier.HIGH, review_by=began, settings=SETTINGS) > sooner


def test_an_attestation_ends_after_its_last_day() -> None:
    last = last_day(ATTESTED, tier=RiskTier.HIGH, review_by=None, settings=SETTINGS)
    assert known(ATTESTED, last).state is AttestationState.CURRENT
    ended = known(ATTESTED, last + timedelta(days=1))
    assert ended.state is AttestationState.EXPIRED
    assert ended.reason == "the attestation of 2026-11-01 by ada ended on 2027-01-30"
    # The same every day: another reason would reopen a dismissed finding.
    assert known(ATTESTED, last + timedelta(days=40)).reason == ended.reason


def test_an_attestation_is_about_the_owner_and_use_that_were_stated() -> None:
    for values, what in (({"owner": "bo"}, "owner"), ({"intended_use": "advice"}, "intended use")):
        now = known(ATTESTED, **values)
        assert now.state is AttestationState.OUTDATED
        assert what in now.reason
    assert known(ATTESTED, tier="low").state is AttestationState.CURRENT


def test_only_tiers_that_must_attest_lack_an_attestation() -> None:
    states = {tier: known(None, tier=tier).state for tier in ("high", "medium", "low", "")}
    assert states.pop("high") is AttestationState.MISSING
    assert states.pop("") is AttestationState.NO_TIER
    assert set(states.values()) == {AttestationState.NOT_NEEDED}


def test_each_state_that_is_not_fine_is_a_finding() -> None:
    assert judge_attestation(7, known(ATTESTED)) == []
    assert judge_attestation(7, known(None, tier="low")) == []
    [found] = judge_attestation(7, known(None))
    assert (found.kind, found.version_id) == (FindingKind.NOT_ATTESTED, 7)
    assert found.evidence["tier"] == "high"
    assert found.evidence["reason"]
