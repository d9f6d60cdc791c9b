"""Submission of safety measurements as flow runs, and requests for every version where the setting wants them."""

from __future__ import annotations

from deltadex.app import App
from deltadex.asked.submit import fail_dead, submit_waiting
from deltadex.safety import queries as safety
from deltadex.safety.ask import BY_SETTING, recipe_digest
from deltadex.safety.queries import SAFETY
from deltadex.store.database import Transaction

#: Measurements that the setting keeps under way: fresh versions and people go before a backlog of them.
_AT_ONCE = 4


def submit_asked(app: App) -> int:
    """Start a flow run for each waiting measurement and fail those whose run has died; return the started runs."""
    settings = app.settings
    fail_dead(
        app,
        SAFETY,
        queued_seconds=4 * settings.safety.deadline_seconds,
        silent_seconds=settings.embedding.silent_seconds,
    )
    if settings.safety.every_version:
        app.database.run(lambda tx: _ask_for_more(tx, settings.registry))
    return submit_waiting(app, SAFETY, app.scheduler.submit_safety)


def _ask_for_more(tx: Transaction, registry: str) -> None:
    free = _AT_ONCE - len(SAFETY.waiting(tx, registry)) - len(SAFETY.under_way(tx, registry))
    for version_id in safety.never_measured(tx, registry, limit=max(0, free)):
        safety.ask(tx, registry, version_id, probes=recipe_digest(), by=BY_SETTING)
