"""`neighbors`, `drift` and `clusters`: what the embeddings say."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label, settings_from
from deltadex.cli.status import unknown_version
from deltadex.domain import VersionRow
from deltadex.settings import Settings
from deltadex.store import embeddings, versions
from deltadex.store.database import Database, Transaction

if TYPE_CHECKING:
    from deltadex import answers

console = Console(highlight=False)

_NOTHING_YET = "[dim]Nothing is embedded yet: register finetunes in MLflow, then see `deltadex status`.[/]"


def neighbors(
    label: VersionLabel,
    limit: Annotated[int, typer.Option(help="How many.", min=1)] = 10,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show the versions that behave most like one version: cosine similarity in the full space, higher is closer."""
    name, number = parse_label(label)
    with reading(data_dir, database_url) as (tx, settings):
        found = versions.find(tx, settings.registry, name, number)
        if not found:
            raise unknown_version(label)
        near = embeddings.neighbors(tx, found[0].id, limit=limit)
    if json:
        print_json([{**version_json(one.version), "similarity": one.similarity} for one in near])
        return
    table = Table("version", "similarity", "same weights", caption=None if near else "nothing to compare it with")
    for one in near:
        same = one.version.weights_digest == found[0].weights_digest
        table.add_row(one.version.label, f"{one.similarity:.4f}", "yes" if same else "")
    console.print(table)


def drift(
    name: Annotated[str, typer.Argument(help="A registered model.", show_default=False)],
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show how far each version of a registered model moved from the one before, and from the first."""
    from deltadex import answers

    with reading(data_dir, database_url) as (tx, settings):
        if not versions.find(tx, settings.registry, name):
            raise unknown_version(name)
        drifts = answers.model_drifts(tx, settings.registry, name=name)
        limit = settings.thresholds.drift_distance
    if json:
        print_json([_drift_json(drifted, limit) for drifted in drifts])
        return
    for drifted in drifts:
        table = Table("step", "distance", "from the first", "strength", "", title=f"base {drifted.recipe.base_name}")
        for older, newer, step in zip(drifted.versions, drifted.versions[1:], drifted.steps, strict=False):
            ratio = "" if step.norm_ratio is None else f"× {step.norm_ratio:.2f}"
            flag = "[bold red]drift[/]" if step.distance >= limit else ""
            between = f"{older.registered.ref.version} → {newer.registered.ref.version}"
            table.add_row(between, f"{step.distance:.4f}", f"{step.from_first:.4f}", ratio, flag)
        console.print(table)
    if not drifts:
        console.print(f"[dim]{name} has fewer than two embedded versions that can be compared.[/]")


def clusters(json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Show the domains that the models fall into, one table per base."""
    from deltadex import answers
    from deltadex.analysis.clusters import ALONE

    with reading(data_dir, database_url) as (tx, settings):
        found = [
            answers.domains(tx, settings.registry, recipe, min_similarity=settings.thresholds.cluster_similarity)
            for recipe in embeddings.recipes(tx, settings.registry)
        ]
    if json:
        print_json([_domains_json(domains) for domains in found])
        return
    for domains in found:
        silhouette = domains.clusters.silhouette
        caption = domains.clusters.note or ("" if silhouette is None else f"silhouette {silhouette:.2f}")
        table = Table("domain", "versions", "named by", title=f"base {domains.recipe.base_name}", caption=caption)
        for label, named in enumerate(domains.names):
            table.add_row(named.text, ", ".join(row.label for row in domains.members(label)), named.origin)
        if alone := domains.members(ALONE):
            table.add_row("[dim]alone[/]", ", ".join(row.label for row in alone), "")
        console.print(table)
    if not found:
        console.print(_NOTHING_YET)


@contextmanager
def reading(data_dir: DataDir, database_url: DatabaseUrl) -> Iterator[tuple[Transaction, Settings]]:
    """Give a transaction on the store that the options and the environment name, and the settings."""
    settings = settings_from(data_dir, database_url=database_url)
    with Database(settings.database_url) as database, database.transaction() as tx:
        yield tx, settings


def version_json(row: VersionRow) -> dict[str, Any]:
    """Return what JSON calls a version by."""
    return {"name": row.registered.ref.name, "version": row.registered.ref.version}


def _drift_json(drifted: answers.ModelDrift, limit: float) -> dict[str, Any]:
    return {
        "name": drifted.name,
        "recipe": drifted.recipe.digest,
        "threshold": limit,
        "first": drifted.versions[0].registered.ref.version,
        "steps": [
            {
                "version": row.registered.ref.version,
                "distance": step.distance,
                "distance_from_first": step.from_first,
                "norm_ratio": step.norm_ratio,
                "is_drift": step.distance >= limit,
            }
            for row, step in zip(drifted.versions[1:], drifted.steps, strict=True)
        ],
    }


def _domains_json(domains: answers.Domains) -> dict[str, Any]:
    from deltadex.analysis.clusters import ALONE

    return {
        "recipe": domains.recipe.digest,
        "base": domains.recipe.base_name,
        "silhouette": domains.clusters.silhouette,
        "note": domains.clusters.note,
        "clusters": [
            {
                "name": named.text,
                "named_by": named.origin,
                "versions": [version_json(row) for row in domains.members(label)],
            }
            for label, named in enumerate(domains.names)
        ],
        "alone": [version_json(row) for row in domains.members(ALONE)],
    }


def print_json(value: object) -> None:
    """Print a value on standard output, indented."""
    print(json_format.dumps(value, indent=2))
