"""The command `augment`: examples of a task with rephrasings, reversals and inferences, and what training gains."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from deltadex.access import at_terminal
from deltadex.augment import inferences
from deltadex.augment.augmented import Augmentation, Origin, as_lines
from deltadex.augment.effect import Effect, Trials, effect_of
from deltadex.augment.filtering import Sieve
from deltadex.augment.folds import Folds
from deltadex.augment.local import AT_MOST_EACH, augmentation_of, offer
from deltadex.cli.agreement import agreed
from deltadex.cli.options import DatabaseUrl, DataDir, Json, TrackingUri, settings_from
from deltadex.cli.reading import print_json
from deltadex.cli.terminal import plain
from deltadex.endpoint.client import ChatEndpoint
from deltadex.endpoint.outgoing import Outgoing, Purpose
from deltadex.engine.adapter_requests import Tuning
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.example_files import read_file
from deltadex.engine.examples import Example
from deltadex.engine.probes import DEFAULT_METHOD
from deltadex.engine.requests import BaseModel
from deltadex.escaping import printable
from deltadex.settings import Settings
from deltadex.store.database import Database

console = Console(highlight=False)


def augment(
    examples: Annotated[Path, typer.Argument(help="Inputs and outputs of the task, as for `find`.", exists=True)],
    output: Annotated[Path, typer.Option(help="The .jsonl file to write: all examples, marked with their origin.")],
    local: Annotated[bool, typer.Option("--local/--no-local", help="Rephrase and reverse by rules.")] = True,
    across: Annotated[
        bool, typer.Option("--global", help="Infer across examples, by the endpoint of the settings; asks first.")
    ] = False,
    each: Annotated[int, typer.Option(help="Most examples that rules make of one.", min=1, max=20)] = AT_MOST_EACH,
    base: Annotated[
        str | None, typer.Option(help="With --compare: base model, by its declared name, or a folder of it.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Train with and without, and score on a fourth that is held out.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to what --global sends; it is shown all the same.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
) -> None:
    r"""Add rephrasings, reversals and inferences to examples of a task.

    Rules know English and German; for other languages only neutral ones apply. --compare needs deltadex\[embed] and
    makes nothing from the examples that it holds out.
    """
    if compare != (base is not None):
        raise typer.BadParameter("--compare and --base go together")
    if not output.absolute().parent.is_dir():
        raise typer.BadParameter(printable(f"{output.absolute().parent} is not a folder"), param_hint="--output")
    settings = settings_from(data_dir, tracking_uri=tracking_uri, database_url=database_url)
    given = read_file(examples)
    folds = Folds.of(given) if compare else Folds(given, given, (), tuple(range(len(given))))
    sieve = Sieve(folds.training, folds.held_out)
    if local:
        offer(sieve, folds.training, each)
    if across:
        _infer(settings, sieve, folds.training, yes=yes)
    augmentation = augmentation_of(sieve)
    _write(output, as_lines(folds.over_all(augmentation)))
    effect = _effect(settings, base, augmentation, folds.held_out) if base else None
    if json:
        print_json(_as_json(output, augmentation, effect))
    else:
        _show(output, augmentation, effect)


def _infer(settings: Settings, sieve: Sieve, given: Sequence[Example], *, yes: bool) -> None:
    outgoing = Outgoing(Purpose.AUGMENT, ChatEndpoint.of(settings.endpoint), inferences.texts_of(given))
    person = at_terminal(settings)
    # No log, no sending: without a database this is an error that says how to set one.
    with Database(settings.url_of("dashboard"), role=settings.database.role) as database:
        endpoint = agreed(outgoing, person, database, settings.registry, yes=yes)
        inferences.offer(sieve, given, endpoint)


def _effect(settings: Settings, base: str, augmentation: Augmentation, held_out: Sequence[Example]) -> Effect:
    find, limits = settings.find, settings.embedding
    with ExitStack() as stack:
        process = stack.enter_context(EmbeddingProcess(memory_bytes=limits.memory_bytes))
        folder = stack.enter_context(TemporaryDirectory(prefix="deltadex-augment-"))
        model = _base(settings, process, base, stack)
        tuning = Tuning(model, (), Path(folder), find.steps, find.learning_rate, max_tokens=find.tokens)
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        bar = progress.add_task("Training three times", total=3 * find.steps)
        trials = Trials(process, tuning, limits.deadline_seconds)
        return effect_of(trials, augmentation, held_out, on_step=lambda done: progress.update(bar, completed=done))


def _base(settings: Settings, process: EmbeddingProcess, base: str, stack: ExitStack) -> BaseModel:
    """Return a base in a folder of this machine, or one that the registry or the hub mirror has."""
    from deltadex.downloads.cache import open_cache
    from deltadex.local_embedding import read_base

    hold = stack.enter_context(open_cache(settings).holding())
    if Path(base).is_dir():
        return read_base(process, Path(base), settings, hold, method=DEFAULT_METHOD)
    from deltadex.app import registry_of
    from deltadex.bases import resolve
    from deltadex.engine.plain_copies import plain_copy
    from deltadex.engine.shared import base_model

    registry = registry_of(settings)
    stack.enter_context(registry.bound())
    files = resolve.base_files_of(settings, registry, base, hold)
    stored = process.inspect(files, read_pickles=settings.embedding.read_pickles).fetch()
    checkpoint = plain_copy(process, stored, hold, deadline_seconds=settings.embedding.deadline_seconds)
    return base_model(settings, process, checkpoint, method=DEFAULT_METHOD)


def _write(output: Path, text: str) -> None:
    """Write the file atomically."""
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(output)


def _as_json(output: Path, augmentation: Augmentation, effect: Effect | None) -> dict[str, Any]:
    return {
        "output": str(output),
        "given": len(augmentation.given),
        "made": {origin: augmentation.count(origin) for origin in Origin},
        "dropped": dict(augmentation.dropped),
        "effect": effect and {**asdict(effect), "verdict": effect.verdict},
    }


def _show(output: Path, augmentation: Augmentation, effect: Effect | None) -> None:
    table = Table("examples", "", title=f"{plain(output)} written")
    table.add_row("given", f"{len(augmentation.given):,}")
    for origin in Origin:
        table.add_row(origin, f"{augmentation.count(origin):,}")
    for reason, count in augmentation.dropped.items():
        if count:
            table.add_row(f"[dim]dropped: {reason}[/]", f"[dim]{count:,}[/]")
    console.print(table)
    if effect is None:
        return
    table = Table("held-out completions", "nats per token", "95% interval")
    for name, value in (("base", effect.base), ("plain", effect.without), ("augmented", effect.augmented)):
        table.add_row(name, f"{value.value:.3f}", f"{value.low:.3f} to {value.high:.3f}")
    console.print(table)
    console.print(effect.verdict)
