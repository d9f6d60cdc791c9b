"""Differences between the trainings of two versions: what may be the cause of a drift, the likeliest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deltadex.types import VersionRow
from deltadex.versions.record_queries import Record

#: Parts of a record in the order in which they are likely to be the cause; tags are between the first and the second.
_PARTS = ("data", "code", "parameters")
#: Differences that a finding stores.
_STORED = 3
#: Characters of a value that are shown: tags may be long.
_SHOWN = 80


@dataclass(frozen=True)
class Difference:
    """A value that differs between two versions; None where it is absent."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{_cut(self.name)}: {_cut(self.before or 'none')} → {_cut(self.after or 'none')}"


def differences(
    before: VersionRow, after: VersionRow, record_before: Record, record_after: Record
) -> tuple[Difference, ...]:
    """Return what differs between two versions: data sets, tags, code, then parameters."""
    sides = [
        {"data": record.get("data", {}), "tags": _own_tags(row), **{part: record.get(part, {}) for part in _PARTS[1:]}}
        for row, record in ((before, record_before), (after, record_after))
    ]
    return tuple(one for part in sides[0] for one in _of_part(sides[0][part], sides[1][part]))


def in_words(found: tuple[Difference, ...]) -> str:
    """Return the first differences in a sentence that a finding stores; empty if there are none."""
    more = f"; and {len(found) - _STORED} more" if len(found) > _STORED else ""
    return "; ".join(map(str, found[:_STORED])) + more


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _of_part(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield Difference(name, before.get(name), after.get(name))


def _own_tags(row: VersionRow) -> dict[str, str]:
    return {f"tag {key}": value for key, value in row.registered.own_tags.items()}
