"""Texts that several pages share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from deltadex.findings.kinds import KINDS
from deltadex.reports.colors import STATE_COLORS
from deltadex.types import FindingKind, State
from deltadex_dashboard.elements import text as view

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age", "expected"),
    [(0, "just now"), (1, "1 second ago"), (59, "59 seconds ago"), (61, "1 minute ago"), (7300, "2 hours ago"),
     (2 * 86_400, "2 days ago"), (-5, "just now")],
)  # fmt: skip
def test_times_are_given_in_their_largest_unit(age: int, expected: str) -> None:
    assert view.ago(NOW - timedelta(seconds=age), NOW) == expected


def test_no_time_is_never() -> None:
    assert view.ago(None, NOW) == "never"


def test_markdown_in_names_is_escaped() -> None:
    assert view.plain("a_b*c*[d](e)") == r"a\_b\*c\*\[d\]\(e\)"


def test_every_state_has_a_colour_and_every_finding_a_row() -> None:
    assert set(STATE_COLORS) == set(State)
    assert set(KINDS) == set(FindingKind)
