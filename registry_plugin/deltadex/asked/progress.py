"""Progress of requests, as their pages show it."""

from __future__ import annotations

import time
from collections.abc import Callable

from deltadex.asked.queries import Requests
from deltadex.store.database import Database

#: Called with the share of the work that is done.
OnShare = Callable[[float], None]

_SECONDS = 1.0


def progress_of(database: Database, requests: Requests, request_id: int) -> OnShare:
    """Return a function that stores the share of a request's work that is done, at most once a second."""
    reported_at = 0.0

    def report(share: float) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at >= _SECONDS:
            reported_at = time.monotonic()
            database.run(lambda tx: requests.advance(tx, request_id, share))

    return report
