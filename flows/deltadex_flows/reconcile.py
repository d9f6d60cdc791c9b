"""The flow `reconcile`, on a schedule: what makes "nothing lost" true."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from deltadex.clustering import recluster_where_due
from deltadex.geometry import measure_where_due
from deltadex.layout import lay_out
from deltadex.reconcile import reconcile
from deltadex.services import open_services
from deltadex.settings import load_settings


@flow(
    name="reconcile",
    description="Compares registry, rows and flow runs, mends the differences, and renews clusters, geometry and map.",
    persist_result=False,
)
def reconcile_registry() -> str:
    """Run one round, and leave a note where it changed something."""
    with open_services(load_settings()) as services:
        done = reconcile(services)
        # Also where another round is under way: it has a lock of its own, and may take longer than a round.
        clustered = recluster_where_due(services.database, services.settings)
        measure_where_due(services.database, services.settings)
        lay_out(services.settings, services.database)
    if done is None:
        return "another reconciler is at it"
    note = (
        f"{done.swept.found} found, {done.swept.deleted} deleted, {done.resumed} resumed, "
        f"{done.revived} revived, {done.given_up} given up, {done.submitted} submitted, {len(clustered)} clustered"
    )
    if done.swept.found or done.swept.deleted or done.resumed or done.revived or done.given_up:
        create_markdown_artifact(key="deltadex-reconcile", markdown=f"**Reconciled:** {note}.")
    return note
