"""Conditions on the list of registered models."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from deltadex.catalog.wanted import Choices, Wanted, parse_words


@pytest.mark.parametrize(
    ("text", "terms", "tags"),
    [
        ("", (), {}),
        ("sql  writer", ("sql", "writer"), {}),
        ("team:search sql", ("sql",), {"team": "search"}),
        ('owner:"Ann Lee" "two words"', ("two words",), {"owner": "Ann Lee"}),
        ("url:http://x", (), {"url": "http://x"}),
        ('half:" "', (), {"half": " "}),
        (":value key:", (":value", "key:"), {}),
    ],
)
def test_words_are_terms_or_tags(text: str, terms: tuple[str, ...], tags: dict[str, str]) -> None:
    assert parse_words(text) == (terms, tags)


def test_conditions_that_no_version_can_meet_are_said() -> None:
    known = Choices(("search",), ("sql",))
    assert known.unknown(Wanted(team="search", domain="sql")) == []
    first, second, third = known.unknown(
        Wanted(
            team="nobody", domain="x", since=datetime(2026, 2, 1, tzinfo=UTC), until=datetime(2026, 1, 1, tzinfo=UTC)
        )
    )
    assert "'nobody'" in first
    assert "'x'" in second
    assert "wrong order" in third
