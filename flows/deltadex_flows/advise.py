"""The flow `advise-task`: what to do for a task, measured on examples of it."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State as RunState
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from deltadex.app import open_app
from deltadex.errors import DeltadexError
from deltadex.ingest import advise
from deltadex_flows.run_settings import run_settings


@flow(
    name="advise-task",
    description="Scores base, prompt, finetunes and training on a task's examples and keeps the scores alone.",
    persist_result=False,
)
def advise_task(advice_id: int) -> RunState[Any]:
    """Run an advice; a failure is also stored with its request."""
    with open_app(run_settings()) as app:
        try:
            is_done = advise.run(app, advice_id, flow_run_id=str(flow_run.get_id()))
        except DeltadexError as error:
            return Failed(message=error.message)
    return Completed(message=f"advice {advice_id} is done" if is_done else "nothing to do: the advice had ended")
