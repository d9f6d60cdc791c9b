"""The command `geometry`: differences between models that repeat in other models or domains."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from deltadex.cli.options import DatabaseUrl, DataDir, Json
from deltadex.cli.reading import print_json, reading
from deltadex.cli.terminal import plain
from deltadex.embeddings import reads as embeddings
from deltadex.embeddings.queries import RecipeRow
from deltadex.store.database import Database

if TYPE_CHECKING:
    from deltadex.geometry.atoms import Parallelogram
    from deltadex.geometry.chance import Refusal
    from deltadex.geometry.measure import Measurement

console = Console(highlight=False)

_NOT_YET = "Not measured yet: a worker does so within a minute, `deltadex geometry --recompute` right away."


def geometry(
    recipe: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Only the recipe whose digest starts with this.", show_default="all"),
    ] = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Measure now instead of showing the latest result.")
    ] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show which differences repeat: steps between versions, and pairs of tag values, with their null."""
    # SciPy takes a second to import: only commands that need it import it.
    from deltadex.geometry import measure as geometry
    from deltadex.geometry import reads

    with reading(data_dir, database_url) as (tx, viewer, settings):
        recipes = embeddings.recipes(tx, viewer, settings.registry)
        chosen = [each for each in recipes if each.digest.startswith(recipe or "")]
        if recipe and not chosen:
            raise typer.BadParameter(f"no recipe's digest starts with {recipe!r}", param_hint="--recipe")
    if recompute:
        with Database(settings.url_of("writer")) as database, Console(stderr=True).status("measuring"):
            for each in chosen:
                geometry.measure(database, settings.registry, each)
    with reading(data_dir, database_url) as (tx, viewer, settings):
        measurements = [(each, reads.latest(tx, viewer, settings.registry, each)) for each in chosen]
    if json:
        print_json([_as_json(each, measured) for each, measured in measurements])
        return
    for each, measured in measurements:
        _show(each, measured)
    if not measurements:
        console.print("[dim]Nothing is embedded yet: see `deltadex status`.[/]")


def _show(recipe: RecipeRow, measured: Measurement | None) -> None:
    from deltadex.geometry.chance import Refusal

    console.print(f"[bold]base {plain(recipe.base_name)}[/]", end=" · ")
    if measured is None:
        console.print(f"[dim]{_NOT_YET}[/]")
        return
    console.print(f"{measured.basis}; `--recompute` measures it now")
    for answer in measured.geometry.differences:
        style = "[dim]" if isinstance(answer, Refusal) else "[not dim]"
        console.print(f"  · {style}{plain(answer.meaning)}[/]")
    if not measured.geometry.differences:
        console.print("  [dim]No model has two versions, and no tag has two values in one domain.[/]")


def _as_json(recipe: RecipeRow, measured: Measurement | None) -> dict[str, Any]:
    about = {"recipe": recipe.digest, "base": recipe.base_name}
    if measured is None:
        return {**about, "note": _NOT_YET}
    return {
        **about,
        "found_at": measured.found_at.isoformat(),
        "versions": measured.versions,
        "method": measured.method,
        "differences": [_answer_json(one) for one in measured.geometry.differences],
    }


def _answer_json(answer: Parallelogram | Refusal) -> dict[str, Any]:
    from deltadex.geometry.chance import Refusal

    return {"answered": not isinstance(answer, Refusal), "meaning": answer.meaning, **asdict(answer)}
