"""A model of transformers whose weights stay in their files until a part of it computes.

The module tree is the library's own; which tensor of which file goes where, and how it is converted on the way (experts
that are stacked, blocks that are dequantised), is the library's own mapping too. Only the moment of loading is ours.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from accelerate import init_empty_weights
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, GenerationConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key
from transformers.initialization import no_init_weights
from transformers.quantizers.auto import get_hf_quantizer

from deltadex.activations.failures import first_line
from deltadex.activations.mapped import MappedFiles
from deltadex.checkpoints.layout import LocalCheckpoint
from deltadex.checkpoints.tensors import StoredTensor
from deltadex.errors import BrokenCheckpoint, UnsupportedCheckpoint

#: Fields of configs that change no hidden state of a prompt; whatever else differs is taken to change it.
_SAYS_NOTHING = {
    "_name_or_path", "architectures", "bos_token_id", "dtype", "eos_token_id", "id2label", "label2id", "problem_type",
    "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache", "vocab_size",
}  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """Where the tensor of one parameter comes from: one stored tensor as it is, or several through a conversion."""

    stored: tuple[StoredTensor, ...]
    patterns: tuple[str, ...] = ()
    converter: WeightConverter | None = None
    first_target: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes in the files."""
        return sum(tensor.end - tensor.start for tensor in self.stored)


