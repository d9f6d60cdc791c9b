"""The flow `find-taught-strings`: secrets and personal data that a model version says and its base does not."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State as RunState
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from deltadex.app import open_app
from deltadex.errors import DeltadexError
from deltadex.ingest import taught
from deltadex_flows.run_settings import run_settings


@flow(
    name="find-taught-strings",
    description="Continues texts with a version and its base, and keeps the strings that only the version knows.",
    persist_result=False,
)
def find_taught_strings(taught_id: int) -> RunState[Any]:
    """Run a search; a failure is also stored with it. Its messages hold no string that was found."""
    with open_app(run_settings()) as app:
        try:
            is_done = taught.run(app, taught_id, flow_run_id=str(flow_run.get_id()))
        except DeltadexError as error:
            return Failed(message=error.message)
    return Completed(message=f"search {taught_id} is done" if is_done else "nothing to do: the search had ended")
