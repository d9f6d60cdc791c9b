"""`duplicates`: which finetunes are redundant."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deltadex.cli.analyses import print_json, reading, version_json
from deltadex.cli.options import DatabaseUrl, DataDir, Json

console = Console(highlight=False)


def duplicates(
    threshold: Annotated[
        float | None,
        typer.Option(help="Cosine similarity of a near duplicate.", min=-1, max=1, show_default="the setting"),
    ] = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show groups of redundant finetunes: equal weights, or nearly equal behaviour."""
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
