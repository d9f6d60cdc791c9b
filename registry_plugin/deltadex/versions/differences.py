"""Facts about two versions, compared by name. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deltadex.types import VersionRow
from deltadex.versions.record_queries import Record

#: Text by name, by part.
Facts = Mapping[str, Mapping[str, str]]
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


def training_facts(row: VersionRow, record: Record) -> dict[str, Mapping[str, str]]:
    """Return what is known of a training, by parts in the order in which they are likely to be the cause of a drift."""
    return {
        "data": record.get("data", {}),
        "tags": {f"tag {key}": value for key, value in row.registered.own_tags.items()},
        "code": record.get("code", {}),
        "parameters": record.get("parameters", {}),
    }


def differing(before: Facts, after: Facts) -> Iterator[tuple[str, Difference]]:
    """Yield each difference with its part, in the order of the parts of `before` and by name."""
    for part in before:
        one, other = before[part], after.get(part, {})
        for name in sorted({*one, *other}):
            if one.get(name) != other.get(name):
                yield part, Difference(name, one.get(name), other.get(name))


def shared(one: Facts, other: Facts) -> dict[str, str]:
    """Return the facts that are equal, by name."""
    return {
        name: value
        for part, values in one.items()
        for name, value in sorted(values.items())
        if other.get(part, {}).get(name) == value
    }


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
