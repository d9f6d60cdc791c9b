"""Words that several pages share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from deltadex.domain import FindingKind, State
from deltadex_dashboard import view

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age", "said"),
    [(0, "just now"), (1, "1 second ago"), (59, "59 seconds ago"), (61, "1 minute ago"), (7300, "2 hours ago"),
     (2 * 86_400, "2 days ago"), (-5, "just now")],
)  # fmt: skip
def test_times_are_said_in_their_largest_unit(age: int, said: str) -> None:
    assert view.ago(NOW - timedelta(seconds=age), NOW) == said


def test_what_never_happened_is_said() -> None:
    assert view.ago(None, NOW) == "never"


def test_markdown_in_names_is_escaped() -> None:
    assert view.plain("a_b*c*[d](e)") == r"a\_b\*c\*\[d\]\(e\)"


def test_every_state_and_every_finding_has_a_look() -> None:
    assert set(view.STATE_COLORS) == set(State)
    assert set(view.FINDING_NAMES) == set(FindingKind)
