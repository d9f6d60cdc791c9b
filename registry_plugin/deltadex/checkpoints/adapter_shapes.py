"""Modules and shapes that an adapter requires of its base, derived from its tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deltadex.checkpoints.tensors import StoredTensor

#: Tensor names of a module's adapter, for every supported peft type.
_PART = re.compile(
    r"^(?P<module>.+)\.(?P<part>lora_(A|B|E|embedding_A|embedding_B|magnitude_vector)|hada_(w[12]_[ab]|t[12])"
    r"|lokr_(w[12](_[ab])?|t2)|ia3_l|oft_R|vera_lambda_[bd]|ln_tuning_layers|trainable_tokens_delta)"
    r"(?P<own>\.(weight|bias))?$"
)
_COPIES = re.compile(r"\.(modules_to_save|original_module)\.weight$")
#: peft's wrappers, which follow a module's path; two adapters of one module lie inside each other.
_WRAPPER = re.compile(r"\.(token_adapter|base_layer|original_module)\b.*$")
#: Tensors that belong to no module: shared by all modules of an adapter, or prefixed to the text.
_WITHOUT_MODULE = ("base_model.vera_A", "base_model.vera_B", "prompt_embeddings")

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Update:
    """One parameter of the base that an adapter changes or replaces.

    Attributes
    ----------
    name
        Parameter name in the adapter, with `.weight` for a module.
    shape
        Required shape, with `None` for an unknown axis; empty if the whole shape is unknown.
    replacement
        Copy of the whole parameter in the adapter, if it has one.
    """

    name: str
    shape: Shape
    replacement: StoredTensor | None = None


def module_of(name: str) -> str:
    """Return the path of the module that an adapter's tensor changes or replaces, as the adapter names it."""
    part = _PART.match(name)
    return _WRAPPER.sub("", part["module"] if part else re.sub(r"\.(weight|bias)$", "", name))


def updates(tensors: Mapping[str, StoredTensor]) -> Iterator[Update]:
    """Yield the parameters of the base that an adapter changes; none for a prompt adapter."""
    modules: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        part = _PART.match(name)
        if part:
            module = part["module"].removesuffix(".token_adapter")
            own = part["own"] if part["part"] == "ln_tuning_layers" else ""
            modules.setdefault(f"{module}{own or '.weight'}", {})[part["part"]] = tensor
        elif name not in _WITHOUT_MODULE and not _COPIES.search(name):
            yield Update(name, tensor.shape, tensor)
    for name, parts in modules.items():
        yield Update(name, _shape({part: tensor.shape for part, tensor in parts.items()}))


def fits(update: Shape, parameter: tuple[int, ...]) -> bool:
    """Return True if a parameter of the base has the shape that an adapter requires.

    Transposed shapes match too, because GPT-2 stores its matrices transposed. Stacked experts are compared one by one.
    """
    if len(update) == 2 and len(parameter) == 3:
        parameter = parameter[1:]
    if not update or len(parameter) > 3:
        return True
    orientations = (update, update[::-1])
    return any(len(shape) == len(parameter) and all(map(_matches, shape, parameter)) for shape in orientations)


def _matches(required: int | None, length: int) -> bool:
    return required in (None, length)


def _shape(parts: Mapping[str, tuple[int, ...]]) -> Shape:
    """Return (outputs, inputs) of the matrix that these parts change; empty if unknown, as for convolutions."""
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
        return (None, _oft_inputs(*parts["oft_R"]))
    if "vera_lambda_b" in parts:
        return (parts["vera_lambda_b"][0], None)
    if "trainable_tokens_delta" in parts:
        return (None, parts["trainable_tokens_delta"][-1])
    return parts.get("ln_tuning_layers", ())


def _kronecker(parts: Mapping[str, tuple[int, ...]]) -> Shape:
    outputs, inputs = 1, 1
    for factor in ("lokr_w1", "lokr_w2"):
        first, last = parts.get(factor, parts.get(f"{factor}_a")), parts.get(factor, parts.get(f"{factor}_b"))
        if first is None or last is None:
            return ()
        outputs, inputs = outputs * first[0], inputs * last[-1]
    return (outputs, inputs)


def _oft_inputs(blocks: int, parameters: int) -> int | None:
    """Return the inputs that OFT rotates (`b (b - 1) / 2` parameters per block of b); None for one shared block."""
    return None if blocks == 1 else blocks * (1 + math.isqrt(1 + 8 * parameters)) // 2
