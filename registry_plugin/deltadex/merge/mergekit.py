"""Merge of full models by mergekit, run as a program of its own: it is LGPL, optional, and opens untrusted files."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine.isolation import isolated_environment, kill_group
from deltadex.errors import Resource, SettingsError, Shortage, UnsupportedCheckpoint
from deltadex.merge.methods import MergeMethod
from deltadex.settings import Settings

_PROGRAM = "mergekit-yaml"
#: Files that name this machine's folders.
_NOTES = ("README.md", "mergekit_config.yml")
_SAFETENSORS = ".safetensors"
#: Gives up network and rights, and becomes the program that the arguments name.
_ISOLATED = """
import os, sys
from deltadex.engine.isolation import isolate
isolate()
os.execv(sys.argv[1], sys.argv[1:])
"""

log = logging.getLogger(__name__)


def find_mergekit(settings: Settings) -> Path:
    """Return mergekit's program: the setting's, or beside this interpreter, or on the path.

    Raises
    ------
    SettingsError
        There is none.
    """
    if settings.mergekit is not None:
        found = shutil.which(settings.mergekit)
    else:
        found = shutil.which(_PROGRAM, path=str(Path(sys.executable).parent)) or shutil.which(_PROGRAM)
    if found is None:
        raise SettingsError(
            f"Full models are merged by mergekit, and {settings.mergekit or _PROGRAM} was not found",
            hint="pip install mergekit, or set DELTADEX_MERGEKIT to the mergekit-yaml of another environment.",
        )
    return Path(found)


def merge_full_models(
    settings: Settings,
    base: LocalCheckpoint,
    models: Sequence[LocalCheckpoint],
    weights: Sequence[float],
    folder: Path,
    *,
    method: MergeMethod,
    density: float | None = None,
    seed: int = 0,
) -> None:
    """Write the merge of full models of one base into a folder, with the base's tokenizer.

    Raises
    ------
    SettingsError
        mergekit is not installed.
    UnsupportedCheckpoint
        It cannot merge these models.
    Shortage
        It took too long.
    """
    program = find_mergekit(settings)
    for one in (base, *models):
        if any(file.suffix != _SAFETENSORS for file in one.weight_files):
            raise UnsupportedCheckpoint(f"{one} is not a safetensors checkpoint", hint="Save it with save_pretrained.")
    file = folder / ".mergekit.json"
    file.write_text(json.dumps(_config(base, models, weights, method, density)))  # JSON is YAML
    seconds = settings.embedding.deadline_seconds
    options = ("--no-trust-remote-code", "--quiet", "--random-seed", str(seed))
    command = [sys.executable, "-P", "-c", _ISOLATED, str(program), str(file), str(folder), *options]
    process = subprocess.Popen(
        command,
        env=isolated_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Shortage(
            f"mergekit took longer than {seconds:g} s and was stopped",
            hint="Raise DELTADEX_EMBEDDING__DEADLINE_SECONDS.",
            resource=Resource.TIME,
            more_than=seconds,
        ) from None
    finally:
        kill_group(process.pid)
    file.unlink()
    for name in _NOTES:
        (folder / name).unlink(missing_ok=True)
    if process.returncode:
        said = output.decode(errors="replace").strip()
        log.info("mergekit failed output=%s", said[-2000:])
        raise UnsupportedCheckpoint(
            f"mergekit could not merge these models: {said.rpartition(chr(10))[2][:300]}",
            hint="Full models must have the architecture and the vocabulary of their base. --debug shows its output.",
        )


def _config(
    base: LocalCheckpoint,
    models: Sequence[LocalCheckpoint],
    weights: Sequence[float],
    method: MergeMethod,
    density: float | None,
) -> dict[str, Any]:
    """Return mergekit's own config of a merge; its weights are taken as they are."""
    pruned = {} if density is None else {"density": density}
    return {
        "merge_method": method.for_full_models,
        "base_model": str(base.folder),
        "models": [
            {"model": str(one.folder), "parameters": {"weight": weight, **pruned}}
            for one, weight in zip(models, weights, strict=True)
        ],
        # TIES divides by the number of parents that agree, as peft's does; sums are sums.
        "parameters": {"normalize": "ties" in method},
        "dtype": "float32" if _is_float32(base) else "bfloat16",
    }


def _is_float32(checkpoint: LocalCheckpoint) -> bool:
    return any(tensor.dtype == "F32" for tensor in checkpoint.tensors().values())
