"""Submission of searches for taught strings as flow runs."""

from __future__ import annotations

from deltadex.app import App
from deltadex.asked.submit import fail_dead, submit_waiting
from deltadex.taught.queries import TAUGHT


def submit_asked(app: App) -> int:
    """Start a flow run for each waiting search and fail those whose run has died; return the number of started runs."""
    settings = app.settings
    # As many may stand before it as one person may ask for, and then some.
    fail_dead(
        app,
        TAUGHT,
        queued_seconds=8 * settings.taught.deadline_seconds,
        silent_seconds=settings.embedding.silent_seconds,
    )
    return submit_waiting(app, TAUGHT, app.scheduler.submit_taught)
