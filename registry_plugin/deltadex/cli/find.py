"""`find`: which models are for a task that somebody has a few examples of."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table

from deltadex.cli.filters import Alias, Cluster, Model, Since, States, Tags, Until, conditions_from
from deltadex.cli.options import DatabaseUrl, DataDir, Json, TrackingUri, settings_from
from deltadex.cli.reading import print_json, version_json
from deltadex.examples import Example, read_examples
from deltadex.people import at_terminal
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.store.task_searches import TaskDelta
from deltadex.task_search import CAVEAT, TaskModel, TaskModels, models_for, require_base

console = Console(highlight=False)


def find(
    examples: Annotated[
        typer.FileText, typer.Option(help="JSON lines: prompt and completion, text, or messages.", errors="replace")
    ],
    base: Annotated[str, typer.Option(help="Base model that the finetunes are of, by the name that they declare.")],
    limit: Annotated[int, typer.Option("--limit", "-k", help="How many.", min=1)] = 10,
    model: Model = None,
    alias: Alias = None,
    tag: Tags = None,
    state: States = None,
    cluster: Cluster = None,
    since: Since = None,
    until: Until = None,
    json: Json = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Find the models for a task by a few examples of it: a small adapter is trained on them and compared.

    Needs deltadex[embed]: the training happens on this machine, and nothing of it is kept.
    """
    conditions = conditions_from(
        model=model, alias=alias, tag=tag, state=state, cluster=cluster, since=since, until=until
    )
    given = read_examples(examples.read())
    settings = settings_from(data_dir, tracking_uri=tracking_uri, database_url=database_url)
    person = at_terminal(settings)
    with Database(settings.database_url) as database:
        database.run(lambda tx: require_base(tx, settings, base))
        delta = _delta(settings, base, given)
        found = database.run(lambda tx: models_for(tx, person, settings, delta, k=limit, conditions=conditions))
    if json:
        print_json(_described(settings, base, len(given), delta, found))
    else:
        _show(settings, found)


def _delta(settings: Settings, base: str, examples: tuple[Example, ...]) -> TaskDelta:
    from deltadex.few_shot import task_delta
    from deltadex.mlflow_edge.registry import Registry

    registry = Registry(settings.mlflow_uri, name=settings.registry)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"Training on {len(examples)} examples", total=1.0)
        return task_delta(
            settings, registry, base, examples, on_share=lambda share: progress.update(bar, completed=share)
        )


def _described(settings: Settings, base: str, count: int, delta: TaskDelta, found: TaskModels) -> dict[str, Any]:
    return {
        "base": base,
        "examples": count,
        "recipe": delta.recipe_digest,
        "strength": delta.strength,
        "probe_agreement": delta.probe_agreement,
        "exact": found.is_exact,
        "note": found.note,
        "models": [_model_json(settings, one) for one in found.models],
    }


def _model_json(settings: Settings, one: TaskModel) -> dict[str, Any]:
    version = one.version.registered
    return {
        **version_json(one.version),
        "similarity": one.similarity,
        "cluster": one.cluster and one.cluster.name,
        "words": list(one.words),
        "owner": version.owner,
        "link": settings.version_link(version.ref.name, version.ref.version),
    }


def _show(settings: Settings, found: TaskModels) -> None:
    if not found.models:
        console.print(f"[dim]{escape(found.note)}[/]")
        return
    caption = CAVEAT if found.is_exact else f"Approximate: others may be as close. {CAVEAT}"
    table = Table(Column("version", overflow="fold"), "similarity", "domain", "promotes", "owner", caption=caption)
    for one in found.models:
        ref = one.version.registered.ref
        link = settings.version_link(ref.name, ref.version)
        label = escape(one.version.label)
        table.add_row(
            f"[link={link}]{label}[/link]" if link else label,
            f"{one.similarity:.4f}",
            escape(one.cluster.name) if one.cluster else "",
            escape(" ".join(word.strip() for word in one.words)),
            escape(one.version.registered.owner or ""),
        )
    console.print(table)
