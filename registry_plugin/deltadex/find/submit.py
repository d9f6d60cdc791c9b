"""Submission of searches by examples as flow runs."""

from __future__ import annotations

from deltadex.app import App
from deltadex.asked.submit import fail_dead, submit_waiting
from deltadex.find.queries import SEARCHES

#: Maximum duration of a search in deadlines: one to train, one to embed, one to wait for a worker and for files.
_DEADLINES = 3


def submit_asked(app: App) -> int:
    """Start a flow run for each waiting search and fail those whose run has died; return the number of started runs."""
    seconds = _DEADLINES * app.settings.embedding.deadline_seconds
    fail_dead(app, SEARCHES, queued_seconds=seconds, silent_seconds=seconds)
    return submit_waiting(app, SEARCHES, app.scheduler.submit_search)
