"""The command `merge`: the merge of versions of one base, predicted, built, checked and registered."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from deltadex.cli.options import (
    DatabaseUrl,
    DataDir,
    Json,
    PrefectUrl,
    TrackingUri,
    parse_label,
    settings_from,
)
from deltadex.cli.reading import print_json, reading, version_json
from deltadex.cli.task_examples import ExamplesPath, read_given
from deltadex.cli.terminal import plain
from deltadex.escaping import printable
from deltadex.merge.methods import MergeMethod
from deltadex.merge.plan import MergePlan, plan
from deltadex.types import VersionRow
from deltadex.versions.labels import known_version

if TYPE_CHECKING:
    from deltadex.engine.adapter_requests import FoundWeights
    from deltadex.merge.build import BuiltMerge, MergeOptions
    from deltadex.settings import Settings
    from deltadex.types import RegisteredVersion

_FOUND_SOMETHING = 4
#: Fewer examples can't be halved into some to search on and some to judge by.
_FEWEST_EXAMPLES = 4
_WORDS = 8

console = Console(highlight=False, soft_wrap=True)


def merge(
    labels: Annotated[list[str], typer.Argument(metavar="NAME/VERSION…", help="The versions to merge, two or more.")],
    method: Annotated[
        MergeMethod | None, typer.Option(help="How to merge.", show_default="cat for adapters, linear for full models")
    ] = None,
    weight: Annotated[
        list[float] | None, typer.Option(help="Weight of a version, in their order. Repeatable.", show_default="equal")
    ] = None,
    density: Annotated[float, typer.Option(min=0, max=1, help="Share of entries that a pruning method keeps.")] = 0.5,
    rank: Annotated[
        int | None, typer.Option(min=1, help="Rank of the adapter, for svd methods.", show_default="the largest")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of random pruning and of the search.")] = 0,
    examples: ExamplesPath = None,
    budget: Annotated[int, typer.Option(min=1, max=1000, help="Weightings that the search by --examples tries.")] = 40,
    output: Annotated[
        Path | None, typer.Option(help="Build the merge and write it into this folder.", file_okay=False)
    ] = None,
    register: Annotated[
        str | None, typer.Option(metavar="NAME", help="Register the merge as the next version of this model.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Register it even if it is far from the prediction.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only predict; build nothing.")] = False,
    base: Annotated[str | None, typer.Option(help="Predict under this base model.", show_default="latest")] = None,
    json: Json = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> None:
    r"""Predict what a merge of versions will be, warn of what speaks against it, and build, check and register it.

    Without --output only the prediction and the warnings are shown. Building runs on this machine and needs
    deltadex\[embed]; a search of weights also deltadex\[merge], a merge of full models mergekit. Exits with 4 if the
    built merge is far from the prediction.
    """
    parsed = [parse_label(label) for label in labels]
    _check(parsed, weight, output, register)
    given = read_given(examples) if examples else ()
    if examples and len(given) < _FEWEST_EXAMPLES:
        raise typer.BadParameter(f"a search needs at least {_FEWEST_EXAMPLES} examples", param_hint="--examples")
    with reading(data_dir, database_url) as (tx, viewer, settings):
        parents = [known_version(tx, viewer, settings.registry, name, number) for name, number in parsed]
        assumed = method or MergeMethod.CAT  # `linear` of full models is a sum, too
        weights = tuple(weight) if weight else assumed.default_weights(len(labels))
        ids = [row.id for row in parents]
        expected = plan(tx, viewer, ids, method=assumed, weights=weights, base=base)
    said = Console(quiet=True) if json else console
    _show_plan(said, parents, weights, expected)
    done = registered = None
    if output and not dry_run:
        from deltadex.merge.build import MergeOptions

        options = MergeOptions(method, tuple(weight) if weight else None, density, rank, seed, given, budget)
        settings = settings_from(
            data_dir, tracking_uri=tracking_uri, database_url=database_url, prefect_api_url=prefect_api_url
        )
        done, registered = _build(settings, parents, output.absolute(), options, register=register, force=force)
        _show_built(said, parents, done, output)
        if registered:
            said.print(f"[bold]{plain(registered.ref.label)}[/] registered, with its parents as lineage")
    if json:
        print_json(_as_json(parents, weights, expected, done, registered))
    if done and not done.is_as_predicted:
        raise typer.Exit(_FOUND_SOMETHING)


def _check(
    parsed: list[tuple[str, int]], weight: list[float] | None, output: Path | None, register: str | None
) -> None:
    if len(parsed) < 2 or len(set(parsed)) < len(parsed):
        raise typer.BadParameter("name at least two versions, each once")
    if weight and (len(weight) != len(parsed) or not all(map(isfinite, weight)) or not any(weight)):
        raise typer.BadParameter(f"give one weight for each of the {len(parsed)} versions", param_hint="--weight")
    # Names that MLflow refuses are refused before anything is built.
    if register is not None and (output is None or not register.strip() or {*register} & {"/", ":"}):
        raise typer.BadParameter("it needs --output, and a name without / and :", param_hint="--register")
    if output is not None:
        output = output.absolute()
        if not output.parent.is_dir():
            raise typer.BadParameter(printable(f"{output.parent} is not a folder"), param_hint="--output")
        if output.exists() and any(output.iterdir()):
            raise typer.BadParameter(printable(f"{output} is not empty"), param_hint="--output")


def _build(
    settings: Settings,
    parents: list[VersionRow],
    output: Path,
    options: MergeOptions,
    *,
    register: str | None,
    force: bool,
) -> tuple[BuiltMerge, RegisteredVersion | None]:
    from deltadex.app import open_app
    from deltadex.merge.build import build
    from deltadex.merge.register import register_merge

    columns = (TextColumn("{task.description}"), TimeElapsedColumn(), TextColumn("{task.fields[at]}"))
    with open_app(settings) as app, Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, at="")
        done = build(
            app,
            parents,
            output,
            options,
            on_stage=lambda stage: progress.reset(task, description=stage, total=None, at=""),
            on_share=lambda share: progress.update(task, at=f"{share:.0%}"),
            on_progress=lambda at, _: progress.update(task, at=plain(at.partition("+")[0])),
        )
        if register is None or not (done.is_as_predicted or force):
            return done, None
        progress.reset(task, description="registering", total=None, at="")
        return done, register_merge(app, register, output, done, parents)


def _show_plan(
    said: Console, parents: list[VersionRow], weights: tuple[float, ...], expected: MergePlan | None
) -> None:
    if expected is None:
        said.print(
            "[yellow]No prediction:[/] the versions have no comparable embedding under one recipe. They may be "
            "finetunes of different bases, not embedded yet, or too weak to place."
        )
        return
    prediction = expected.prediction
    table = Table(Column("parent", overflow="fold"), "weight", "similarity", "shift kept", title="prediction")
    for row, weight, similarity, kept in zip(parents, weights, prediction.to_parents, prediction.kept, strict=True):
        table.add_row(plain(row.label), f"{weight:.3g}", f"{similarity:.3f}", f"{kept:.0%}")
    said.print(table)
    said.print(f"parents' similarities to each other: {', '.join(f'{one:.3f}' for one in prediction.pairs)}")
    if expected.conflict is not None:
        said.print(f"their updates have opposite signs at {expected.conflict:.0%} of the larger entries")
    near = ", ".join(f"{plain(one.version.label)} ({one.similarity:.3f})" for one in expected.near)
    said.print(f"closest to the prediction: {near or 'nothing else'}")
    for warning in expected.warnings:
        said.print(f"[yellow]Warning:[/] {plain(warning.text)}")
    if not expected.warnings:
        said.print("[dim]Nothing that is measured here speaks against it.[/]")


def _show_built(said: Console, parents: list[VersionRow], done: BuiltMerge, output: Path) -> None:
    if done.search:
        _show_search(said, parents, done.search)
    rank = f" of rank {done.rank}" if done.rank else ""
    said.print(
        f"[bold]{plain(str(output))}[/]: {done.kind}{rank} on {plain(done.base_name)} by {done.method}, "
        f"{done.size_bytes / 1e6:,.1f} MB"
    )
    said.print(f"similarity of its embedding to the prediction {done.similarity:.4f}: {_verdict(done)}")
    each = zip(parents, done.to_parents, strict=True)
    said.print("to its parents: " + ", ".join(f"{plain(row.label)} {one:.3f}" for row, one in each))
    if done.words:
        for name, words in zip(("prediction", "merge"), done.words, strict=True):
            tokens = " ".join(plain(word.text) for word in words.promoted[:_WORDS])
            said.print(f"words that the {name} promotes: {tokens or plain(words.note)}")


def _verdict(done: BuiltMerge) -> str:
    from deltadex.merge.build import LEAST_AS_PREDICTED

    if not done.is_sum:
        return f"[dim]the prediction is that of a sum, which {done.method} is not[/]"
    return "as predicted" if done.is_as_predicted else f"[red]not as predicted[/] (at least {LEAST_AS_PREDICTED})"


def _show_search(said: Console, parents: list[VersionRow], search: FoundWeights) -> None:
    table = Table(Column("weights", overflow="fold"), "searched on", "held out", title="loss, nats per token")
    singles = ((f"{plain(row.label)} alone", one) for row, one in zip(parents, search.singles, strict=True))
    rows = (("base", search.base), *singles, ("equal", search.equal), ("found", search.found))
    for name, one in rows:
        table.add_row(name, f"{one.nats:.3f}", "" if one.held_out_nats is None else f"{one.held_out_nats:.3f}")
    said.print(table)
    said.print("found weights: " + ", ".join(f"{one:.3f}" for one in search.found.weights))
    if search.overfits:
        said.print(
            "[yellow]Warning:[/] on the held-out examples another weighting does as well or better: the search has "
            "fitted these examples more than the task. More examples help."
        )


def _as_json(
    parents: list[VersionRow],
    weights: tuple[float, ...],
    expected: MergePlan | None,
    done: BuiltMerge | None,
    registered: RegisteredVersion | None,
) -> dict[str, Any]:
    return {
        "parents": [
            {**version_json(row), "weight": weight} for row, weight in zip(parents, weights, strict=True)
        ],
        "prediction": expected and {
            "base": expected.base_name,
            "recipe": expected.recipe_digest,
            "similarity_to_parents": expected.prediction.to_parents,
            "kept": expected.prediction.kept,
            "similarity_of_parents": expected.prediction.pairs,
            "conflict": expected.conflict,
            "near": [{**version_json(one.version), "similarity": one.similarity} for one in expected.near],
            "warnings": [asdict(one) for one in expected.warnings],
        },
        "built": done and {
            "kind": done.kind,
            "base": done.base_name,
            "method": done.method,
            "weights": done.weights,
            "rank": done.rank,
            "bytes": done.size_bytes,
            "similarity_to_prediction": done.similarity,
            "similarity_to_parents": done.to_parents,
            "strength": done.strength,
            "is_as_predicted": done.is_as_predicted,
            "search": done.search and {**asdict(done.search), "overfits": done.search.overfits},
        },
        "registered": registered and {"name": registered.ref.name, "version": registered.ref.version},
    }  # fmt: skip
