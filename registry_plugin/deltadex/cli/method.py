"""The command `method`: by which probes the registry's versions are embedded."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deltadex.bases.own_method import own_method, set_own_method, versions_by_method
from deltadex.cli.options import DatabaseUrl, DataDir, Json
from deltadex.cli.reading import print_json, reading
from deltadex.engine.probes import MethodName

console = Console(highlight=False)
method = typer.Typer(
    name="method",
    help="The method of embedding that is the registry's own: show it, change it.",
    invoke_without_command=True,
)

_WHAT = {
    "content": "mean over the tokens of five prompts with content",
    "published": "last token of the paper's five prompts (arXiv 2509.04442)",
}


@method.callback()
def status(
    context: typer.Context, json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Show the registry's own method, and how many versions each method has embedded."""
    if context.invoked_subcommand:
        return
    with reading(data_dir, database_url) as (tx, _, settings):
        own, counts = own_method(tx, settings.registry), versions_by_method(tx, settings.registry)
    if json:
        print_json({"own": own, "versions": counts})
        return
    table = Table("method", "what is read", "versions", "")
    for name, count in counts.items():
        table.add_row(name, _WHAT[name], f"{count:,}", "the registry's own" if name == own else "")
    console.print(table)


@method.command("set")
def set_(
    name: Annotated[MethodName, typer.Argument(help="The new method.")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Change the registry's own method: all versions are embedded again, in the backfill.

    Until a version's turn comes, pages and commands show it by its old method. Embeddings of two methods are never
    compared. The old ones are kept in the store.
    """
    with reading(data_dir, database_url, login="writer") as (tx, person, settings):
        others = sum(count for one, count in versions_by_method(tx, settings.registry).items() if one != name)
        if others and not yes:
            typer.confirm(f"{others:,} versions will be embedded again, by {name}. Go on?", abort=True)
        set_own_method(tx, person, settings.registry, name)
    console.print(f"The registry's own method is {name} now.")
    if others:
        console.print(f"{others:,} versions are embedded again, from the next minute on: see `deltadex backfill`.")
