"""Worth of retiring redundant versions: bytes, their share of the registry, and money. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deltadex.duplicates.keeper import is_deployed
from deltadex.reviews.lifecycle import UNDECIDED, Status
from deltadex.reviews.queries import ReviewRow
from deltadex.setting_groups import CostSettings
from deltadex.types import FindingKind, VersionRow

_GB = 1e9
#: Of a month: 365.25 / 12 days.
_HOURS = 730.5
#: Models of one task may still answer differently: they are not counted as savings.
_COUNTED = (FindingKind.EXACT_DUPLICATE, FindingKind.NEAR_DUPLICATE)


@dataclass(frozen=True)
class Worth:
    """Savings by decisions about groups.

    Attributes
    ----------
    freed_bytes
        Bytes of the versions to retire, as far as their sizes are known.
    share
        Share of the bytes that the registry's versions hold; None if no size is known.
    storage
        Price of these bytes per month; None without a price.
    endpoints
        Price per month of the endpoints beyond one per group, whose traffic one could serve; None without a price.
    """

    freed_bytes: int
    share: float | None
    storage: float | None
    endpoints: float | None

    def in_words(self, currency: str) -> str:
        """Return the money per month; empty without prices."""
        parts = [(self.storage, "storage"), (self.endpoints, "endpoints, once their traffic is moved")]
        return ", ".join(f"{money:,.2f} {currency} a month for {what}" for money, what in parts if money)


def worth(rows: Iterable[ReviewRow], versions: Sequence[VersionRow], costs: CostSettings) -> Worth:
    """Return what all groups of equal or nearly equal versions are worth that are undecided, or decided and not done.

    Parameters
    ----------
    versions
        All versions of the registry.
    """
    groups = [
        row
        for row in rows
        if row.is_found and row.finding.kind in _COUNTED and row.review.status in (*UNDECIDED, Status.ACCEPTED)
    ]
    freed = sum(row.plan.freed_bytes or 0 for row in groups)
    held = sum({row.registered.source: row.provenance.weights_bytes or 0 for row in versions}.values())
    spare = sum(max(0, _endpoints(row.members, costs.endpoint_tag) - 1) for row in groups)
    return Worth(
        freed,
        freed / held if held else None,
        None if costs.gb_month is None else freed / _GB * costs.gb_month,
        None if costs.endpoint_hour is None else spare * costs.endpoint_hour * _HOURS,
    )


def _endpoints(members: Sequence[VersionRow], tag: str) -> int:
    return sum(is_deployed(member.registered.tags.get(tag, "")) for member in members)
