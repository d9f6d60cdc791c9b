"""Submission of searches by examples as flow runs."""

from __future__ import annotations

from functools import partial

from deltadex.app import App
from deltadex.find import queries as task_searches
from deltadex.find.search import log

#: Maximum duration of a search in deadlines: one to train, one to embed, one to wait for a worker and for files.
_DEADLINES = 3


def submit_asked(app: App) -> int:
    """Start a flow run for each waiting search and fail those whose run has died; return the number of started runs.

    If it is killed after starting a run, the next round gets the same run by its idempotency key.
    """
    seconds = _DEADLINES * app.settings.embedding.deadline_seconds
    registry = app.registry.name
    app.database.run(lambda tx: task_searches.fail_silent(tx, registry, after_seconds=seconds))
    asked = app.database.run(lambda tx: task_searches.waiting(tx, registry))
    for row in asked:
        # The key has the time too: another store on the same Prefect has the same ids.
        run_id = app.scheduler.submit_search(row.id, key=f"{registry}:{row.id}:{row.asked_at.timestamp()}")
        app.database.run(partial(task_searches.mark_queued, search_id=row.id, flow_run_id=run_id))
        log.info("queued search=%d run=%s", row.id, run_id)
    return len(asked)
