"""The flow `find-models`: what a few examples of a task do to a base, for a search that somebody asked for."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State as RunState
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from deltadex import few_shot
from deltadex.errors import DeltadexError
from deltadex.services import open_services
from deltadex.settings import load_settings


@flow(
    name="find-models",
    description="Trains a small adapter on a search's examples and keeps its delta activation, not the examples.",
    persist_result=False,
)
def find_models(search_id: int) -> RunState[Any]:
    """Bring a search to its end; who asked reads there why it failed."""
    with open_services(load_settings()) as services:
        try:
            is_done = few_shot.run(services, search_id, flow_run_id=str(flow_run.get_id()))
        except DeltadexError as error:
            return Failed(message=error.message)
    return Completed(message=f"search {search_id} is done" if is_done else "nothing to do: it had ended already")
