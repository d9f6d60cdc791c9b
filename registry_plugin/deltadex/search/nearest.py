"""Nearest neighbours of a newly stored version."""

from __future__ import annotations

from collections.abc import Sequence

from deltadex.search import neighbors as search
from deltadex.search.neighbors import Neighbor
from deltadex.store.database import Transaction
from deltadex.types import VersionRow

#: Number of neighbours that are read on arrival.
NEAREST = 20


def nearest(tx: Transaction, version: VersionRow) -> Sequence[Neighbor]:
    """Return the nearest neighbours of a newly stored version; most rules on arrival need no other search."""
    return search.neighbors(tx, version.id, k=NEAREST, thoroughly=True).neighbors
