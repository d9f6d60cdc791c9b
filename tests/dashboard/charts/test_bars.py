"""Bar charts, checked by their HTML."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from deltadex.access import masked
from deltadex.types import Queue, State, VersionRow
from deltadex_dashboard.charts import bars
from deltadex_dashboard.charts.bars import Week, signed_bar
from tests.stored import registered

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def version(age: timedelta, state: State = State.EMBEDDED) -> VersionRow:
    made = registered(created_ms=int((NOW - age).timestamp() * 1000))
    return VersionRow(1, made, state, NOW, NOW - age, attempt=1, queue=Queue.FRESH)


def test_the_bar_of_states_leaves_out_empty_ones_and_says_the_numbers() -> None:
    bar = bars.states_bar({State.EMBEDDED: 3000, State.FAILED: 1, State.QUEUED: 0})
    assert "embedded 3,000" in bar
    assert "failed 1" in bar
    assert "queued" not in bar


def test_weeks_begin_on_monday_and_count_what_was_embedded_when_it_was() -> None:
    rows = [version(timedelta(days=5)), version(timedelta(days=5, hours=13)), version(timedelta(0), State.FAILED)]
    assert bars.weeks(rows, [NOW], now=NOW, count=2) == [
        Week(date(2026, 11, 9), registered=1, embedded=0, decided=0),
        Week(date(2026, 11, 16), registered=2, embedded=2, decided=1),
    ]


def test_a_masked_version_counts_from_when_it_was_first_seen() -> None:
    hidden = masked(version(timedelta(days=7)))
    assert [week.registered for week in bars.weeks([hidden], now=NOW, count=2)] == [1, 0]


def test_the_bars_of_weeks_say_their_numbers_and_the_tallest_is_whole() -> None:
    shown = bars.weeks_bars([Week(date(2026, 11, 9), 1000, 0, 125), Week(date(2026, 11, 16), 500, 250, 0)])
    assert "Week of 2026-11-16: 500 registered, 250 embedded, 0 decisions" in shown
    assert "registered 1,500" in shown
    assert [shown.count(f"height:{share}%") for share in ("100.0", "50.0", "25.0", "12.5", "0.0")] == [1, 1, 1, 1, 2]


def test_no_versions_are_no_trouble() -> None:
    assert "registered 0" in bars.weeks_bars(bars.weeks([], now=NOW))


def test_a_negative_similarity_goes_to_the_left_of_the_middle() -> None:
    assert "left:39.3%;width:10.7%" in signed_bar(-0.214, signed=True)
    assert "left:50.0%;width:42.0%" in signed_bar(0.84, signed=True)
    assert "left:0.0%;width:84.0%" in signed_bar(0.84, signed=False)
