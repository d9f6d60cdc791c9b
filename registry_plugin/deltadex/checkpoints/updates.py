"""What an adapter's tensors say about the base that it needs: which modules, and of what shape."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deltadex.checkpoints.tensors import StoredTensor

#: A part of a module's adapter, as every type of peft names them.
_PART = re.compile(
    r"^(?P<module>.+)\.(?P<part>lora_(A|B|E|embedding_A|embedding_B|magnitude_vector)|hada_(w[12]_[ab]|t[12])"
    r"|lokr_(w[12](_[ab])?|t2)|ia3_l|oft_R|vera_lambda_[bd]|ln_tuning_layers|trainable_tokens_delta)"
    r"(?P<own>\.(weight|bias))?$"
)
_COPIES = re.compile(r"\.(modules_to_save|original_module)\.weight$")
#: Shared by all modules of an adapter, or put before the text.
_MODULELESS = ("base_model.vera_A", "base_model.vera_B", "prompt_embeddings")

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Update:
    """One parameter of the base that an adapter changes or replaces.

    Attributes
    ----------
    name
        The parameter as the adapter names it: with `.weight` for a module.
    shape
        What the adapter says about it, `None` for an axis it says nothing about; empty where it says nothing at all.
    replacement
        The adapter's own copy of the whole parameter, where it has one.
    """

    name: str
    shape: Shape
    replacement: StoredTensor | None = None


def updates(tensors: Mapping[str, StoredTensor]) -> Iterator[Update]:
    """Yield what an adapter changes; nothing for prompts."""
    modules: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        part = _PART.match(name)
        if part:
            module = part["module"].removesuffix(".token_adapter")
            own = part["own"] if part["part"] == "ln_tuning_layers" else ""
            modules.setdefault(f"{module}{own or '.weight'}", {})[part["part"]] = tensor
        elif name not in _MODULELESS and not _COPIES.search(name):
            yield Update(name, tensor.shape, tensor)
    for name, parts in modules.items():
        yield Update(name, _shape({part: tensor.shape for part, tensor in parts.items()}))


def fits(update: Shape, parameter: tuple[int, ...]) -> bool:
    """Tell whether a parameter of the base has the shape an adapter needs.

    Either way round, as GPT-2 stores its matrices transposed; of stacked experts, the matrices of each.
    """
    if len(update) == 2 and len(parameter) == 3:
        parameter = parameter[1:]
    if not update or len(parameter) > 3:
        return True
    turned = (update, update[::-1])
    return any(len(way) == len(parameter) and all(map(_agrees, way, parameter)) for way in turned)


def _agrees(needed: int | None, found: int) -> bool:
    return needed in (None, found)


def _shape(parts: Mapping[str, tuple[int, ...]]) -> Shape:
    """Return (outputs, inputs) of the matrix that these parts change; empty where they don't tell, as convolutions."""
    if parts.keys() & {"hada_t1", "lokr_t2"} or any(len(shape) > 2 for shape in parts.values()):
        return ()
    if {"lora_A", "lora_B"} <= parts.keys():
        return (parts["lora_B"][0], parts["lora_A"][-1])
    if {"lora_embedding_A", "lora_embedding_B"} <= parts.keys():
        return (parts["lora_embedding_A"][-1], parts["lora_embedding_B"][0])
    if {"hada_w1_a", "hada_w1_b"} <= parts.keys():
        return (parts["hada_w1_a"][0], parts["hada_w1_b"][-1])
    if any(part.startswith("lokr_") for part in parts):
        return _kronecker(parts)
    if "ia3_l" in parts:
        return tuple(None if length == 1 else length for length in parts["ia3_l"])
    if "oft_R" in parts:
        return (None, _rotated(*parts["oft_R"]))
    if "vera_lambda_b" in parts:
        return (parts["vera_lambda_b"][0], None)
    if "trainable_tokens_delta" in parts:
        return (None, parts["trainable_tokens_delta"][-1])
    return parts.get("ln_tuning_layers", ())


def _kronecker(parts: Mapping[str, tuple[int, ...]]) -> Shape:
    outs, ins = 1, 1
    for factor in ("lokr_w1", "lokr_w2"):
        first, last = parts.get(factor, parts.get(f"{factor}_a")), parts.get(factor, parts.get(f"{factor}_b"))
        if first is None or last is None:
            return ()
        outs, ins = outs * first[0], ins * last[-1]
    return (outs, ins)


def _rotated(blocks: int, parameters: int) -> int | None:
    """Return the inputs that OFT rotates: `b (b - 1) / 2` parameters turn a block of b; one block may be shared."""
    return None if blocks == 1 else blocks * (1 + math.isqrt(1 + 8 * parameters)) // 2
