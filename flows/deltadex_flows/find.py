"""The flow `find-models`: the few-shot task embedding of a search."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State as RunState
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from deltadex.app import open_app
from deltadex.errors import DeltadexError
from deltadex.find import train
from deltadex_flows.run_settings import run_settings


@flow(
    name="find-models",
    description="Trains a small adapter on a search's examples and keeps its delta activation, not the examples.",
    persist_result=False,
)
def find_models(search_id: int) -> RunState[Any]:
    """Run a search; a failure is also stored with the search."""
    with open_app(run_settings()) as app:
        try:
            is_done = train.run(app, search_id, flow_run_id=str(flow_run.get_id()))
        except DeltadexError as error:
            return Failed(message=error.message)
    return Completed(message=f"search {search_id} is done" if is_done else "nothing to do: the search had ended")
