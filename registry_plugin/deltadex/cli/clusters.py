"""The commands `clusters` and `explain`: the domains of the models, and the mixture of domains in one version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deltadex.access import at_terminal
from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label, settings_from
from deltadex.cli.reading import print_json, reading, version_json
from deltadex.cli.terminal import plain
from deltadex.clusters.names import LabelOrigin
from deltadex.clusters.queries import ClusterRun
from deltadex.embeddings import reads as embeddings
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.versions.labels import known_version

if TYPE_CHECKING:
    from deltadex.clusters import runs as cluster_runs

console = Console(highlight=False)

commands = typer.Typer(invoke_without_command=True)

_MOST_LISTED = 12
_NOT_YET = "Not clustered yet. A worker does it within a minute; `deltadex clusters --recompute` does it now."


@commands.callback()
def clusters(
    context: typer.Context,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Cluster now instead of showing the latest result.")
    ] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show the domains of the models, one table per base. `clusters rename` names a domain."""
    if context.invoked_subcommand:
        return
    # SciPy takes a second to import: only commands that need it import it.
    from deltadex.clusters import runs as cluster_runs

    if recompute:
        _recompute(settings_from(data_dir, database_url=database_url))
    with reading(data_dir, database_url) as (tx, viewer, settings):
        recipes = embeddings.recipes(tx, viewer, settings.registry)
        by_recipe = [cluster_runs.domains(tx, viewer, settings.registry, recipe) for recipe in recipes]
    if json:
        print_json([_domains_json(domains) for domains in by_recipe])
        return
    for domains in by_recipe:
        console.print(_domains_table(domains))
    if not by_recipe:
        console.print("[dim]Nothing is embedded yet: register finetunes in MLflow, then see `deltadex status`.[/]")


@commands.command()
def rename(
    cluster: Annotated[int, typer.Argument(metavar="ID", help="An id from `deltadex clusters`.", show_default=False)],
    name: Annotated[str, typer.Argument(help="The new name; leave it out to restore the generated name.")] = "",
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Name a cluster. Later runs keep the name for as long as the cluster exists."""
    from deltadex.clusters import runs as cluster_runs

    with reading(data_dir, database_url, login="dashboard") as (tx, viewer, settings):
        cluster_runs.rename(tx, viewer, settings.registry, cluster, name)
    if json:
        print_json({"id": cluster, "given_name": name.strip() or None})
    else:
        given_name = name.strip()
        console.print(
            f"cluster {cluster} {f'is now {plain(given_name)}' if given_name else 'has its generated name again'}"
        )


def explain(
    label: VersionLabel, json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Show a version as a mixture of domains: the share of each, and the unexplained rest."""
    from deltadex.clusters import runs as cluster_runs

    with reading(data_dir, database_url) as (tx, viewer, settings):
        row = known_version(tx, viewer, settings.registry, *parse_label(label))
        explanations = cluster_runs.explain(tx, viewer, settings.registry, row.id)
    if json:
        print_json({**version_json(row), "explanations": [_explanation_json(one) for one in explanations]})
        return
    for one in explanations:
        console.print(f"[bold]{plain(row.label)}[/] under {plain(one.embedding.recipe.base_name)}: {plain(one.words)}")
        if one.parts:
            console.print(_parts_table(one))
    if not explanations:
        name = plain(row.label)
        console.print(f"[dim]{name} has no embedding: `deltadex status {name}` says why.[/]")


def _recompute(settings: Settings) -> None:
    from deltadex.ingest.round import recompute_recipe

    with Database(settings.url_of("writer")) as database:
        with database.transaction() as tx:
            recipes = embeddings.recipes(tx, at_terminal(settings), settings.registry)
        with Console(stderr=True).status("finding clusters"):
            for recipe in recipes:
                recompute_recipe(database, settings, recipe)


def _domains_table(domains: cluster_runs.Domains) -> Table:
    table = Table(
        "id", "domain", "n", "versions", "named by", "promotes", title=f"base {plain(domains.recipe.base_name)}"
    )
    for one in domains.domains:
        listed = _listed([f"{plain(member.version.label)} [dim]{member.strength:.2f}[/]" for member in one.members])
        name, number = plain(one.cluster.name), str(one.cluster.id)
        promotes = plain(" ".join(one.cluster.of(LabelOrigin.TOKENS)))
        table.add_row(number, name, str(len(one.members)), listed, plain(one.cluster.named_by), promotes)
    for name, rows in (("alone", domains.alone), ("not placed yet", domains.unplaced)):
        if rows:
            table.add_row("", f"[dim]{name}[/]", str(len(rows)), _listed([plain(row.label) for row in rows]), "", "")
    table.caption = _caption(domains.run)
    return table


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _MOST_LISTED
    return ", ".join(texts[:_MOST_LISTED]) + f" and {more} more" * (more > 0)


def _caption(run: ClusterRun | None) -> str:
    if run is None:
        return _NOT_YET
    silhouette = "" if run.silhouette is None else f"silhouette {run.silhouette:.2f}, "
    joined = f"joined at a mean similarity of {run.cut:g}, found {run.found_at:%Y-%m-%d %H:%M} UTC"
    return f"{plain(run.note)} {silhouette}{joined}".strip()


def _domains_json(domains: cluster_runs.Domains) -> dict[str, Any]:
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


def _parts_table(one: cluster_runs.Explanation) -> Table:
    table = Table("cluster", "domain", "weight", "share")
    for part in one.parts:
        table.add_row(str(part.cluster.id), plain(part.cluster.name), f"{part.weight:.3f}", f"{part.share:.0%}")
    return table


def _explanation_json(one: cluster_runs.Explanation) -> dict[str, Any]:
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
