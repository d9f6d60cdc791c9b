"""The flow `replay-versions`: two model versions answer the same prompts."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State as RunState
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from deltadex.app import open_app
from deltadex.errors import DeltadexError
from deltadex.ingest import replay
from deltadex_flows.run_settings import run_settings


@flow(
    name="replay-versions",
    description="Lets two model versions answer the same prompts and keeps how far they agree, not prompts or answers.",
    persist_result=False,
)
def replay_versions(replay_id: int) -> RunState[Any]:
    """Run a replay; a failure is also stored with the replay."""
    with open_app(run_settings()) as app:
        try:
            is_done = replay.run(app, replay_id, flow_run_id=str(flow_run.get_id()))
        except DeltadexError as error:
            return Failed(message=error.message)
    return Completed(message=f"replay {replay_id} is done" if is_done else "nothing to do: the replay had ended")
