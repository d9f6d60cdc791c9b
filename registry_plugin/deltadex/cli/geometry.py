"""`geometry`: what shape all the embeddings of a recipe have together."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json
from deltadex.cli.reading import print_json, reading
from deltadex.store import embeddings
from deltadex.store.database import Database
from deltadex.store.embeddings import RecipeRow

if TYPE_CHECKING:
    from deltadex.analysis.geometry.atoms import Parallelogram
    from deltadex.analysis.geometry.chance import Refusal
    from deltadex.analysis.geometry.galaxy import Galaxy
    from deltadex.analysis.geometry.lobes import Lobes
    from deltadex.geometry import Measurement

console = Console(highlight=False)

_NOT_YET = "Not measured yet: the reconciler does it within a minute, `deltadex geometry --recompute` now."


def geometry(
    recipe: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Only this recipe: the start of its digest.", show_default="all"),
    ] = None,
    recompute: Annotated[bool, typer.Option("--recompute", help="Measure anew instead of reading it.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show how many directions the models span, which tags say what they do, and which differences repeat."""
    # SciPy takes a second to import: only for the commands that need it.
    from deltadex import geometry

    with reading(data_dir, database_url) as (tx, settings):
        every = embeddings.recipes(tx, settings.registry)
        chosen = [each for each in every if each.digest.startswith(recipe or "")]
        if recipe and not chosen:
            raise typer.BadParameter(f"no recipe's digest starts with {recipe!r}", param_hint="--recipe")
    if recompute:
        with Database(settings.database_url) as database, Console(stderr=True).status("measuring"):
            for each in chosen:
                geometry.measure(database, settings.registry, each)
    with reading(data_dir, database_url) as (tx, settings):
        found = [(each, geometry.latest(tx, settings.registry, each)) for each in chosen]
    if json:
        print_json([_json(each, measured) for each, measured in found])
        return
    for each, measured in found:
        _show(each, measured)
    if not found:
        console.print("[dim]Nothing is embedded yet: see `deltadex status`.[/]")


def _show(recipe: RecipeRow, measured: Measurement | None) -> None:
    from deltadex.analysis.geometry.chance import Refusal

    console.print(f"[bold]base {escape(recipe.base_name)}[/]", end=" · ")
    if measured is None:
        console.print(f"[dim]{_NOT_YET}[/]")
        return
    found = measured.geometry
    part = "" if found.drawn == found.models else f", {found.drawn} of them drawn"
    console.print(f"{found.models} different models{part} · {measured.basis}; `--recompute` makes it anew")
    for answer in found.answers:
        style = "[dim]" if isinstance(answer, Refusal) else "[not dim]"
        console.print(f"  · {style}{escape(answer.meaning)}[/]")
    table = Table("measure", "value", "by chance", "p")
    for name, one in found.numbers:
        chance = f"{one.chance.low:.2f} to {one.chance.high:.2f}"
        table.add_row(escape(name), f"{one.value:.2f}", chance, f"{one.p_value:.3f}")
    if table.row_count:
        console.print(table)


def _json(recipe: RecipeRow, measured: Measurement | None) -> dict[str, Any]:
    about = {"recipe": recipe.digest, "base": recipe.base_name}
    if measured is None:
        return {**about, "note": _NOT_YET}
    found = measured.geometry
    return {
        **about,
        "found_at": measured.found_at.isoformat(),
        "versions": measured.versions,
        "method": measured.method,
        "models": found.models,
        "drawn": found.drawn,
        "galaxy": _answer_json(found.galaxy),
        "lobes": [_answer_json(one) for one in found.lobes],
        "parallelograms": [_answer_json(one) for one in found.parallelograms],
    }


def _answer_json(answer: Galaxy | Lobes | Parallelogram | Refusal) -> dict[str, Any]:
    from deltadex.analysis.geometry.chance import Refusal

    return {"answered": not isinstance(answer, Refusal), "meaning": answer.meaning, **asdict(answer)}
