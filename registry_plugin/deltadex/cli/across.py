"""The command `across`: versions of other bases that do alike."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deltadex.access import Right, at_terminal
from deltadex.across import reads
from deltadex.across.queries import Coverage
from deltadex.across.reads import Counterparts
from deltadex.cli.options import (
    DatabaseUrl,
    DataDir,
    Json,
    PrefectUrl,
    TrackingUri,
    parse_label,
    settings_from,
)
from deltadex.cli.reading import print_json, reading, version_json
from deltadex.cli.terminal import plain
from deltadex.settings import Settings
from deltadex.types import VersionRow
from deltadex.versions.labels import known_version

if TYPE_CHECKING:
    from deltadex.ingest.across import Updated

_MEANING = "a shortlist by what they make likelier on fixed texts: never proof of a duplicate"


def across(
    label: Annotated[
        str | None, typer.Argument(metavar="NAME/VERSION", help="A model version.", show_default=False)
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="First compute what is missing, on this machine.")] = False,
    base: Annotated[str | None, typer.Option(help="Only finetunes of this base.", show_default="all others")] = None,
    limit: Annotated[int, typer.Option("--limit", "-k", help="Maximum number of versions.", min=1)] = 5,
    json: Json = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> None:
    r"""Show the versions of other bases that are most like a version; without one, what can be compared.

    By Delta Meaning: which fixed texts and tokens a finetune makes likelier than its base does. Between unrelated
    bases one of the five nearest was of the same field for 57 of 60 finetunes, the very nearest for 33; between
    relatives the nearest for 35 of 36: see docs/across.md.
    `--update` needs deltadex\[embed].
    """
    done = None
    if update:
        settings = settings_from(
            data_dir, tracking_uri=tracking_uri, database_url=database_url, prefect_api_url=prefect_api_url
        )
        at_terminal(settings).require(Right.DECIDE)
        done = _update(settings)
    with reading(data_dir, database_url) as (tx, viewer, settings):
        if label is None:
            covered = reads.coverage(tx, viewer, settings.registry)
            if json:
                print_json({"bases": [asdict(one) for one in covered], **_update_json(done)})
            else:
                _show_coverage(covered)
        else:
            row = known_version(tx, viewer, settings.registry, *parse_label(label))
            found = reads.counterparts(tx, viewer, settings.registry, row.id, base=base, k=limit)
            if json:
                print_json(_as_json(row, found, done))
            else:
                _show(row, found)
    if done and not json:
        _show_missed(done)


def _update(settings: Settings) -> Updated:
    from deltadex.app import open_app
    from deltadex.ingest.across import update

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with open_app(settings) as app, Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        return update(
            app,
            on_version=lambda done, total, label: progress.update(
                task, completed=done, total=total, description=plain(label)
            ),
        )


def _show_coverage(covered: list[Coverage]) -> None:
    console = Console(highlight=False)
    table = Table("base", "versions", "compared across bases")
    for one in covered:
        table.add_row(plain(one.base_name), f"{one.versions:,}", f"{one.known:,}")
    console.print(table)
    if any(one.known < one.versions for one in covered):
        console.print("`deltadex across --update` computes what is missing.")
    if len(covered) < 2:
        console.print("There are no two bases to compare.")


def _show(row: VersionRow, found: Counterparts) -> None:
    console = Console(highlight=False)
    if found.nearest:
        table = Table(
            "version", "base", "similarity of meaning",
            title=f"{plain(row.label)}, base {plain(found.base_name)}",
            caption=f"nearest of {found.compared:,}; {_MEANING}",
        )  # fmt: skip
        for one in found.nearest:
            table.add_row(plain(one.version.label), plain(one.base_name), f"{one.similarity:.3f}")
        console.print(table)
    if found.note:
        console.print(plain(found.note))


def _show_missed(done: Updated) -> None:
    console = Console(highlight=False, stderr=True)
    for one in done.missed:
        console.print(f"[yellow]not computed[/] {plain(one.version.label)}: {plain(one.error.message)}")


def _as_json(row: VersionRow, found: Counterparts, done: Updated | None) -> dict[str, object]:
    near = [{**version_json(one.version), "base": one.base_name, "similarity": one.similarity} for one in found.nearest]
    return {
        **version_json(row),
        "base": found.base_name or None,
        "compared": found.compared,
        "nearest": near,
        "note": found.note or None,
        **_update_json(done),
    }


def _update_json(done: Updated | None) -> dict[str, object]:
    if done is None:
        return {}
    missed = [{**version_json(one.version), "reason": one.error.message} for one in done.missed]
    return {"computed": done.computed, "missed": missed}
