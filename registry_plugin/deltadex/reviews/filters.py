"""Conditions and order of findings, for the inbox and `deltadex review list`. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from deltadex.findings.kinds import KINDS, Severity
from deltadex.reviews.queries import ReviewRow
from deltadex.reviews.titles import title
from deltadex.types import DOMAIN_TAG


class FindingOrder(StrEnum):
    """Order of findings."""

    URGENT = "most urgent"
    DUE = "due first"
    NEWEST = "newest"
    OLDEST = "oldest"
    LARGEST = "frees most"


_ORDERS: Mapping[FindingOrder, Callable[[ReviewRow], tuple[float, ...]]] = {
    FindingOrder.URGENT: lambda row: (list(Severity).index(row.severity), row.due_at.timestamp(), row.id),
    FindingOrder.DUE: lambda row: (row.due_at.timestamp(), list(Severity).index(row.severity), row.id),
    FindingOrder.NEWEST: lambda row: (-row.first_seen.timestamp(), -row.id),
    FindingOrder.OLDEST: lambda row: (row.first_seen.timestamp(), row.id),
    FindingOrder.LARGEST: lambda row: (-(row.plan.freed_bytes or 0), row.id),
}


@dataclass(frozen=True, kw_only=True)
class FindingFilter:
    """Conditions that a finding has to fulfil, all of them; empty ones are ignored.

    Attributes
    ----------
    text
        Words that are all in its title, kind, owner or comment, in any case.
    owner, team, domain
        Tags of one of its versions.
    assignee
        A name; empty for unassigned findings, None for any.
    older_than_days
        Least age in days.
    """

    text: str = ""
    owner: str = ""
    team: str = ""
    domain: str = ""
    assignee: str | None = None
    older_than_days: int = 0

    def matches(self, row: ReviewRow) -> bool:
        """Return True if a finding fulfils all conditions."""
        versions = [version.registered for version in row.versions]
        return (
            (not self.text or all(word in searched(row) for word in self.text.casefold().split()))
            and (not self.owner or any(version.owner == self.owner for version in versions))
            and (not self.team or any(version.tags.get("team") == self.team for version in versions))
            and (not self.domain or any(version.tags.get(DOMAIN_TAG) == self.domain for version in versions))
            and self.assignee in (None, row.assignee)
            and datetime.now(UTC) - row.first_seen >= timedelta(days=self.older_than_days)
        )


def searched(row: ReviewRow) -> str:
    """Return the text of a finding that words are looked for in, in lower case."""
    parts = [title(row), KINDS[row.finding.kind].label, row.owner, row.assignee, row.last.comment if row.last else ""]
    return " ".join(parts).casefold()


def ordered(rows: Iterable[ReviewRow], order: FindingOrder) -> list[ReviewRow]:
    """Return findings in an order."""
    return sorted(rows, key=_ORDERS[order])


def values_of(rows: Iterable[ReviewRow], tag: str) -> list[str]:
    """Return the values of a tag, or the owners, among the versions of findings, sorted."""
    found = {
        (version.registered.owner if tag == "owner" else version.registered.tags.get(tag)) or ""
        for row in rows
        for version in row.versions
    }
    return sorted(found - {""})
