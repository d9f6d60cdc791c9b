"""Submission of requests for advice as flow runs."""

from __future__ import annotations

from deltadex.advise.queries import ADVICE
from deltadex.app import App
from deltadex.asked.submit import fail_dead, submit_waiting


def submit_asked(app: App) -> int:
    """Start a flow run for each waiting request and fail those whose run has died; return how many were started."""
    settings = app.settings
    # As many may stand before it as one person may ask for, and then some.
    fail_dead(
        app,
        ADVICE,
        queued_seconds=4 * settings.advise.deadline_seconds,
        silent_seconds=settings.embedding.silent_seconds,
    )
    return submit_waiting(app, ADVICE, app.scheduler.submit_advice)
