"""Submission of requests as flow runs."""

from __future__ import annotations

import logging
from functools import partial
from typing import Protocol

from deltadex.app import App
from deltadex.asked.queries import Requests

log = logging.getLogger(__name__)


class Submit(Protocol):
    """Starts the flow run of a request and returns the run's id; one key has one run."""

    def __call__(self, request_id: int, /, *, key: str) -> str: ...  # noqa: D102


def submit_waiting(app: App, requests: Requests, submit: Submit) -> int:
    """Start a flow run for each request that waits; return the number of started runs.

    If it is killed after starting a run, the next round gets the same run by its idempotency key.
    """
    registry = app.registry.name
    asked = app.database.run(lambda tx: requests.waiting(tx, registry))
    for one in asked:
        # The key has the time too: another store on the same Prefect has the same ids.
        run_id = submit(one.id, key=f"{registry}:{one.id}:{one.asked_at.timestamp()}")
        app.database.run(partial(requests.mark_queued, request_id=one.id, flow_run_id=run_id))
        log.info("queued %s=%d run=%s", requests.noun, one.id, run_id)
    return len(asked)


def fail_dead(app: App, requests: Requests, *, queued_seconds: float, silent_seconds: float) -> None:
    """Fail the requests whose flow run has ended without a result, so that they may be asked again.

    Parameters
    ----------
    queued_seconds
        Time that a run may wait for a worker.
    silent_seconds
        Time without a sign of life after which a run counts as dead, whatever Prefect says of it.
    """
    registry = app.registry.name
    app.database.run(
        lambda tx: requests.fail_silent(tx, registry, queued_seconds=queued_seconds, silent_seconds=silent_seconds)
    )
    runs = app.database.run(lambda tx: requests.under_way(tx, registry))
    dead = app.scheduler.dead_runs(list(runs.values())) if runs else ()
    for request_id in (each for each, run_id in runs.items() if run_id in dead):
        reason, hint = "its flow run died", "Ask again; the flow run's log in Prefect may say why."
        app.database.run(partial(requests.fail, request_id=request_id, reason=reason, hint=hint))
