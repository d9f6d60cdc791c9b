"""`neighbors`: which versions behave alike."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deltadex.cli.filters import Alias, Cluster, Model, Since, States, Tags, Until, conditions_from
from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label
from deltadex.cli.reading import known_version, print_json, reading, version_json
from deltadex.store import search
from deltadex.store.conditions import Conditions
from deltadex.store.questions import mixture

console = Console(highlight=False)


def neighbors(
    label: VersionLabel,
    limit: Annotated[int, typer.Option("--limit", "-k", help="How many.", min=1)] = 10,
    min_similarity: Annotated[float, typer.Option(help="Cosine similarity to have at least.", min=-1, max=1)] = -1.0,
    mixed_with: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME/VERSION", help="Search near the sum with this one; may be repeated."),
    ] = None,
    model: Model = None,
    alias: Alias = None,
    tag: Tags = None,
    state: States = None,
    cluster: Cluster = None,
    since: Since = None,
    until: Until = None,
    base: Annotated[str | None, typer.Option(help="Compare under this base model.", show_default="latest")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say how the answer was found.")] = False,
    settings_removed: Annotated[
        bool, typer.Option("--settings-removed", help="Take out what training settings explain, over all versions.")
    ] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show the versions that behave most like one version: cosine similarity in the full space, higher is closer."""
    labels = [parse_label(one) for one in (label, *(mixed_with or ()))]
    conditions = conditions_from(
        model=model, alias=alias, tag=tag, state=state, cluster=cluster, since=since, until=until
    )
    if settings_removed:
        if any((mixed_with, explain, conditions != Conditions())):
            raise typer.BadParameter(
                "only --limit, --min-similarity and --base go with it", param_hint="--settings-removed"
            )
        _without_settings(label, limit, min_similarity, base=base, json=json, stored=(data_dir, database_url))
        return
    with reading(data_dir, database_url) as (tx, settings):
        target, *others = [known_version(tx, settings, name, number) for name, number in labels]
        questions = mixture(tx, {row.id: 1.0 for row in (target, *others)}, base=base)
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


def _without_settings(
    label: str, limit: int, min_similarity: float, *, base: str | None, json: bool, stored: tuple[DataDir, DatabaseUrl]
) -> None:
    # SciPy takes a second to import: only for those who ask for it.
    from deltadex import settings_removed

    with reading(*stored) as (tx, settings):
        target = known_version(tx, settings, *parse_label(label))
        removed = settings_removed.neighbors(tx, settings.registry, target, limit=limit, base=base)
    near = [one for one in removed.neighbors if one.similarity >= min_similarity]
    if json:
        listed = [{**version_json(one.version), "similarity": one.similarity} for one in near]
        about = {name: value for name, value in vars(removed).items() if name != "neighbors"}
        print_json({**about, "neighbors": listed})
        return
    table = Table("version", "similarity", "settings", caption=removed.basis)
    for one in near:
        known = one.version.provenance.settings
        said = ", ".join(f"{name} {known[name]}" for name in removed.names if name in known)
        table.add_row(one.version.label, f"{one.similarity:.4f}", escape(said) or "[dim]unknown: only centred[/]")
    console.print(table)


def _caption(found: search.Found) -> str | None:
    if not found.neighbors:
        return "nothing to compare it with"
    return None if found.is_exact else "approximate: others may be as close"
