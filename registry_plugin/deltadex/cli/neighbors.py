"""The command `neighbors`: the versions closest to one version."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deltadex.cli.filters import Alias, Cluster, Model, Since, States, Tags, Until, conditions_from
from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label
from deltadex.cli.reading import print_json, reading, version_json
from deltadex.cli.terminal import plain
from deltadex.search import reads as search
from deltadex.search.neighbors import Found
from deltadex.versions.labels import known_version

console = Console(highlight=False)


def neighbors(
    label: VersionLabel,
    limit: Annotated[int, typer.Option("--limit", "-k", help="Maximum number of versions.", min=1)] = 10,
    min_similarity: Annotated[float, typer.Option(help="Minimum cosine similarity.", min=-1, max=1)] = -1.0,
    mixed_with: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME/VERSION", help="Search near the sum with this version. Repeatable."),
    ] = None,
    model: Model = None,
    alias: Alias = None,
    tag: Tags = None,
    state: States = None,
    cluster: Cluster = None,
    since: Since = None,
    until: Until = None,
    base: Annotated[str | None, typer.Option(help="Compare under this base model.", show_default="latest")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Also show the search plan.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show the versions closest to one version, by cosine similarity of their embeddings (higher is closer)."""
    labels = [parse_label(one) for one in (label, *(mixed_with or ()))]
    with reading(data_dir, database_url) as (tx, viewer, settings):
        conditions = conditions_from(
            tx, viewer, settings.registry,
            model=model, alias=alias, tag=tag, state=state, cluster=cluster, since=since, until=until,
        )  # fmt: skip
        target, *others = [known_version(tx, viewer, settings.registry, name, number) for name, number in labels]
        found = search.neighbors(
            tx,
            viewer,
            target.id,
            mixed_with=[row.id for row in others],
            base=base,
            k=limit,
            min_similarity=min_similarity,
            conditions=conditions,
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
        table.add_row(plain(one.version.label), f"{one.similarity:.4f}", "yes" if same else "")
    console.print(table)
    if explain and found.plan:
        plan = found.plan
        console.print(
            f"{plan.route}: {plan.reason}; {plan.compared:,} of {plan.candidates:,} candidates compared in full"
        )


def _caption(found: Found) -> str | None:
    if not found.neighbors:
        return "nothing to compare it with"
    return None if found.is_exact else "approximate: others may be as close"
