"""When heads are published, and what becomes of failures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.witness import queries
from deltadex.witness.configured import witnesses_of
from deltadex.witness.publish import is_due, publish
from deltadex.witness.queries import HashedEntries, HashedTable, LastEntry, WitnessState
from tests.stored import REGISTRY
from tests.witness import forging

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def states(database: Database) -> dict[str, WitnessState]:
    return database.run(lambda tx: queries.states(tx, REGISTRY))


def published(minutes: float, *, of: str = "last") -> WitnessState:
    at = NOW - timedelta(minutes=minutes)
    return WitnessState("folder:/x", 3, of, at, tried_at=at)


def failing(attempts: int, seconds: float) -> WitnessState:
    return WitnessState("folder:/x", attempts=attempts, tried_at=NOW - timedelta(seconds=seconds), error="down")


@pytest.mark.parametrize(
    ("state", "due"),
    [
        (None, True),
        (published(1), False),
        (published(1, of="other"), True),
        (published(24 * 60 - 1), False),
        (published(24 * 60 + 1), True),
        (failing(1, 14), False),
        (failing(1, 16), True),
        (failing(3, 59), False),
        (failing(3, 61), True),
        (failing(500, 599), False),
        (failing(500, 601), True),
        (WitnessState("folder:/x", asked_at=NOW), True),
    ],
)
def test_a_head_is_due_when_it_changed_and_once_a_day_and_soon_after_a_failure(
    state: WitnessState | None, due: bool
) -> None:
    [folder] = witnesses_of(Settings(witnesses=["folder:/x"]))
    assert is_due(folder, state, last=LastEntry("last"), now=NOW) is due
    assert not is_due(folder, state, last=None, now=NOW)


def test_a_witness_that_is_not_to_be_flooded_waits() -> None:
    [folder] = witnesses_of(Settings(witnesses=["folder:/x#minutes=30"]))
    assert not is_due(folder, published(29, of="other"), last=LastEntry("last"), now=NOW)
    assert is_due(folder, published(31, of="other"), last=LastEntry("last"), now=NOW)


@pytest.mark.parametrize(("minutes", "due"), [(2, False), (1, True), (0, True), (-1, False)])
def test_a_head_is_due_when_the_ownership_history_has_grown(minutes: float, due: bool) -> None:
    [folder] = witnesses_of(Settings(witnesses=["folder:/x"]))
    last = LastEntry("last", NOW - timedelta(minutes=minutes))
    assert is_due(folder, published(1), last=last, now=NOW) is due


def test_an_empty_log_has_no_head(settings_with: Callable[..., Settings], store: Database, heads: Path) -> None:
    forging.cut(store, 3)
    assert publish(settings_with(f"folder:{heads}"), store, at_once=True) == 0
    assert publish(settings_with(), store) == 0
    assert list(heads.iterdir()) == []


def test_a_witness_that_fails_is_shown_and_tried_again_and_keeps_no_other_from_its_head(
    settings_with: Callable[..., Settings], store: Database, heads: Path, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    settings = settings_with(f"folder:{away}", f"folder:{heads}")
    assert publish(settings, store) == 1
    assert publish(settings, store) == 0  # one is done, the other waits for its next attempt
    failed = states(store)[f"folder:{away}"]
    assert (failed.attempts, failed.published_at) == (1, None)
    assert "no such folder" in failed.error
    forging.decide(store)
    assert publish(settings, store, at_once=True) == 1
    assert states(store)[f"folder:{away}"].attempts == 2
    away.mkdir()
    assert publish(settings, store, at_once=True) == 2
    mended = states(store)[f"folder:{away}"]
    assert (mended.attempts, mended.error, mended.entries) == (0, "", 4)


def test_the_time_stamp_goes_with_the_head_to_all_others_and_is_kept(
    settings_with: Callable[..., Settings], store: Database, heads: Path, authority: tuple[str, Path]
) -> None:
    address, root = authority
    settings = settings_with(f"folder:{heads}", f"{address}#ca={root}")
    assert publish(settings, store) == 2
    [folder] = witnesses_of(settings_with(f"folder:{heads}"))
    [head] = folder.held(REGISTRY).heads
    assert list(head.stamps) == [address]
    [kept] = store.run(lambda tx: queries.stamped(tx, REGISTRY))
    assert (kept.label, kept.stamps) == (head.label, head.stamps)


def test_a_published_head_is_one_that_the_log_had(
    settings_with: Callable[..., Settings], store: Database, heads: Path
) -> None:
    settings = settings_with(f"folder:{heads}")
    for _ in range(3):
        publish(settings, store)
        forging.decide(store)
    [folder] = witnesses_of(settings)
    found = folder.held(REGISTRY).heads
    with store.transaction() as tx:
        log = queries.entries_at(tx, HashedTable.LOG, [head.entries for head in found])
    assert [head.entries for head in found] == [3, 4, 5]
    assert log == HashedEntries(6, {head.entries: head.hash for head in found})
