"""Extraction of a LoRA adapter from a full model, one matrix at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from deltadex.checkpoints.low_rank import (
    LARGEST_SHARE,
    TOLERANCE,
    LowRank,
    MatrixDifference,
    is_adaptable,
    is_clear,
    is_rounded,
    largest_rank,
    singular_values,
)
from deltadex.checkpoints.tensor_names import by_common_name
from deltadex.engine.adapter_requests import Extraction
from deltadex.engine.messages import OnProgress
from deltadex.engine.readout import Readout
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.stored_model import Origin, StoredModel
from deltadex.errors import UnsupportedCheckpoint

#: Ranks tried at first, and the factor to the next try.
_FIRST_TRY, _NEXT_TRY = 16, 4
#: Extra columns and power iterations of the randomized singular value decomposition (arXiv 0909.4061).
_EXTRA_COLUMNS, _ITERATIONS = 8, 4
#: Bytes of a float32 tensor that are compared at a time.
_CHUNK_BYTES = 32 << 20
_AS_FULL = "Serve it as a full model."
_ANY_RANK = "With --rank, the best adapter of that rank is written whatever its error."


@dataclass(frozen=True, eq=False)
class _Update:
    """The update of one module by the adapter.

    Attributes
    ----------
    up, down
        `(outputs, rank)` and `(rank, inputs)`: their product is the update. In the dtype of the model.
    energy, rounding, left
        Squared Frobenius norms of the difference, of the rounding expected in it, and of what the update misses.
    """

    module: str
    up: Tensor
    down: Tensor
    energy: float
    rounding: float
    left: float


def extract(request: Extraction, *, on_progress: OnProgress) -> LowRank:
    """Write the adapter that holds a full model's difference from its base, as peft does, and return what it holds.

    Raises
    ------
    UnsupportedCheckpoint
        An adapter cannot hold the difference; without a rank in the request also if the one needed is too large.
    """
    base = StoredModel(request.base.checkpoint)
    model = base.new_model(torch.device("cpu"))
    updates = []
    for path, matrix, other in _changed_matrices(request, base, on_progress):
        module = model.get_submodule(path)
        if not isinstance(module, nn.Linear | Conv1D):
            raise _not_an_adapter(request, f"{path}, a {type(module).__name__}")
        updates.append(_update(request, path, matrix, other, is_turned=isinstance(module, Conv1D)))
    found = _summary(request, updates)
    _write(request, model, updates, rank=found.rank, is_decoder=Readout.of(base.config) is Readout.LAST_TOKEN)
    return found


def _changed_matrices(
    request: Extraction, base: StoredModel, on_progress: OnProgress
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the path of each changed module with its weights in model and base; refuse any other change."""
    finetune = StoredModel(request.finetune.checkpoint)
    ours, theirs = by_common_name(finetune.origins, base.origins)
    for name, base_name in theirs.items():
        if name not in ours or _is_identical(finetune.origins[ours[name]], request):
            continue
        matrix, other = finetune.load(ours[name]), base.load(base_name)
        if matrix.shape != other.shape or not _is_unchanged(matrix, other):
            if matrix.shape != other.shape or not is_adaptable(base_name, tuple(matrix.shape)):
                raise _not_an_adapter(request, base_name)
            yield base_name.removesuffix(".weight"), matrix, other
        for stored, origin in ((finetune, finetune.origins[ours[name]]), (base, base.origins[base_name])):
            stored.files.release(origin.stored)
            on_progress(base_name, origin.nbytes)


def _is_identical(origin: Origin, request: Extraction) -> bool:
    return all(stored.name in request.finetune.identical for stored in origin.stored)


