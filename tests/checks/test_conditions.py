"""Names that `--fail-on` takes."""

from __future__ import annotations

import pytest

from deltadex.checks.conditions import parse_fail_on
from deltadex.errors import DeltadexError
from deltadex.findings.kinds import KINDS, Severity
from deltadex.types import FindingKind


def test_kinds_are_named_by_themselves_by_a_severity_or_all_at_once() -> None:
    some = parse_fail_on(" wrong_base, Near_Duplicate ")
    assert some.kinds == (FindingKind.NEAR_DUPLICATE, FindingKind.WRONG_BASE), "in the table's order"
    assert some.named == set(some.kinds)
    assert parse_fail_on("any").kinds == tuple(KINDS)
    assert parse_fail_on("any").named == frozenset()


def test_a_severity_stands_for_it_and_every_higher_one() -> None:
    high, medium = parse_fail_on("high"), parse_fail_on("medium")
    assert {KINDS[kind].severity for kind in high.kinds} == {Severity.HIGH}
    assert {KINDS[kind].severity for kind in medium.kinds} == {Severity.HIGH, Severity.MEDIUM}
    assert parse_fail_on("low").kinds == tuple(KINDS)


@pytest.mark.parametrize("text", ["near-duplicate", "wrong_base,nonsense", "", " , "])
def test_an_unknown_name_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(DeltadexError) as caught:
        parse_fail_on(text)
    assert "near_duplicate" in caught.value.hint
    assert "medium" in caught.value.hint
