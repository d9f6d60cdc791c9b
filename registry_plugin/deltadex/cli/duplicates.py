"""`duplicates`: which finetunes are redundant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deltadex.cli.analyses import print_json, reading, version_json
from deltadex.cli.options import DatabaseUrl, DataDir, Json, settings_from
from deltadex.settings import Settings
from deltadex.store import embeddings
from deltadex.store.database import Database

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
    """Show groups of redundant finetunes: equal weights, or nearly equal behaviour."""
    if recompute:
        if threshold is not None:
            raise typer.BadParameter("findings are made with the setting's threshold", param_hint="--threshold")
        _recompute(settings_from(data_dir, database_url=database_url), json=json)
        return
    # SciPy and scikit-learn take a second to import: only for the commands that need them.
    from deltadex import answers

    with reading(data_dir, database_url) as (tx, settings):
        limit = settings.thresholds.near_duplicate_similarity if threshold is None else threshold
        groups = answers.duplicate_groups(tx, settings.registry, min_similarity=limit)
    if json:
        print_json(
            {
                "threshold": limit,
                "groups": [
                    {
                        "exact": group.is_exact,
                        "lowest_similarity": group.lowest_similarity,
                        "recipe": group.recipe.digest,
                        "versions": [version_json(row) for row in group.versions],
                    }
                    for group in groups
                ],
            }
        )
        return
    table = Table("kind", "versions", "lowest similarity", caption=f"near means a similarity of at least {limit}")
    for group in groups:
        kind = "same weights" if group.is_exact else "near"
        table.add_row(kind, ", ".join(row.label for row in group.versions), f"{group.lowest_similarity:.4f}")
    console.print(table if groups else "[dim]No duplicates.[/]")


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
