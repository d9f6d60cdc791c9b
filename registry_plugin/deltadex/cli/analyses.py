"""`neighbors`, `drift` and `clusters`: what the embeddings say."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label, settings_from
from deltadex.cli.status import unknown_version
from deltadex.domain import State, VersionRow
from deltadex.settings import Settings
from deltadex.store import embeddings, search, versions
from deltadex.store.conditions import Conditions
from deltadex.store.database import Database, Transaction

if TYPE_CHECKING:
    from deltadex import answers

console = Console(highlight=False)

_NOTHING_YET = "[dim]Nothing is embedded yet: register finetunes in MLflow, then see `deltadex status`.[/]"


def neighbors(
    label: VersionLabel,
    limit: Annotated[int, typer.Option("--limit", "-k", help="How many.", min=1)] = 10,
    min_similarity: Annotated[float, typer.Option(help="Cosine similarity to have at least.", min=-1, max=1)] = -1.0,
    mixed_with: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME/VERSION", help="Search near the sum with this one; may be repeated."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only this registered model.", show_default=False)] = None,
    alias: Annotated[str | None, typer.Option(help="Only versions with this alias.", show_default=False)] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only versions with this tag; may be repeated.")
    ] = None,
    state: Annotated[list[State] | None, typer.Option(help="Only in this state; may be repeated.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Only in the cluster of this name.", show_default=False)] = None,
    since: Annotated[datetime | None, typer.Option(help="Only registered at this time (UTC) or later.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only registered before this time (UTC).")] = None,
    base: Annotated[str | None, typer.Option(help="Compare under this base model.", show_default="latest")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say how the answer was found.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show the versions that behave most like one version: cosine similarity in the full space, higher is closer."""
    labels = [parse_label(one) for one in (label, *(mixed_with or ()))]
    conditions = Conditions(
        name=model,
        alias=alias,
        tags=dict(_parse_tag(one) for one in tag or ()),
        states=frozenset(state or ()),
        cluster=cluster,
        created_from=since and since.replace(tzinfo=UTC),
        created_before=until and until.replace(tzinfo=UTC),
    )
    with reading(data_dir, database_url) as (tx, settings):
        target, *others = [known_version(tx, settings, name, number) for name, number in labels]
        questions = search.mixture(tx, {row.id: 1.0 for row in (target, *others)}, base=base)
        [found] = (
            search.answer(tx, questions, k=limit, min_similarity=min_similarity, conditions=conditions)
            if questions
            else [search.NOTHING]
        )
    if json:
        near = [
            {**version_json(one.version), "similarity": one.similarity, "exact": found.is_exact}
            for one in found.neighbors
        ]
        print_json({"plan": asdict(found.plan) if found.plan else None, "neighbors": near} if explain else near)
        return
    table = Table("version", "similarity", "same weights", caption=_caption(found))
    for one in found.neighbors:
        same = one.version.weights_digest == target.weights_digest
        table.add_row(one.version.label, f"{one.similarity:.4f}", "yes" if same else "")
    console.print(table)
    if explain and found.plan:
        plan = found.plan
        console.print(
            f"{plan.route}: {plan.reason}; {plan.compared:,} of {plan.candidates:,} candidates compared in full"
        )


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
    from deltadex.analysis.domains import Origin

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
        table = Table(
            "domain", "versions", "named by", "promotes", title=f"base {domains.recipe.base_name}", caption=caption
        )
        for label, named in enumerate(domains.names):
            members = ", ".join(row.label for row in domains.members(label))
            table.add_row(escape(named.text), members, named.origin, escape(" ".join(named.of(Origin.TOKENS))))
        if alone := domains.members(ALONE):
            table.add_row("[dim]alone[/]", ", ".join(row.label for row in alone), "", "")
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


def known_version(tx: Transaction, settings: Settings, name: str, number: int) -> VersionRow:
    """Return a version's row, the newest of that number. Raises DeltadexError where there is none."""
    found = versions.find(tx, settings.registry, name, number)
    if not found:
        raise unknown_version(f"{name}/{number}")
    return found[0]


def _parse_tag(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE, such as team=search")
    return key, value


def _caption(found: search.Found) -> str | None:
    if not found.neighbors:
        return "nothing to compare it with"
    return None if found.is_exact else "approximate: others may be as close"


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
                "terms": [asdict(term) for term in named.terms],
                "versions": [version_json(row) for row in domains.members(label)],
            }
            for label, named in enumerate(domains.names)
        ],
        "alone": [version_json(row) for row in domains.members(ALONE)],
    }


def print_json(value: object) -> None:
    """Print a value on standard output, indented."""
    print(json_format.dumps(value, indent=2))
