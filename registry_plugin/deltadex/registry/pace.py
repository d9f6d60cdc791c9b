"""A limit on the requests that this process sends to MLflow."""

from __future__ import annotations

import threading
import time

from mlflow.tracking.request_header.abstract_request_header_provider import RequestHeaderProvider


class Pace:
    """Lets callers go one after the other, at most so many in a second.

    Parameters
    ----------
    per_second
        None lets everyone go at once.
    """

    def __init__(self, per_second: float | None) -> None:
        self._seconds = 1 / per_second if per_second else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Wait for a turn."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._seconds
        time.sleep(max(0.0, turn - time.monotonic()))


_pace = Pace(None)


def limit_requests(per_second: float | None) -> None:
    """Limit the requests of all clients in this process from now on; None lifts the limit."""
    global _pace
    _pace = Pace(per_second)


class PacedRequests(RequestHeaderProvider):
    """Plugin that MLflow's client asks for headers before each request: it adds none, and the request waits here."""

    def in_context(self) -> bool:
        """Return True: every request is counted."""
        return True

    def request_headers(self) -> dict[str, str]:
        """Wait for this request's turn."""
        _pace.wait()
        return {}
