"""`geometry`: what shape all the embeddings of a recipe have together."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json
from deltadex.cli.reading import print_json, reading
from deltadex.store import embeddings

if TYPE_CHECKING:
    from deltadex.analysis.geometry.atoms import Parallelogram
    from deltadex.analysis.geometry.chance import Refusal
    from deltadex.analysis.geometry.galaxy import Galaxy
    from deltadex.analysis.geometry.lobes import Lobes
    from deltadex.geometry import Geometry

console = Console(highlight=False)


def geometry(
    recipe: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Only this recipe: the start of its digest.", show_default="all"),
    ] = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show how many directions the models span, which tags say what they do, and which differences repeat."""
    from deltadex.geometry import geometry_of

    with reading(data_dir, database_url) as (tx, settings):
        every = embeddings.recipes(tx, settings.registry)
        chosen = [each for each in every if each.digest.startswith(recipe or "")]
        if recipe and not chosen:
            raise typer.BadParameter(f"no recipe's digest starts with {recipe!r}", param_hint="--recipe")
        found = [geometry_of(tx, settings.registry, each) for each in chosen]
    if json:
        print_json([_json(each) for each in found])
        return
    for each in found:
        _show(each)
    if not found:
        console.print("[dim]Nothing is embedded yet: see `deltadex status`.[/]")


def _show(found: Geometry) -> None:
    from deltadex.analysis.geometry.chance import Refusal

    part = "" if found.drawn == found.models else f", {found.drawn} of them drawn"
    console.print(f"[bold]base {escape(found.recipe.base_name)}[/] · {found.models} different models{part}")
    for answer in found.answers:
        style = "[dim]" if isinstance(answer, Refusal) else "[not dim]"
        console.print(f"  · {style}{escape(answer.meaning)}[/]")
    table = Table("measure", "value", "by chance", "p")
    for name, measured in found.numbers:
        chance = f"{measured.chance.low:.2f} to {measured.chance.high:.2f}"
        table.add_row(escape(name), f"{measured.value:.2f}", chance, f"{measured.p_value:.3f}")
    if table.row_count:
        console.print(table)


def _json(found: Geometry) -> dict[str, Any]:
    return {
        "recipe": found.recipe.digest,
        "base": found.recipe.base_name,
        "models": found.models,
        "drawn": found.drawn,
        "galaxy": _answer_json(found.galaxy),
        "lobes": [_answer_json(one) for one in found.lobes],
        "parallelograms": [_answer_json(one) for one in found.parallelograms],
    }


def _answer_json(answer: Galaxy | Lobes | Parallelogram | Refusal) -> dict[str, Any]:
    from deltadex.analysis.geometry.chance import Refusal

    fields = asdict(answer, dict_factory=_listed)
    return {"answered": not isinstance(answer, Refusal), "meaning": answer.meaning, **fields}


def _listed(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields}
