"""The command `find`: a search for models by words, by examples of a task, or by a mixture of known models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from deltadex.access import Person, at_terminal
from deltadex.augment.local import augment_locally
from deltadex.bases.manner import manner_of
from deltadex.cli.filters import Alias, Cluster, Model, Since, States, Tags, Until, conditions_from
from deltadex.cli.options import DatabaseUrl, DataDir, Json, TrackingUri, settings_from
from deltadex.cli.ranking import LowerIsBetter, MetricName, Order, Rank, order_from, score_json, score_text
from deltadex.cli.reading import print_json, version_json
from deltadex.cli.task_examples import ExamplesPath, read_given
from deltadex.cli.terminal import plain
from deltadex.engine.examples import Example
from deltadex.find.answers import CAVEAT, TaskModel, TaskModels
from deltadex.find.by_words import NOTHING_FOUND, models_with
from deltadex.find.mixtures import mixed_query, parse
from deltadex.find.queries import TaskDelta
from deltadex.find.search import known_base, models_for, models_like
from deltadex.search.filters import Conditions
from deltadex.selection.rank import Ranking
from deltadex.selection.ranking import Placed, RankBy
from deltadex.settings import Settings
from deltadex.store.database import Database

console = Console(highlight=False)
_PROGRESS = Console(stderr=True)


def find(
    words: Annotated[
        list[str] | None, typer.Argument(help="Words to look for in names, tags, descriptions and promoted tokens.")
    ] = None,
    examples: ExamplesPath = None,
    augment: Annotated[
        bool, typer.Option("--augment", help="With --examples: train on rephrasings and reversals of them as well.")
    ] = False,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="MIXTURE", help='Domains, models or NAME/VERSION with weights, such as "0.5 legal + 0.5 code".'
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="With --examples or --like: base model of the finetunes, by the name that they declare.",
            show_default="the only one",
        ),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(help="With --examples: also train halves of them, to know how certain the answer is."),
    ] = True,
    limit: Annotated[int, typer.Option("--limit", "-k", help="Maximum number of models.", min=1)] = 10,
    by: Rank = RankBy.SIMILARITY,
    metric: MetricName = None,
    lower_is_better: LowerIsBetter = False,
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
    r"""Find models for a task: by words or like known models at once, or by examples.

    With examples a small adapter is trained on this machine, and the models closest to it are shown. That needs
    deltadex\[embed]; the adapter is discarded.
    """
    if sum(given is not None for given in (words or None, examples, like)) != 1:
        raise typer.BadParameter("give either words, or --examples, or --like")
    if base and words:
        raise typer.BadParameter("--base goes with --examples and --like, not with words")
    if augment and examples is None:
        raise typer.BadParameter("--augment goes with --examples")
    if words and (metric or by is not RankBy.SIMILARITY):
        raise typer.BadParameter("--rank and --metric go with --examples and --like, not with words")
    given = None if examples is None else read_given(examples)
    if given and augment:
        given = augment_locally(given).examples
    settings = settings_from(data_dir, tracking_uri=tracking_uri, database_url=database_url)
    order, viewer = order_from(settings, by, metric, lower_is_better=lower_is_better), at_terminal(settings)
    with Database(settings.url_of("dashboard"), role=settings.database.role) as database:  # it may say who asks
        wanted = database.run(
            lambda tx: conditions_from(
                tx, viewer, settings.registry,
                model=model, alias=alias, tag=tag, state=state, cluster=cluster, since=since, until=until,
            )
        )  # fmt: skip
        conditions = None if wanted == Conditions() else wanted
        if words:
            _find_words(database, viewer, settings, " ".join(words), limit, conditions, json=json)
        elif like is not None:
            _find_like(database, viewer, settings, like, base, limit, conditions, order, json=json)
        elif given is not None:
            chosen = database.run(lambda tx: known_base(tx, viewer, settings, base))
            search = _ExampleSearch(database, viewer, settings, chosen, given, limit, conditions, order)
            search.run(wait=wait, json=json)


def _find_words(
    database: Database,
    viewer: Person,
    settings: Settings,
    text: str,
    limit: int,
    conditions: Conditions | None,
    *,
    json: bool,
) -> None:
    found = database.run(lambda tx: models_with(tx, viewer, settings.registry, text, k=limit, conditions=conditions))
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


def _find_like(
    database: Database,
    viewer: Person,
    settings: Settings,
    text: str,
    base: str | None,
    limit: int,
    conditions: Conditions | None,
    order: Order,
    *,
    json: bool,
) -> None:
    parts = parse(text)
    query = database.run(lambda tx: mixed_query(tx, viewer, settings, parts, base=base))
    found = database.run(lambda tx: models_like(tx, viewer, query, k=limit, conditions=conditions))
    ranking = database.run(lambda tx: order.of(tx, viewer, settings, found))
    mixture = [
        {"weight": part.weight, "name": part.name, "meant": meant}
        for part, meant in zip(parts, query.meant, strict=True)
    ]
    if json:
        print_json({"base": query.recipe.base_name, "mixture": mixture, **_as_json(settings, found, ranking)})
        return
    said = " + ".join(f"{part.weight:g} × {plain(meant)}" for part, meant in zip(parts, query.meant, strict=True))
    console.print(f"[dim]{said}, finetunes of {plain(query.recipe.base_name)}[/]")
    _show(settings, found, ranking)


class _ExampleSearch:
    """A search by examples that trains in this process and prints its answers."""

    def __init__(
        self,
        database: Database,
        viewer: Person,
        settings: Settings,
        base: str,
        examples: Sequence[Example],
        limit: int,
        conditions: Conditions | None,
        order: Order,
    ) -> None:
        self._database, self._viewer, self._settings, self._base = database, viewer, settings, base
        self._examples, self._limit, self._conditions, self._order = examples, limit, conditions, order

    def run(self, *, wait: bool, json: bool) -> None:
        """Print the first answer at once, and the certainty when it is known; as JSON, both at the end."""
        delta, found = None, None
        for delta in self._deltas(wait=wait):
            is_first, found = not delta.halves, self._found(delta)
            if is_first and not json:
                _show(self._settings, found, self._ranked(found))
        if delta is None or found is None:
            return
        if json:
            facts = {"base": self._base, "examples": len(self._examples), "recipe": delta.recipe_digest}
            strength = {"strength": delta.strength, "probe_agreement": delta.probe_agreement}
            print_json({**facts, **strength, **_as_json(self._settings, found, self._ranked(found))})
        elif found.certainty:
            console.print(plain(found.certainty.in_words))

    def _found(self, delta: TaskDelta) -> TaskModels:
        return self._database.run(
            lambda tx: models_for(tx, self._viewer, self._settings, delta, k=self._limit, conditions=self._conditions)
        )

    def _ranked(self, found: TaskModels) -> Ranking[TaskModel]:
        return self._database.run(lambda tx: self._order.of(tx, self._viewer, self._settings, found))

    def _deltas(self, *, wait: bool) -> Iterator[TaskDelta]:
        """Yield the delta of the examples, then with one more trained half of them each time."""
        from deltadex.app import registry_of
        from deltadex.find.train import trainer

        settings = self._settings
        registry = registry_of(settings)
        method, kept = self._database.run(lambda tx: manner_of(tx, settings, self._base))
        with registry.bound(), trainer(kept, registry, self._base, method=method) as training:
            with _bar(f"Training on {len(self._examples)} examples") as advance:
                first = training.delta(self._examples, on_share=advance)
            yield first
            if wait and first.halves_planned:
                last = first
                with _bar("Training on halves of them") as advance:
                    for last in training.with_halves(first, self._examples):
                        advance(len(last.halves) / last.halves_planned)
                yield last


@contextmanager
def _bar(text: str) -> Iterator[Any]:
    with Progress(console=_PROGRESS, transient=True) as progress:
        bar = progress.add_task(text, total=1.0)
        yield lambda share: progress.update(bar, completed=share)


def _as_json(settings: Settings, found: TaskModels, ranking: Ranking[TaskModel]) -> dict[str, Any]:
    certainty = found.certainty
    return {
        "exact": found.is_exact,
        "answer": found.in_words,
        "close": found.is_close,
        "closeness": found.closeness
        and {
            "by": "domain" if found.closeness.domain else "version",
            "domain": found.closeness.domain and found.closeness.domain.name,
            "reached": found.closeness.reached,
            "needed": found.closeness.needed,
        },
        "certainty": certainty
        and {
            "halves": certainty.halves,
            "same_domain": certainty.agreeing,
            "lowest_similarity": certainty.lowest,
            "highest_similarity": certainty.highest,
        },
        "note": found.note,
        "rank_note": ranking.note,
        "domains": [{"name": one.cluster.name, "similarity": one.similarity} for one in found.domains],
        "models": [_model_json(settings, one) for one in ranking.placed],
    }


def _model_json(settings: Settings, place: Placed[TaskModel]) -> dict[str, Any]:
    one = place.candidate
    version = one.version.registered
    return {
        **version_json(one.version),
        "similarity": one.similarity,
        "score": score_json(place),
        "cluster": one.cluster and one.cluster.name,
        "words": list(one.words),
        "owner": version.owner,
        "link": settings.version_link(version.ref.name, version.ref.version),
    }


def _caption(found: TaskModels) -> str:
    approximate = "" if found.is_exact else "Approximate: others may be as close. "
    return f"{approximate}{CAVEAT if found.closeness else ''}"


def _show(settings: Settings, found: TaskModels, ranking: Ranking[TaskModel]) -> None:
    console.print(f"[bold]{plain(found.in_words)}[/]")
    if not found.models:
        return
    table = Table(
        Column("version", overflow="fold"), "similarity", "domain", "promotes", "owner",
        caption=_caption(found),
    )  # fmt: skip
    has_scores = any(place.score for place in ranking.placed)
    if has_scores:
        table.add_column("metric")
    for place in ranking.placed:
        one = place.candidate
        ref = one.version.registered.ref
        link = settings.version_link(ref.name, ref.version)
        label = plain(one.version.label)
        table.add_row(
            f"[link={link}]{label}[/link]" if link else label,
            f"{one.similarity:.4f}",
            plain(one.cluster.name) if one.cluster else "",
            plain(" ".join(word.strip() for word in one.words)),
            plain(one.version.registered.owner or ""),
            *([score_text(place.score)] if has_scores else []),
        )
    console.print(table)
    if ranking.note:
        console.print(f"[dim]{plain(ranking.note)}[/]")
    if found.domains:
        said = ", ".join(f"{plain(one.cluster.name)} {one.similarity:.2f}" for one in found.domains)
        console.print(f"[dim]Nearest domains by their mean directions: {said}.[/]")