def _is_unchanged(tensor: Tensor, base: Tensor) -> bool:
    """Return True if a tensor is its base's, rounded to any dtype."""
    rows = max(1, _CHUNK_BYTES // (4 * max(1, base[:1].numel())))
    pieces = zip(tensor.split(rows), base.split(rows), strict=True) if tensor.ndim else [(tensor, base)]
    return all(is_rounded(ours.float().numpy(), theirs.float().numpy()) for ours, theirs in pieces)


def _update(request: Extraction, module: str, matrix: Tensor, base: Tensor, *, is_turned: bool) -> _Update:
    if is_turned:
        matrix, base = matrix.T, base.T
    difference = MatrixDifference.of(matrix.float().numpy(), base.float().numpy())
    values = torch.from_numpy(difference.values).to(Compute.resolve("float32", request.base.device).device)
    energy = difference.energy
    if not math.isfinite(energy):
        raise _not_an_adapter(request, f"{module}, which is not finite")
    left_vectors, strengths, right_vectors = _leading(request, module, difference, values)
    scale = strengths.sqrt()
    up, down = (left_vectors * scale).to(matrix.dtype), (right_vectors * scale).T.to(matrix.dtype)
    missed = values.addmm(up.float(), down.float(), alpha=-1)
    left = float(torch.linalg.vector_norm(missed, dtype=torch.float64)) ** 2
    return _Update(module, up.cpu(), down.cpu(), energy, difference.rounding, left)


def _leading(
    request: Extraction, module: str, difference: MatrixDifference, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the singular vectors and values that the adapter keeps."""
    most = largest_rank(tuple(values.shape))
    count = min(request.rank or _FIRST_TRY, min(values.shape) if request.rank else most)
    while True:
        torch.manual_seed(0)
        columns = min(count + _EXTRA_COLUMNS, *values.shape)
        left, strengths, right = torch.svd_lowrank(values, q=columns, niter=_ITERATIONS)
        rank = request.rank or difference.smallest_rank(strengths[:count].cpu().numpy())
        if rank is not None:
            return left[:, :rank], strengths[:rank], right[:, :rank]
        if count == most:
            needed = difference.smallest_rank(singular_values(difference.values))
            raise UnsupportedCheckpoint(
                f"The difference of {request.finetune.checkpoint} from its base is not of low rank: {module} needs "
                f"rank {needed} of {min(values.shape)} for an error of {TOLERANCE:.0%} beyond rounding; adapters are "
                f"worth it up to rank {most}",
                hint=f"{_AS_FULL} {_ANY_RANK}",
            )
        count = min(count * _NEXT_TRY, most)


def _summary(request: Extraction, updates: list[_Update]) -> LowRank:
    """Return what the adapter holds; refuse one that is empty, or that nobody asked for and that is not worth it."""
    where = request.finetune.checkpoint
    if not updates:
        raise UnsupportedCheckpoint(f"{where} has the weights of its base", hint="Serve the base.")
    energy, rounding, left = (sum(getattr(one, name) for one in updates) for name in ("energy", "rounding", "left"))
    if request.rank is None and not is_clear(energy, rounding):
        raise UnsupportedCheckpoint(
            f"{where} differs from its base by little more than rounding, which hides the rank of the difference",
            hint=_ANY_RANK,
        )
    rank = max(one.up.shape[1] for one in updates)
    found = LowRank(
        rank=rank,
        adapter_bytes=sum(rank * (len(one.up) + one.down.shape[1]) * one.up.itemsize for one in updates),
        checkpoint_bytes=sum(tensor.end - tensor.start for tensor in where.tensors().values()),
        error=math.sqrt(left / energy),
        rounding=math.sqrt(rounding / energy),
        sampled=len(updates),
        matrices=len(updates),
    )
    if request.rank is None and not found.is_worth_it:
        raise UnsupportedCheckpoint(
            f"An adapter of {where} has rank {rank} and {found.adapter_bytes / found.checkpoint_bytes:.0%} of its "
            f"size; adapters are worth it up to {LARGEST_SHARE:.0%}",
            hint=f"{_AS_FULL} {_ANY_RANK}",
        )
    return found


def _write(request: Extraction, model: nn.Module, updates: list[_Update], *, rank: int, is_decoder: bool) -> None:
    """Write config and tensors. Every module has the same rank, padded with zeros: servers want one."""
    tensors = {}
    for one in updates:
        missing = rank - one.up.shape[1]
        tensors[f"base_model.model.{one.module}.lora_A.weight"] = nn.functional.pad(one.down, (0, 0, 0, missing))
        tensors[f"base_model.model.{one.module}.lora_B.weight"] = nn.functional.pad(one.up, (0, missing))
    paths = [one.module for one in updates]
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=_targets(model, paths),
        task_type="CAUSAL_LM" if is_decoder else None,
        base_model_name_or_path=request.base_name,
        fan_in_fan_out=isinstance(model.get_submodule(paths[0]), Conv1D),
        inference_mode=True,
    )
    config.save_pretrained(str(request.folder))
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, request.folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _targets(model: nn.Module, paths: list[str]) -> list[str]:
    """Return the modules' last names where these name no other module, as people write it, else their full names."""
    last_names = {path.rpartition(".")[2] for path in paths}
    named = [path for path, _ in model.named_modules() if path.rpartition(".")[2] in last_names]
    return sorted(last_names if set(named) == set(paths) else paths)


def _not_an_adapter(request: Extraction, changed: str) -> UnsupportedCheckpoint:
    return UnsupportedCheckpoint(
        f"{request.finetune.checkpoint} cannot be served as an adapter: it changes {changed}",
        hint=f"Adapters change linear layers of numbered blocks. {_AS_FULL}",
    )
