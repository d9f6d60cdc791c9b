"""The command `rebuild`: restores embeddings from the artifacts in MLflow."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.console import Console
from rich.progress import Progress

from deltadex.cli.options import DatabaseUrl, DataDir, Json, PrefectUrl, TrackingUri, settings_from
from deltadex.cli.reading import print_json
from deltadex.cli.terminal import plain

console = Console(highlight=False)


def rebuild(
    json: Json = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> None:
    """Restore embeddings from the artifacts on MLflow's runs. Existing rows are not replaced.

    Versions whose artifact is not sealed with this Deltadex's key are embedded again.

    Exits with 1 if an artifact is damaged or differs from the store.
    """
    from deltadex.app import open_app
    from deltadex.ingest.rebuild import rebuild as restore

    settings = settings_from(
        data_dir, tracking_uri=tracking_uri, database_url=database_url, prefect_api_url=prefect_api_url
    )
    with open_app(settings) as app, Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("reading", total=None)
        done = restore(app, on_progress=lambda read, total: progress.update(bar, completed=read, total=total))
    if json:
        print_json(asdict(done))
    else:
        counts = f"{done.restored} restored, {done.unchanged} unchanged, {done.without} without an artifact"
        console.print(f"{counts}, {len(done.again)} to embed again")
        for label, reason in done.again:
            console.print(f"[yellow]↻[/] [bold]{plain(label)}[/] is embedded again: {plain(reason)}", soft_wrap=True)
        for label, reason in done.problems:
            console.print(f"[red]✗[/] [bold]{plain(label)}[/] {plain(reason)}", soft_wrap=True)
    if done.problems:
        raise typer.Exit(1)
