"""Merge of LoRA adapters of one base into one adapter, by peft. The base's weights are not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor

from deltadex.engine.adapter_requests import AdapterMerge, MergedAdapter
from deltadex.engine.failures import first_line, is_out_of_memory
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.peft_adapters import empty_slots
from deltadex.engine.weights.several_adapters import attach, names_of
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.engine.weights.units import slots_of
from deltadex.errors import UnsupportedCheckpoint

_MERGED = "merged"
#: Rows and columns of a module's update at which signs are compared, and the share of the larger entries that count:
#: TIES-Merging (arXiv 2306.01708) keeps a fifth too.
_SAMPLED, _LARGER = 128, 0.2


def merge_adapters(request: AdapterMerge) -> MergedAdapter:
    """Write the merge of LoRA adapters into the request's folder, as peft saves it.

    Raises
    ------
    UnsupportedCheckpoint
        An adapter is not a plain LoRA, or the method cannot merge these.
    BaseMismatch
        An adapter does not fit the base.
    """
    compute = Compute(torch.float32, torch.device("cpu"))
    model = StoredModel(request.base.checkpoint).new_model(compute.device)
    empty_slots(slots_of(model), compute)
    peft = attach(model, request.adapters, compute=compute)
    names = names_of(request.adapters)
    conflict = _conflict(peft, names)
    # peft copies the first parent's config; its update is scaled once already, and by the root of a rank twice.
    peft.peft_config[names[0]].use_rslora = False
    _add_merged(peft, names, request)
    config = peft.peft_config[_MERGED]
    config.base_model_name_or_path = request.base_name
    _round(peft, _dtype(request))
    peft.save_pretrained(str(request.folder), selected_adapters=[_MERGED], save_embedding_layers=False)
    _lift(request)
    file = request.folder / "adapter_model.safetensors"
    return MergedAdapter(int(config.r), file.stat().st_size, conflict)


def _add_merged(peft: PeftModel, names: Sequence[str], request: AdapterMerge) -> None:
    """Add the merged adapter. `svd` is that of the sum's factors: equal to peft's, which takes it of the product."""
    is_svd, torch_state = request.method == "svd", torch.random.get_rng_state()
    largest = max(peft.peft_config[name].r for name in names)
    torch.manual_seed(request.seed)
    try:
        peft.add_weighted_adapter(
            list(names),
            list(request.weights),
            _MERGED,
            combination_type="cat" if is_svd else request.method,
            svd_rank=request.rank,
            svd_full_matrices=False,
            density=request.density,
        )
    except Exception as error:  # the library's own checks, and whatever an odd adapter leads to
        if is_out_of_memory(error):
            raise
        raise UnsupportedCheckpoint(
            f"peft cannot merge these adapters by {request.method}: {first_line(error)}",
            hint="Use --method cat, which takes any LoRAs of one base.",
        ) from error
    finally:
        torch.random.set_rng_state(torch_state)
    if is_svd:
        _compress(peft, min(request.rank or largest, peft.peft_config[_MERGED].r))


def _compress(peft: PeftModel, rank: int) -> None:
    """Replace the factors of the merged adapter in place by those of its best approximation of a rank."""
    for layer in _layers(peft):
        for down, up in _factors(layer, _MERGED):
            left, upper = torch.linalg.qr(up.data)
            right, lower = torch.linalg.qr(down.data.T)
            first, values, second = torch.linalg.svd(upper @ lower.T, full_matrices=False)
            up.data = (left @ first * values)[:, :rank].contiguous()
            down.data = (second @ right.T)[:rank].contiguous()
    peft.peft_config[_MERGED].r = peft.peft_config[_MERGED].lora_alpha = rank


def _conflict(peft: PeftModel, names: Sequence[str]) -> float:
    """Return the share of larger entries at which the signs of two updates differ, mean over modules and pairs.

    An entry counts if it is among the larger ones of both updates. Unrelated updates have a share of a half.
    """
    generator, shares = torch.Generator().manual_seed(0), []
    for layer in _layers(peft):
        updates = [_sampled(layer, name, generator.manual_seed(0)) for name in names if name in layer.lora_A]
        for one, other in combinations(updates, 2):
            both = _is_large(one) & _is_large(other)
            if both.any():
                shares.append(float((one.sign() != other.sign())[both].float().mean()))
    return sum(shares) / len(shares) if shares else 0.0


def _sampled(layer: LoraLayer, name: str, generator: torch.Generator) -> Tensor:
    """Return an update at some rows and columns of a module's matrix."""
    up, down = layer.lora_B[name].weight, layer.lora_A[name].weight
    rows = torch.randperm(len(up), generator=generator)[:_SAMPLED]
    columns = torch.randperm(down.shape[1], generator=generator)[:_SAMPLED]
    update: Tensor = layer.scaling[name] * (up[rows].flatten(1) @ down[:, columns].flatten(1))
    return update


def _is_large(update: Tensor) -> Tensor:
    sizes = update.abs()
    return sizes > sizes.quantile(1 - _LARGER)


def _layers(peft: PeftModel) -> Iterator[LoraLayer]:
    return (module for module in peft.modules() if isinstance(module, LoraLayer))


def _factors(layer: LoraLayer, name: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield both factors of a layer's adapter."""
    if name in layer.lora_A:
        yield layer.lora_A[name].weight, layer.lora_B[name].weight
    elif name in layer.lora_embedding_A:
        yield layer.lora_embedding_A[name], layer.lora_embedding_B[name]


def _dtype(request: AdapterMerge) -> torch.dtype:
    """Return the widest dtype of the parents' files."""
    kinds = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    found = {tensor.dtype for adapter in request.adapters for tensor in adapter.tensors().values()}
    dtypes = {kinds.get(one, torch.float32) for one in found}
    return dtypes.pop() if len(dtypes) == 1 else torch.float32


def _round(peft: PeftModel, dtype: torch.dtype) -> None:
    for layer in _layers(peft):
        for factor in (one for pair in _factors(layer, _MERGED) for one in pair):
            factor.data = factor.data.to(dtype).contiguous()


def _lift(request: AdapterMerge) -> None:
    """Move the files out of the folder that peft gives an adapter with a name."""
    inner = request.folder / _MERGED
    for file in inner.iterdir():
        file.rename(request.folder / file.name)
    inner.rmdir()
    (request.folder / "README.md").unlink(missing_ok=True)  # an empty template
