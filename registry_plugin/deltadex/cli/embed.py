"""The command `embed`: embeddings of folders on this machine, without any service."""

from __future__ import annotations

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

from deltadex.checkpoints.inspect import Kind, LocalCheckpoint
from deltadex.cli.reading import print_json
from deltadex.cli.terminal import plain
from deltadex.downloads.cache import open_cache
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.messages import OnProgress
from deltadex.engine.probes import DEFAULT_METHOD, MethodName
from deltadex.engine.requests import Finetune
from deltadex.errors import DeltadexError
from deltadex.escaping import printable
from deltadex.local_embedding import read_base, read_finetune
from deltadex.settings import load_settings
from deltadex.types import Embedding, FloatArray


@dataclass(frozen=True)
class _Outcome:
    """Result for one model: an embedding, or the error that prevented it."""

    name: str
    result: Embedding | DeltadexError
    remark: str


def embed(
    models: Annotated[list[Path], typer.Argument(help="Folders of finetunes: LoRA adapters or full models.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model they were finetuned from.")],
    output: Annotated[Path, typer.Option(help="The .npz file to write: one (hidden_size,) array per folder name.")],
    method: Annotated[
        MethodName, typer.Option(help="What is read: prompts with content, or the paper's own.")
    ] = DEFAULT_METHOD,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Embed finetunes of one base on this machine. Needs no service."""
    folders = _by_name(models)
    if not output.absolute().parent.is_dir():
        raise typer.BadParameter(printable(f"{output.absolute().parent} is not a folder"), param_hint="--output")
    outcomes = _embed_all(folders, base, method)
    vectors = {outcome.name: outcome.result.vector for outcome in outcomes if isinstance(outcome.result, Embedding)}
    if vectors:
        _write(vectors, output)
    if as_json:
        print_json([_as_json(outcome) for outcome in outcomes])
    else:
        _show(outcomes, output if vectors else None)
    if len(vectors) < len(outcomes):
        raise typer.Exit(1)


def _by_name(models: list[Path]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for model in models:
        name = model.absolute().name
        if name in folders:
            problem = f"{folders[name]} and {model} would both be the array {name!r}: rename one"
            raise typer.BadParameter(printable(problem), param_hint="MODELS")
        folders[name] = model
    return folders


def _embed_all(folders: dict[str, Path], base_folder: Path, method: str) -> list[_Outcome]:
    settings = load_settings()
    limits = settings.embedding
    with EmbeddingProcess(memory_bytes=limits.memory_bytes) as process, open_cache(settings).holding() as hold:
        base = read_base(process, base_folder, settings, hold, method=method)
        outcomes: dict[str, Embedding | DeltadexError] = {}
        finetunes: dict[str, Finetune] = {}
        remarks: dict[str, str] = {}
        for name, model in folders.items():
            try:
                checked = read_finetune(process, model, base.checkpoint, settings, hold)
                finetunes[name], remarks[name] = checked.finetune, checked.fit.remark
            except DeltadexError as error:
                outcomes[name] = error
        deadline_seconds = limits.deadline_seconds * max(1, len(finetunes))
        with _progress(base.checkpoint, finetunes.values()) as on_progress:
            for number, result in process.embed(
                base, list(finetunes.values()), deadline_seconds=deadline_seconds, on_progress=on_progress
            ):
                outcomes[list(finetunes)[number]] = result
    return [_Outcome(name, outcomes[name], remarks.get(name, "")) for name in folders]


@contextmanager
def _progress(base: LocalCheckpoint, finetunes: Iterable[Finetune]) -> Iterator[OnProgress]:
    """Show a progress bar of bytes read. The total is an upper limit: cached and shared tensors are not read again."""
    checkpoints = [base, base, *(one.checkpoint for one in finetunes if one.checkpoint.kind is Kind.FULL)]
    total = sum(file.stat().st_size for checkpoint in checkpoints for file in checkpoint.weight_files)
    columns = (*Progress.get_default_columns(), DownloadColumn(), TextColumn("{task.fields[at]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Embedding", total=total, at="")
        yield lambda at, read_bytes: progress.update(task, completed=read_bytes, at=plain(at.partition("+")[0]))


def _write(vectors: dict[str, FloatArray], output: Path) -> None:
    """Write the file atomically."""
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    with ZipFile(unfinished, "w") as archive:
        for name, vector in vectors.items():  # not np.savez: a folder may have the name of one of its parameters
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, vector, allow_pickle=False)
    unfinished.replace(output)


def _as_json(outcome: _Outcome) -> dict[str, object]:
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
        name, result = plain(outcome.name), outcome.result
        if isinstance(result, Embedding):
            table.add_row(name, f"{result.strength:.3f}", f"{result.probe_agreement:.3f}", plain(outcome.remark))
        else:
            table.add_row(name, "–", "–", "\n".join(map(plain, filter(None, (result.message, result.hint)))))
    console = Console()
    console.print(table)
    console.print(f"{plain(output)} written" if output else "Nothing could be embedded: no file was written")
