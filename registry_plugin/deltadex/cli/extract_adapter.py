"""The command `extract-adapter`: a full model's difference from its base, as a LoRA adapter."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from deltadex.access import at_terminal
from deltadex.cli.options import (
    DatabaseUrl,
    DataDir,
    Json,
    PrefectUrl,
    TrackingUri,
    VersionLabel,
    parse_label,
    settings_from,
)
from deltadex.cli.reading import print_json, version_json
from deltadex.cli.terminal import plain
from deltadex.escaping import printable
from deltadex.versions.labels import known_version

if TYPE_CHECKING:
    from deltadex.ingest.extract import ExtractedAdapter

_FOUND_SOMETHING = 4


def extract_adapter(
    label: VersionLabel,
    output: Annotated[Path, typer.Option(help="The folder to write, in peft's format.", file_okay=False)],
    rank: Annotated[
        int | None, typer.Option(min=1, help="Rank of the adapter.", show_default="the smallest that is exact")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Keep the adapter even if it fails the check.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> None:
    r"""Write a full model's difference from its base as a LoRA adapter, and check that it acts like the model.

    The check compares its embedding and its next tokens after the probes with the model's own. It runs on this machine
    and needs deltadex\[embed]. Exits with 4, and keeps nothing, if the adapter fails the check.
    """
    from deltadex.app import open_app
    from deltadex.ingest.extract import extract_adapter as extract

    name, number = parse_label(label)
    output = _checked(output)
    settings = settings_from(
        data_dir, tracking_uri=tracking_uri, database_url=database_url, prefect_api_url=prefect_api_url
    )
    with open_app(settings) as app, _progress() as progress:
        viewer = at_terminal(settings)
        row = app.database.run(lambda tx: known_version(tx, viewer, app.registry.name, name, number))
        task = progress.add_task("", total=None, at="")
        done = extract(
            app,
            row,
            output,
            rank=rank,
            keeps_any=force,
            on_stage=lambda stage: progress.reset(task, description=stage, total=None, at=""),
            on_progress=lambda at, read: progress.update(task, completed=read, at=plain(at.partition("+")[0])),
        )
    is_kept = done.acts_alike or force
    if json:
        print_json(
            {
                **version_json(row),
                "base": done.base_name,
                **asdict(done.found),
                "similarity": done.similarity,
                "agreement": done.agreement,
                "acts_alike": done.acts_alike,
                "output": str(output) if is_kept else None,
            }
        )
    else:
        _show(row.label, done, output if is_kept else None)
    if not done.acts_alike:
        raise typer.Exit(_FOUND_SOMETHING)


def _checked(output: Path) -> Path:
    output = output.absolute()
    if not output.parent.is_dir():
        raise typer.BadParameter(printable(f"{output.parent} is not a folder"), param_hint="--output")
    if output.exists() and any(output.iterdir()):
        raise typer.BadParameter(printable(f"{output} is not empty"), param_hint="--output")
    return output


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), TimeElapsedColumn(), DownloadColumn(), TextColumn("{task.fields[at]}"))
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _show(label: str, done: ExtractedAdapter, output: Path | None) -> None:
    from deltadex.ingest.extract import LEAST_AGREEMENT, LEAST_SIMILARITY

    console, found = Console(highlight=False, soft_wrap=True), done.found
    console.print(
        f"[bold]{plain(label)}[/]: an adapter of rank {found.rank} on {plain(done.base_name)}, "
        f"{found.adapter_bytes / 1e6:,.1f} MB instead of {found.checkpoint_bytes / 1e6:,.1f} MB"
    )
    console.print(f"relative error {found.error:.2g}, of which rounding alone makes {found.rounding:.2g}")
    console.print(f"similarity of the embeddings {done.similarity:.4f} (at least {LEAST_SIMILARITY})")
    if done.agreement is None:
        console.print("[dim]The model generates no text: next tokens were not compared.[/]")
    else:
        console.print(f"equal next tokens after the probes {done.agreement:.1%} (at least {LEAST_AGREEMENT:.0%})")
    if output:
        console.print(
            f"{plain(output)} written" + ("" if done.acts_alike else ", [yellow]though it fails the check[/]")
        )
    else:
        console.print("[red]It does not act like the model: nothing was written.[/] A higher --rank may help.")
