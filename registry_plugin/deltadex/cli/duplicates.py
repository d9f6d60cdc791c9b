"""`duplicates`: which finetunes are redundant, in what way, and which to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json, settings_from
from deltadex.cli.reading import print_json, reading, version_json
from deltadex.settings import Settings
from deltadex.store import embeddings
from deltadex.store.database import Database

if TYPE_CHECKING:
    from deltadex.analysis.calibration import Threshold
    from deltadex.redundancy import RecipeRedundancy

console = Console(highlight=False)


def duplicates(
    threshold: Annotated[
        float | None,
        typer.Option(help="Cosine similarity of a near duplicate.", min=-1, max=1, show_default="the setting"),
    ] = None,
    recompute: Annotated[
        bool,
        typer.Option("--recompute", help="Find all near duplicates anew; goes on where it was killed."),
    ] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show groups of redundant finetunes, which of each to keep and why, and what retiring the others frees."""
    if recompute:
        if threshold is not None:
            raise typer.BadParameter("findings are made with the setting's threshold", param_hint="--threshold")
        _recompute(settings_from(data_dir, database_url=database_url), json=json)
        return
    # SciPy takes a moment to import: only for the commands that need it.
    from deltadex.redundancy import redundancies

    with reading(data_dir, database_url) as (tx, settings):
        found = redundancies(tx, settings.registry, thresholds=settings.thresholds, similarity=threshold)
    if json:
        print_json([_as_json(one) for one in found])
        return
    for one in found:
        _show(one)
    if not any(one.groups for one in found):
        console.print("[dim]No duplicates.[/]")


def _show(found: RecipeRedundancy) -> None:
    caption = "\n".join(f"{name}: {limit.value:g}, {limit.note}" for name, limit in _thresholds(found).items())
    columns = ("kind", "keep", "because", "retire", "frees", "lowest similarity", "norm ratio", "owners")
    table = Table(*columns, title=f"base {found.recipe.base_name}", caption=caption, caption_justify="left")
    for group in found.groups:
        retired = ", ".join(row.label for row in group.versions if row.id != group.keeper.version.id)
        table.add_row(
            group.kind.words,
            group.keeper.version.label,
            group.keeper.reason,
            retired,
            "" if group.freed_bytes is None else decimal(group.freed_bytes),
            f"{group.lowest_similarity:.4f}",
            f"{group.lowest_norm_ratio:.2f}",
            ", ".join(group.owners),
        )
    console.print(table)
    if found.too_weak:
        console.print(f"[dim]Too weak to place: {', '.join(row.label for row in found.too_weak)}[/]")


def _thresholds(found: RecipeRedundancy) -> dict[str, Threshold]:
    calibration = found.calibration
    return {
        "near, similarity": calibration.near_similarity,
        "near, norm ratio": calibration.near_norm_ratio,
        "same task, similarity": calibration.same_task,
    }


def _as_json(found: RecipeRedundancy) -> dict[str, Any]:
    return {
        "recipe": found.recipe.digest,
        "base": found.recipe.base_name,
        "thresholds": {name: asdict(limit) for name, limit in _thresholds(found).items()},
        "groups": [
            {
                "kind": group.kind,
                "versions": [
                    {**version_json(row), "owner": row.registered.owner, "aliases": list(row.registered.aliases)}
                    for row in group.versions
                ],
                "keeper": {**version_json(group.keeper.version), "reason": group.keeper.reason},
                "freed_bytes": group.freed_bytes,
                "owners": list(group.owners),
                "lowest_similarity": group.lowest_similarity,
                "lowest_norm_ratio": group.lowest_norm_ratio,
            }
            for group in found.groups
        ],
        "too_weak": [version_json(row) for row in found.too_weak],
    }


def _recompute(settings: Settings, *, json: bool) -> None:
    from deltadex.recomputation import recompute_near_duplicates

    with Database(settings.database_url) as database:
        with database.transaction() as tx:
            recipes = embeddings.recipes(tx, settings.registry)
        done = []
        for recipe in recipes:
            with _progress(recipe.base_name) as report:
                done.append((recipe, recompute_near_duplicates(settings, database, recipe, report)))
    if json:
        print_json(
            [{"recipe": recipe.digest, "base": recipe.base_name, **asdict(replaced)} for recipe, replaced in done]
        )
        return
    table = Table("base", "versions", "near duplicates", "new or changed", "gone")
    for recipe, found in done:
        numbers = (found.versions, found.pairs, found.changed, found.removed)
        table.add_row(recipe.base_name, *(f"{number:,}" for number in numbers))
    console.print(table)


@contextmanager
def _progress(base: str) -> Iterator[Callable[[str, int, int], None]]:
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars = {
            what: progress.add_task(f"{base}: {what}", start=False, total=None) for what in ("reading", "comparing")
        }

        def report(what: str, done: int, of: int) -> None:
            progress.start_task(bars[what])
            progress.update(bars[what], completed=done, total=of)

        yield report
