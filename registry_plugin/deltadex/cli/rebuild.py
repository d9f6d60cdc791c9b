"""`rebuild`: the store again from what lies on MLflow's runs."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict

import typer
from rich.console import Console
from rich.progress import Progress

from deltadex.cli.options import DatabaseUrl, DataDir, Json, PrefectUrl, TrackingUri, settings_from

console = Console(highlight=False)


def rebuild(
    json: Json = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> None:
    """Restore embeddings from the artifacts on MLflow's runs; nothing that the store has is replaced.

    Exits with 1 where an artifact is damaged or differs from the store.
    """
    from deltadex.rebuild import rebuild as restore
    from deltadex.services import open_services

    settings = settings_from(
        data_dir, tracking_uri=tracking_uri, database_url=database_url, prefect_api_url=prefect_api_url
    )
    with open_services(settings) as services, Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("reading", total=None)
        done = restore(services, on_progress=lambda read, of: progress.update(bar, completed=read, total=of))
    if json:
        print(json_format.dumps(asdict(done), indent=2))
    else:
        console.print(f"{done.restored} restored, {done.unchanged} there already, {done.without} without an artifact")
        for label, reason in done.problems:
            console.print(f"[red]✗[/] [bold]{label}[/] {reason}", soft_wrap=True)
    if done.problems:
        raise typer.Exit(1)
