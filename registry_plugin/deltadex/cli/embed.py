"""`deltadex embed`: embeddings of folders on this machine, without any service."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from zipfile import ZipFile

import numpy as np
import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TextColumn
from rich.table import Table

from deltadex.activations.job import BaseModel, Finetune, OnProgress
from deltadex.activations.process import EmbeddingProcess
from deltadex.checkpoints.digest import identical_tensors, weights_digest
from deltadex.checkpoints.files import LocalFiles
from deltadex.checkpoints.fit import check_fit
from deltadex.checkpoints.layout import Kind, LocalCheckpoint, inspect
from deltadex.domain import Embedding, FloatArray
from deltadex.errors import DeltadexError
from deltadex.settings import load_settings


@dataclass(frozen=True)
class _Outcome:
    """What became of one model: an embedding or the error that prevented it."""

    name: str
    result: Embedding | DeltadexError
    remark: str


def embed(
    models: Annotated[list[Path], typer.Argument(help="Folders of finetunes: LoRA adapters or full models.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model they were finetuned from.")],
    output: Annotated[Path, typer.Option(help="The .npz file to write: one (hidden_size,) array per folder name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Embed finetunes of one base by what they do, without any service."""
    named = _named(models)
    if not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"{output.absolute().parent} is no folder", param_hint="--output")
    outcomes = _embed_all(named, base)
    vectors = {outcome.name: outcome.result.vector for outcome in outcomes if isinstance(outcome.result, Embedding)}
    if vectors:
        _write(vectors, output)
    if as_json:
        typer.echo(json.dumps([_described(outcome) for outcome in outcomes], indent=2))
    else:
        _show(outcomes, output if vectors else None)
    if len(vectors) < len(outcomes):
        raise typer.Exit(1)


def _named(models: list[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for model in models:
        name = model.absolute().name
        if name in named:
            raise typer.BadParameter(
                f"{named[name]} and {model} would both be the array {name!r}: rename one", param_hint="MODELS"
            )
        named[name] = model
    return named


def _embed_all(named: dict[str, Path], folder: Path) -> list[_Outcome]:
    settings = load_settings()
    memo, states = settings.cache_dir / "digests", settings.cache_dir / "base-states"
    limits = settings.embedding
    with EmbeddingProcess(memory_bytes=limits.memory_bytes) as process:
        checkpoint = inspect(LocalFiles(folder)).fetch()
        digest = weights_digest(checkpoint, memo=memo)
        base = BaseModel(checkpoint, digest, limits.compute_dtype, states, limits.device, limits.words)
        outcomes: dict[str, Embedding | DeltadexError] = {}
        finetunes: dict[str, Finetune] = {}
        remarks: dict[str, str] = {}
        for name, model in named.items():
            try:
                finetunes[name], remarks[name] = _finetune(model, checkpoint, memo)
            except DeltadexError as error:
                outcomes[name] = error
        deadline_seconds = limits.deadline_seconds * max(1, len(finetunes))
        with _progress(checkpoint, finetunes.values()) as on_progress:
            for number, result in process.embed(
                base, list(finetunes.values()), deadline_seconds=deadline_seconds, on_progress=on_progress
            ):
                outcomes[list(finetunes)[number]] = result
    return [_Outcome(name, outcomes[name], remarks.get(name, "")) for name in named]


def _finetune(folder: Path, base: LocalCheckpoint, memo: Path) -> tuple[Finetune, str]:
    finetune = inspect(LocalFiles(folder)).fetch()
    fit = check_fit(finetune, base)
    identical = identical_tensors(finetune, base, memo=memo) if finetune.kind is Kind.FULL else frozenset()
    return Finetune(finetune, weights_digest(finetune, memo=memo), identical), fit.remark


@contextmanager
def _progress(base: LocalCheckpoint, finetunes: Iterable[Finetune]) -> Iterator[OnProgress]:
    """Show how much has been read, of at most this much: what is known or shared is not read again."""
    checkpoints = [base, base, *(one.checkpoint for one in finetunes if one.checkpoint.kind is Kind.FULL)]
    total = sum(file.stat().st_size for checkpoint in checkpoints for file in checkpoint.weight_files)
    columns = (*Progress.get_default_columns(), DownloadColumn(), TextColumn("{task.fields[at]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Embedding", total=total, at="")
        yield lambda at, read_bytes: progress.update(task, completed=read_bytes, at=at.partition("+")[0])


def _write(vectors: dict[str, FloatArray], output: Path) -> None:
    """Write the whole file or none: a reader never meets half of one."""
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    with ZipFile(unfinished, "w") as archive:
        for name, vector in vectors.items():  # np.savez has arguments of its own that a folder may be called like
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, vector, allow_pickle=False)
    unfinished.replace(output)


def _described(outcome: _Outcome) -> dict[str, object]:
    result = outcome.result
    if isinstance(result, DeltadexError):
        return {"model": outcome.name, "error": result.message, "hint": result.hint}
    return {
        "model": outcome.name,
        "norm": result.norm,
        "strength": result.strength,
        "probe_agreement": result.probe_agreement,
        "noise_floor": result.noise_floor,
        "remark": outcome.remark,
        "weights_digest": result.weights_digest,
        "recipe": result.recipe.digest,
    }


def _show(outcomes: list[_Outcome], output: Path | None) -> None:
    table = Table("model", "strength", "probe agreement", "remark")
    for outcome in outcomes:
        result = outcome.result
        if isinstance(result, Embedding):
            table.add_row(outcome.name, f"{result.strength:.3f}", f"{result.probe_agreement:.3f}", outcome.remark)
        else:
            table.add_row(outcome.name, "–", "–", f"{result.message}\n{result.hint}".strip())
    console = Console()
    console.print(table)
    console.print(f"{output} written" if output else "Nothing could be embedded, no file was written")
