"""`clusters` and `explain`: the domains that models fall into, and what one model is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deltadex.analysis.domains import Origin
from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label, settings_from
from deltadex.cli.reading import known_version, print_json, reading, version_json
from deltadex.people import at_terminal
from deltadex.settings import Settings
from deltadex.store import clusters as stored
from deltadex.store import embeddings
from deltadex.store.database import Database

if TYPE_CHECKING:
    from deltadex import clustering

console = Console(highlight=False)

app = typer.Typer(invoke_without_command=True)

_MOST_LISTED = 12
_NOT_YET = "Not clustered yet: the reconciler does it within a minute, `deltadex clusters --recompute` now."


@app.callback()
def clusters(
    context: typer.Context,
    recompute: Annotated[bool, typer.Option("--recompute", help="Find them anew instead of reading them.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show the domains that the models fall into, one table per base; `clusters rename` names one."""
    if context.invoked_subcommand:
        return
    # SciPy takes a second to import: only for the commands that need it.
    from deltadex import clustering

    if recompute:
        _recompute(settings_from(data_dir, database_url=database_url))
    with reading(data_dir, database_url) as (tx, settings):
        recipes = embeddings.recipes(tx, settings.registry)
        found = [clustering.domains(tx, settings.registry, recipe) for recipe in recipes]
    if json:
        print_json([_domains_json(domains) for domains in found])
        return
    for domains in found:
        console.print(_domains_table(domains))
    if not found:
        console.print("[dim]Nothing is embedded yet: register finetunes in MLflow, then see `deltadex status`.[/]")


@app.command()
def rename(
    cluster: Annotated[int, typer.Argument(metavar="ID", help="As `deltadex clusters` shows it.", show_default=False)],
    name: Annotated[str, typer.Argument(help="Later runs keep it; blank gives the found one back.")] = "",
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Give a cluster a name that stays with it for as long as later runs continue it."""
    from deltadex import clustering

    with reading(data_dir, database_url) as (tx, settings):
        clustering.rename(tx, at_terminal(settings), settings.registry, cluster, name)
    if json:
        print_json({"id": cluster, "given_name": name.strip() or None})
    else:
        console.print(f"cluster {cluster} is now {name.strip() or 'named as Deltadex finds'}")


def explain(
    label: VersionLabel, json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Show a version as a mixture of the domains: how much of each, and how much of it none explains."""
    from deltadex import clustering

    with reading(data_dir, database_url) as (tx, settings):
        row = known_version(tx, settings, *parse_label(label))
        found = clustering.explain(tx, settings.registry, row.id)
    if json:
        print_json({**version_json(row), "explanations": [_explanation_json(one) for one in found]})
        return
    for one in found:
        console.print(f"[bold]{row.label}[/] under {one.embedding.recipe.base_name}: {escape(one.words)}")
        if one.parts:
            console.print(_parts_table(one))
    if not found:
        console.print(f"[dim]{row.label} has no embedding: `deltadex status {row.label}` says why.[/]")


def _recompute(settings: Settings) -> None:
    from deltadex import clustering

    with Database(settings.database_url) as database:
        with database.transaction() as tx:
            recipes = embeddings.recipes(tx, settings.registry)
        with Console(stderr=True).status("finding clusters"):
            for recipe in recipes:
                clustering.recluster(database, settings, recipe)


def _domains_table(domains: clustering.Domains) -> Table:
    table = Table("id", "domain", "n", "versions", "named by", "promotes", title=f"base {domains.recipe.base_name}")
    for one in domains.domains:
        listed = _listed([f"{member.version.label} [dim]{member.strength:.2f}[/]" for member in one.members])
        name, number = escape(one.cluster.name), str(one.cluster.id)
        promotes = escape(" ".join(one.cluster.of(Origin.TOKENS)))
        table.add_row(number, name, str(len(one.members)), listed, escape(one.cluster.named_by), promotes)
    for name, rows in (("alone", domains.alone), ("not placed yet", domains.unplaced)):
        if rows:
            table.add_row("", f"[dim]{name}[/]", str(len(rows)), _listed([row.label for row in rows]), "", "")
    table.caption = _caption(domains.run)
    return table


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _MOST_LISTED
    return ", ".join(texts[:_MOST_LISTED]) + f" and {more} more" * (more > 0)


def _caption(run: stored.ClusterRun | None) -> str:
    if run is None:
        return _NOT_YET
    silhouette = "" if run.silhouette is None else f"silhouette {run.silhouette:.2f}, "
    joined = f"joined at a mean similarity of {run.cut:g}, found {run.found_at:%Y-%m-%d %H:%M} UTC"
    return f"{run.note} {silhouette}{joined}".strip()


def _domains_json(domains: clustering.Domains) -> dict[str, Any]:
    run = domains.run
    return {
        "recipe": domains.recipe.digest,
        "base": domains.recipe.base_name,
        "found_at": run and run.found_at.isoformat(),
        "method": run and run.method,
        "cut": run and run.cut,
        "silhouette": run and run.silhouette,
        "note": run.note if run else _NOT_YET,
        "clusters": [
            {
                "id": one.cluster.id,
                "number": one.cluster.number,
                "name": one.cluster.name,
                "given_name": one.cluster.given_name,
                "named_by": one.cluster.named_by,
                "given_at": one.cluster.given_at and one.cluster.given_at.isoformat(),
                "terms": [asdict(term) for term in one.cluster.terms],
                "versions": [{**version_json(member.version), "strength": member.strength} for member in one.members],
            }
            for one in domains.domains
        ],
        "alone": [version_json(row) for row in domains.alone],
        "unplaced": [version_json(row) for row in domains.unplaced],
    }


def _parts_table(one: clustering.Explanation) -> Table:
    table = Table("cluster", "domain", "weight", "share")
    for part in one.parts:
        table.add_row(str(part.cluster.id), escape(part.cluster.name), f"{part.weight:.3f}", f"{part.share:.0%}")
    return table


def _explanation_json(one: clustering.Explanation) -> dict[str, Any]:
    return {
        "recipe": one.embedding.recipe.digest,
        "base": one.embedding.recipe.base_name,
        "found_at": one.run and one.run.found_at.isoformat(),
        "is_weak": one.embedding.is_weak,
        "parts": [
            {"cluster": part.cluster.id, "name": part.cluster.name, "weight": part.weight, "share": part.share}
            for part in one.parts
        ],
        "unexplained": one.unexplained,
        "note": one.note,
    }
