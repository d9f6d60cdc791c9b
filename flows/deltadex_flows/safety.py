"""The flow `measure-safety`: a model version reads harmful and harmless prompts."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State as RunState
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from deltadex.app import open_app
from deltadex.errors import DeltadexError
from deltadex.ingest import safety
from deltadex_flows.run_settings import run_settings


@flow(
    name="measure-safety",
    description="Measures whether a finetune still tells harmful from harmless prompts as its base does.",
    persist_result=False,
)
def measure_safety(safety_id: int) -> RunState[Any]:
    """Run a safety measurement; a failure is also stored with its request."""
    with open_app(run_settings()) as app:
        try:
            is_done = safety.run(app, safety_id, flow_run_id=str(flow_run.get_id()))
        except DeltadexError as error:
            return Failed(message=error.message)
    done = f"safety measurement {safety_id} is done"
    return Completed(message=done if is_done else "nothing to do: the measurement had ended")
