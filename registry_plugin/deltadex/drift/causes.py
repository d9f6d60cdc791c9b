"""Differences between the trainings of two versions: what may be the cause of a drift, the likeliest first."""

from __future__ import annotations

from deltadex.types import VersionRow
from deltadex.versions.differences import Difference, differing, training_facts
from deltadex.versions.record_queries import Record

#: Differences that a finding stores.
_STORED = 3


def differences(
    before: VersionRow, after: VersionRow, record_before: Record, record_after: Record
) -> tuple[Difference, ...]:
    """Return what differs between two versions: data sets, tags, code, then parameters."""
    found = differing(training_facts(before, record_before), training_facts(after, record_after))
    return tuple(one for _, one in found)


def in_words(found: tuple[Difference, ...]) -> str:
    """Return the first differences in a sentence that a finding stores; empty if there are none."""
    more = f"; and {len(found) - _STORED} more" if len(found) > _STORED else ""
    return "; ".join(map(str, found[:_STORED])) + more
