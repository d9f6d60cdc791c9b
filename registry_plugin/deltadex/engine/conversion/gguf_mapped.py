"""GGUF files of the architectures that transformers reads tensor by tensor (Qwen3.5, LFM2), by its own conversions."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key
from transformers.integrations.gguf.dequant import GGML_BLOCK
from transformers.integrations.gguf.reader import GgufHeader, LazyGgufTensor, load_gguf_state_dict
from transformers.integrations.gguf.utils import (
    add_gguf_load_ops,
    get_gguf_conversion_mapping,
    get_gguf_plan,
)

from deltadex.engine.conversion.plain_tensor import PlainTensor

#: A converter, and the tensors of the file that it makes a parameter from, each with the pattern that it matched.
_Sources = tuple[WeightConverter, list[tuple[str, str]]]


def plain_tensors_of(file: Path, model: PreTrainedModel) -> list[PlainTensor]:
    """Return the parameters of a model as its GGUF file gives them, in float32."""
    header = GgufHeader.from_file(str(file))
    mapping = get_gguf_conversion_mapping(header.architecture, model.config)
    blocks, _, _ = get_gguf_plan(header, mapping)
    conversions = add_gguf_load_ops(mapping, blocks, header, torch.float32)
    renamings = [entry for entry in conversions if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in conversions if isinstance(entry, WeightConverter)]
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    stored, state = load_gguf_state_dict(header), model.state_dict()
    sources: dict[str, _Sources] = {}
    for key in sorted(stored, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, state)
        if name in state and pattern:
            sources.setdefault(name, (by_pattern[pattern], []))[1].append((pattern, key))
    return [
        PlainTensor(
            name,
            tuple(state[name].shape),
            torch.float32,
            partial(_values, name, own, stored, model),
            _bits(blocks[name]) if name in blocks else None,
        )
        for name, own in sources.items()
    ]


def _values(name: str, sources: _Sources, stored: dict[str, LazyGgufTensor], model: PreTrainedModel) -> torch.Tensor:
    converter = copy.deepcopy(sources[0])
    for pattern, key in sources[1]:
        converter.add_tensor(name, key, pattern, partial(stored[key].__getitem__, ...))
    value = converter.convert(name, model=model, config=model.config)[name]
    values: torch.Tensor = value[0] if isinstance(value, list) else value
    return values


def _bits(ggml_type: int) -> float:
    elements, size = GGML_BLOCK[ggml_type]
    return float(8 * size / elements)
