"""The flow `write-evidence-packs`: for teams that schedule it in Prefect, such as once a month for what is deployed."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State as RunState
from prefect.states import Completed, Failed

from deltadex.app import open_app
from deltadex.errors import DeltadexError
from deltadex.evidence import by_alias
from deltadex_flows.run_settings import run_settings


@flow(
    name="write-evidence-packs",
    description="Writes signed packs about all versions with an alias, on the worker's machine.",
    persist_result=False,
)
def write_evidence_packs(alias: str = "champion") -> RunState[Any]:
    """Write the packs as the worker's user may see the models."""
    with open_app(run_settings()) as app:
        try:
            written = by_alias.write_again(app.settings, app.database, alias)
        except DeltadexError as error:
            return Failed(message=f"{error.message}. {error.hint}")
    return Completed(message=f"packs written to {written[0].parent}: {len(written)}")