class StoredModel:
    """A checkpoint's module tree, and where each of its tensors comes from.

    Attributes
    ----------
    origins
        Parameter or buffer name → where it comes from.
    missing
        Parameters that no file holds: fine as long as none of them computes.

    Raises
    ------
    UnsupportedCheckpoint
        transformers knows no such model, or it reads no text.
    BrokenCheckpoint
        Tensors do not fit the config.
    """

    def __init__(self, checkpoint: LocalCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.files = MappedFiles()
        self._model = _build(checkpoint)
        self._find_origins(_conversions(self._model, checkpoint))
        self._check_shapes()
        self._tie()
        state = self._model.state_dict()
        self.missing = frozenset(state) - self.origins.keys()
        buffers = {name for name, buffer in self._model.named_buffers() if buffer.is_floating_point()}
        self.check_present(self.missing & buffers)
        if any(map(_quantization, (self.config, self.config.get_text_config()))):
            self.check_present(self._without_scales())

    @property
    def config(self) -> Any:
        """The model's config, as transformers reads it."""
        return self._model.config

    @property
    def head(self) -> str | None:
        """Name of the matrix that makes logits of the last hidden state; None where no file holds one."""
        head = self._model.get_output_embeddings()
        names = [f"{path}.weight" for path, module in self._model.named_modules() if module is head]
        return next((name for name in names if name in self.origins), None)

    def computes_like(self, other: StoredModel) -> bool:
        """Tell whether equal weights would give equal states in both: nothing in the configs says otherwise."""
        ours, theirs = (_computation(model.config.to_dict()) for model in (self, other))
        return ours == theirs

    def new_model(self, device: torch.device) -> PreTrainedModel:
        """Return a module tree of its own, with parameters on the meta device and every buffer in place."""
        model = copy.deepcopy(self._model)
        for name, buffer in model.named_buffers():
            if name in self.origins:
                buffer.copy_(self.load(name))
        for module in model.modules():
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.to(device)
        return model.eval()

    def load(self, name: str) -> torch.Tensor:
        """Return a tensor in the dtype of the file: a view of it, or a copy where it is converted."""
        origin = self.origins[name]
        if origin.converter is None:
            return self.files.tensor(origin.stored[0])
        return self._convert(origin, [self.files.tensor(stored) for stored in origin.stored])[name]

    def _find_origins(self, mapping: Sequence[Any]) -> None:
        renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
        state, prefix = self._model.state_dict(), self._model.base_model_prefix
        found: dict[str, list[tuple[str, StoredTensor]]] = {}
        by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
        tensors = self.checkpoint.tensors()
        for key in sorted(tensors, key=dot_natural_key):
            name, pattern = rename_source_key(key, renamings, converters, prefix, state)
            if name not in state and key in state:
                name, pattern = rename_source_key(key, [], [], prefix, state)
            if name in state:
                found.setdefault(name, []).append((pattern or "", tensors[key]))
        self.origins: dict[str, Origin] = {}
        for name, sources in found.items():
            patterns, stored = zip(*sources, strict=True)
            if patterns[0]:
                self._note_converted(Origin(stored, patterns, by_pattern[patterns[0]], name))
            else:
                self.origins[name] = Origin(stored)

    def _note_converted(self, origin: Origin) -> None:
        """Learn which parameters a conversion yields by running it on tensors without content."""
        self.origins[origin.first_target] = origin
        empty = [torch.empty(t.shape, dtype=self.files.tensor(t).dtype, device="meta") for t in origin.stored]
        try:
            results = self._convert(origin, empty)
        except (RuntimeError, ValueError, KeyError, IndexError) as error:
            raise _does_not_fit(self.checkpoint, [origin.first_target]) from error
        state = self._model.state_dict()
        wrong = sorted(name for name, value in results.items() if name in state and value.shape != state[name].shape)
        if wrong:
            raise _does_not_fit(self.checkpoint, wrong)
        self.origins |= dict.fromkeys(results, origin)

    def _convert(self, origin: Origin, tensors: Sequence[torch.Tensor]) -> Mapping[str, torch.Tensor]:
        converter = copy.deepcopy(origin.converter)
        assert converter is not None  # noqa: S101
        for stored, pattern, tensor in zip(origin.stored, origin.patterns, tensors, strict=True):
            converter.add_tensor(origin.first_target, stored.name, pattern, lambda tensor=tensor: tensor)
        results = converter.convert(origin.first_target, model=self._model, config=self._model.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in results.items()}

    def _check_shapes(self) -> None:
        state = self._model.state_dict()
        plain = {name: origin.stored[0].shape for name, origin in self.origins.items() if origin.converter is None}
        wrong = sorted(name for name, shape in plain.items() if shape != tuple(state[name].shape))
        if wrong:
            raise _does_not_fit(self.checkpoint, wrong)

    def check_present(self, names: Iterable[str]) -> None:
        """Raise BrokenCheckpoint where one of these tensors is in no file, or not whole."""
        lacking = sorted(set(names))
        if lacking:
            raise BrokenCheckpoint(
                f"{len(lacking)} tensors of {self.checkpoint.folder} are missing, such as {lacking[0]}",
                hint="Save the model with save_pretrained and log it again.",
            )

    def _without_scales(self) -> Iterator[str]:
        """Yield the scales that blocks of 8 bits lack: without them the blocks are plausible numbers, and wrong."""
        for name, origin in self.origins.items():
            if not any("scale" in stored.name for stored in origin.stored):
                yield from (f"{name}_scale_inv" for stored in origin.stored if stored.dtype.startswith("F8_"))

    def _tie(self) -> None:
        """Give tied parameters the one tensor that is stored for them."""
        for one, other in getattr(self._model, "all_tied_weights_keys", {}).items():
            for name, twin in ((one, other), (other, one)):
                if name not in self.origins and twin in self.origins:
                    self.origins[name] = self.origins[twin]


class _EmptyOnMeta(TorchFunctionMode):
    """Has `torch.empty` take no memory, not even for a moment: the largest matrix may be more than there is."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if function is torch.empty and named.get("device") is None:
            named["device"] = "meta"
        return function(*args, **named)


def _build(checkpoint: LocalCheckpoint) -> PreTrainedModel:
    try:
        config = AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)
        with _EmptyOnMeta(), init_empty_weights(include_buffers=False), no_init_weights():
            model = _model_class(config)._from_config(config, dtype=torch.float32)
        if (checkpoint.folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    except Exception as error:  # a stranger's config can break a library anywhere
        raise UnsupportedCheckpoint(
            f"transformers cannot build {checkpoint.folder}: {first_line(error)}",
            hint="Deltadex loads architectures that transformers knows, from safetensors, without code of their own.",
        ) from error
    if model.main_input_name != "input_ids":
        raise UnsupportedCheckpoint(
            f"{checkpoint.folder} reads {model.main_input_name}, not text", hint="Register language models."
        )
    return model


def _conversions(model: PreTrainedModel, checkpoint: LocalCheckpoint) -> list[Any]:
    """Return what the library does to names and tensors on their way from a file into this model."""
    section = next((part for part in (model.config, model.config.get_text_config()) if _quantization(part)), None)
    if section is None:
        return list(get_model_conversion_mapping(model))
    section.quantization_config = {**_quantization(section), "dequantize": True}
    try:
        quantizer, _, _ = get_hf_quantizer(model.config, None, "cpu", weights_only=True, user_agent={})
        quantizer.preprocess_model(model, dtype=torch.float32)
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise UnsupportedCheckpoint(
            f"transformers cannot undo the quantization of {checkpoint.folder}: {first_line(error)}",
            hint="Register the model before it was quantized.",
        ) from error
    return list(get_model_conversion_mapping(model, None, quantizer))


def _quantization(config: Any) -> Any:
    return getattr(config, "quantization_config", None)


def _model_class(config: Any) -> Any:
    """Return the class a model was saved from, so that its adapters find the names they were trained with."""
    named = getattr(transformers, (config.architectures or [""])[0], None)
    if isinstance(named, type) and issubclass(named, PreTrainedModel):
        return named
    return transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]


def _computation(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _computation(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in _SAYS_NOTHING
    }


def _does_not_fit(checkpoint: LocalCheckpoint, names: Sequence[str]) -> BrokenCheckpoint:
    return BrokenCheckpoint(
        f"{len(names)} tensors of {checkpoint.folder} do not fit its config, such as {names[0]}",
        hint="Save the model with save_pretrained and log it again.",
    )
