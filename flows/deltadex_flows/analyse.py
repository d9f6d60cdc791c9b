"""The flow `analyse-registry`: analyses of all embeddings, started by the watcher when they are due."""

from __future__ import annotations

from prefect import flow

from deltadex.app import open_app
from deltadex.geometry.measure import measure_where_due
from deltadex.ingest.analyses import one_run
from deltadex.ingest.round import judge_relabelled, recompute_where_due
from deltadex.ingest.words import tell_apart_where_due
from deltadex.map.layout import lay_out
from deltadex_flows.run_settings import run_settings


@flow(
    name="analyse-registry",
    description="Recomputes words, clusters, geometry and map if they are due.",
    persist_result=False,
)
def analyse_registry() -> str:
    """Run the analyses that are due, unless another run is in progress."""
    with open_app(run_settings()) as app, one_run(app) as is_free:
        if not is_free:
            return "another run is in progress"
        settings, database = app.settings, app.database
        told_apart = tell_apart_where_due(app)  # clusters may be named by words
        clustered = len(recompute_where_due(database, settings))
        judge_relabelled(database, settings)
        measured = measure_where_due(database, settings)
        laid_out = lay_out(settings, database)
    return f"recipes: {clustered} clustered, {measured} measured, {laid_out} laid out; words of {told_apart} versions"
