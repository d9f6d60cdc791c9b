"""The command `find`: a search for models by words, or by examples of a task."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from deltadex.access import at_terminal
from deltadex.bases.manner import manner_of
from deltadex.cli.filters import Alias, Cluster, Model, Since, States, Tags, Until, conditions_from
from deltadex.cli.options import DatabaseUrl, DataDir, Json, TrackingUri, settings_from
from deltadex.cli.reading import print_json, version_json
from deltadex.cli.terminal import plain
from deltadex.engine.examples import Example, read_examples
from deltadex.find.by_words import NOTHING_FOUND, models_with
from deltadex.find.queries import TaskDelta
from deltadex.find.search import CAVEAT, TaskModel, TaskModels, models_for, require_base
from deltadex.settings import Settings
from deltadex.store.database import Database

console = Console(highlight=False)


def find(
    words: Annotated[
        list[str] | None, typer.Argument(help="Words to look for in names, tags, descriptions and promoted tokens.")
    ] = None,
    examples: Annotated[
        typer.FileText | None,
        typer.Option(help="JSON lines with prompt and completion, text, or messages.", errors="replace"),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="With --examples: base model of the finetunes, by the name that they declare.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-k", help="Maximum number of models.", min=1)] = 10,
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
    r"""Find models for a task: by words at once, or by examples.

    With examples a small adapter is trained on this machine, and the models closest to it are shown. That needs
    deltadex\[embed]; the adapter is discarded.
    """
    if words and not examples:
        if any((base, model, alias, tag, state, cluster, since, until)):
            raise typer.BadParameter("--base and conditions go with --examples, not with words")
        _find_words(" ".join(words), limit, json=json, settings=settings_from(data_dir, database_url=database_url))
        return
    if words or examples is None or base is None:
        raise typer.BadParameter("give either words, or --examples with --base")
    conditions = conditions_from(
        model=model, alias=alias, tag=tag, state=state, cluster=cluster, since=since, until=until
    )
    task_examples = read_examples(examples.read())
    settings = settings_from(data_dir, tracking_uri=tracking_uri, database_url=database_url)
    viewer = at_terminal(settings)
    with Database(settings.url_of("reader")) as database:
        database.run(lambda tx: require_base(tx, settings, base))
        method, kept = database.run(lambda tx: manner_of(tx, settings, base))
        delta = _train(kept, base, task_examples, method)
        found = database.run(lambda tx: models_for(tx, viewer, settings, delta, k=limit, conditions=conditions))
    if json:
        print_json(_as_json(settings, base, len(task_examples), delta, found))
    else:
        _show(settings, found)


def _find_words(text: str, limit: int, *, json: bool, settings: Settings) -> None:
    viewer = at_terminal(settings)
    with Database(settings.url_of("reader")) as database:
        found = database.run(lambda tx: models_with(tx, viewer, settings.registry, text, k=limit))
    if json:
        print_json(
            [
                {**version_json(one.version), "matches_in": list(one.places), "owner": one.version.registered.owner}
                for one in found
            ]
        )
        return
    if not found:
        console.print(f"[dim]{NOTHING_FOUND}[/]")
        return
    table = Table(Column("version", overflow="fold"), "matches in", "owner")
    for one in found:
        table.add_row(plain(one.version.label), ", ".join(one.places), plain(one.version.registered.owner or ""))
    console.print(table)


def _train(settings: Settings, base: str, examples: tuple[Example, ...], method: str) -> TaskDelta:
    from deltadex.find.train import task_delta
    from deltadex.registry.client import Registry

    registry = Registry(settings.mlflow_uri, name=settings.registry, sources=settings.sources)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"Training on {len(examples)} examples", total=1.0)
        return task_delta(
            settings,
            registry,
            base,
            examples,
            method=method,
            on_share=lambda share: progress.update(bar, completed=share),
        )


def _as_json(settings: Settings, base: str, count: int, delta: TaskDelta, found: TaskModels) -> dict[str, Any]:
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
        console.print(f"[dim]{plain(found.note)}[/]")
        return
    caption = CAVEAT if found.is_exact else f"Approximate: others may be as close. {CAVEAT}"
    table = Table(Column("version", overflow="fold"), "similarity", "domain", "promotes", "owner", caption=caption)
    for one in found.models:
        ref = one.version.registered.ref
        link = settings.version_link(ref.name, ref.version)
        label = plain(one.version.label)
        table.add_row(
            f"[link={link}]{label}[/link]" if link else label,
            f"{one.similarity:.4f}",
            plain(one.cluster.name) if one.cluster else "",
            plain(" ".join(word.strip() for word in one.words)),
            plain(one.version.registered.owner or ""),
        )
    console.print(table)
