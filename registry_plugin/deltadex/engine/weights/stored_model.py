"""A transformers model whose weights stay in their files until they are needed.

The module tree is transformers' own, and so is the mapping from stored tensors to parameters with its conversions
(stacked experts, dequantized blocks). Deltadex changes only the time of loading.
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

from deltadex.checkpoints.acting_config import acting
from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.checkpoints.quantization import packed_weights
from deltadex.checkpoints.tensors import StoredTensor
from deltadex.engine.failures import first_line
from deltadex.engine.weights.mapped import MappedFiles
from deltadex.errors import BrokenCheckpoint, NoLanguageModel, UnsupportedCheckpoint


@dataclass(frozen=True)
class Origin:
    """The source of one parameter: a stored tensor as it is, several through a conversion, or the library's formula.

    Attributes
    ----------
    computed
        The value of a parameter that no file holds because the library computes it, such as sinusoidal positions.
    """

    stored: tuple[StoredTensor, ...]
    patterns: tuple[str, ...] = ()
    converter: WeightConverter | None = None
    first_target: str = ""
    computed: torch.Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in the files."""
        return sum(tensor.end - tensor.start for tensor in self.stored)


class StoredModel:
    """A checkpoint's module tree, and the source of each of its tensors.

    Attributes
    ----------
    origins
        Parameter or buffer name → its source.
    missing
        Parameters that no file contains; an error is raised only when one of them is needed.

    Raises
    ------
    UnsupportedCheckpoint
        transformers does not support the model, or its input is not text.
    BrokenCheckpoint
        Tensors do not fit the config.
    """

    def __init__(self, checkpoint: LocalCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.files = MappedFiles()
        tensors = checkpoint.tensors()
        self._model = empty_model(checkpoint, is_quantized=bool(packed_weights(tensors)))
        self._find_origins(tensors, _conversions(self._model, checkpoint))
        self._check_shapes()
        self._tie()
        self._compute()
        self.missing = self.names - self.origins.keys()
        buffers = {name for name, buffer in self._model.named_buffers() if buffer.is_floating_point()}
        self.refuse_missing(self.missing & buffers)
        if any(map(_quantization, (self.config, self.config.get_text_config()))):
            self.refuse_missing(self._missing_scales())

    @property
    def config(self) -> Any:
        """The model's config, as read by transformers."""
        return self._model.config

    @property
    def names(self) -> frozenset[str]:
        """Names of all parameters and buffers, in a file or not."""
        return frozenset(self._model.state_dict())

    @property
    def head(self) -> str | None:
        """Name of the output head's matrix; None where no file contains one."""
        head = self._model.get_output_embeddings()
        names = [f"{path}.weight" for path, module in self._model.named_modules() if module is head]
        return next((name for name in names if name in self.origins), None)

    def computes_like(self, other: StoredModel) -> bool:
        """Return True if equal weights would give equal states in both, judged by their configs."""
        ours, theirs = (acting(model.config.to_dict()) for model in (self, other))
        return ours == theirs

    def new_model(self, device: torch.device) -> PreTrainedModel:
        """Return a new module tree with parameters on the meta device and all buffers loaded."""
        model = copy.deepcopy(self._model)
        for path, module in model.named_modules():
            for attribute, buffer in module._buffers.items():
                name = f"{path}.{attribute}".lstrip(".")
                if buffer is not None and name in self.origins:
                    buffer = self.load(name).to(buffer.dtype, copy=True)
                elif buffer is not None and buffer.is_meta:
                    self.refuse_missing([name])
                module._buffers[attribute] = None if buffer is None else buffer.to(device)
        return model.eval()

    def load(self, name: str) -> torch.Tensor:
        """Return a tensor in the dtype of the file: a view, or a copy where it is converted."""
        origin = self.origins[name]
        if origin.computed is not None:
            return origin.computed
        if origin.converter is None:
            return self.files.tensor(origin.stored[0])
        return self._convert(origin, [self.files.tensor(stored) for stored in origin.stored])[name]

    def _find_origins(self, tensors: Mapping[str, StoredTensor], mapping: Sequence[Any]) -> None:
        renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
        state, prefix = self._model.state_dict(), self._model.base_model_prefix
        sources: dict[str, list[tuple[str, StoredTensor]]] = {}
        by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
        for key in sorted(tensors, key=dot_natural_key):
            name, pattern = rename_source_key(key, renamings, converters, prefix, state)
            if name not in state and key in state:
                name, pattern = rename_source_key(key, [], [], prefix, state)
            if name in state:
                sources.setdefault(name, []).append((pattern or "", tensors[key]))
        self.origins: dict[str, Origin] = {}
        for name, pairs in sources.items():
            patterns, stored = zip(*pairs, strict=True)
            if patterns[0]:
                self._add_converted(Origin(stored, patterns, by_pattern[patterns[0]], name))
            else:
                self.origins[name] = Origin(stored)

    def _add_converted(self, origin: Origin) -> None:
        """Find the parameters that a conversion yields by running it on meta tensors."""
        self.origins[origin.first_target] = origin
        empty = [torch.empty(t.shape, dtype=self.files.tensor(t).dtype, device="meta") for t in origin.stored]
        try:
            results = self._convert(origin, empty)
        except (RuntimeError, ValueError, KeyError, IndexError) as error:
            raise _config_mismatch(self.checkpoint, [origin.first_target]) from error
        state = self._model.state_dict()
        shapes = {name: value.shape for name, value in results.items() if name in state}
        mismatched = sorted(name for name, shape in shapes.items() if shape != state[name].shape)
        if mismatched:
            raise _config_mismatch(self.checkpoint, mismatched)
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
        mismatched = sorted(name for name, shape in plain.items() if shape != tuple(state[name].shape))
        if mismatched:
            raise _config_mismatch(self.checkpoint, mismatched)

    def refuse_missing(self, names: Iterable[str]) -> None:
        """Raise BrokenCheckpoint if there are any names; these are tensors that no file contains completely."""
        missing = sorted(set(names))
        if missing:
            raise BrokenCheckpoint(
                f"{len(missing)} tensors of {self.checkpoint} are missing, such as {missing[0]}",
                hint="Save the model with save_pretrained and log it again.",
            )

    def _missing_scales(self) -> Iterator[str]:
        """Yield the missing scales of 8-bit blocks: without scales the blocks decode to plausible but wrong numbers."""
        for name, origin in self.origins.items():
            if not any("scale" in stored.name for stored in origin.stored):
                yield from (f"{name}_scale_inv" for stored in origin.stored if stored.dtype.startswith("F8_"))

    def _tie(self) -> None:
        """Map tied parameters to the one tensor that is stored for them."""
        for first, second in getattr(self._model, "all_tied_weights_keys", {}).items():
            for name, tied_name in ((first, second), (second, first)):
                if name not in self.origins and tied_name in self.origins:
                    self.origins[name] = self.origins[tied_name]

    def _compute(self) -> None:
        """Compute the parameters that the library never saves, because it makes them by a formula."""
        parameters = dict(self._model.named_parameters())
        for name in getattr(self._model, "_keys_to_ignore_on_save", None) or ():
            if name in self.origins or name not in parameters:
                continue
            path, _, attribute = name.rpartition(".")
            module = copy.deepcopy(self._model.get_submodule(path)).to_empty(device="cpu")
            self._model._init_weights(module)
            self.origins[name] = Origin((), computed=getattr(module, attribute).detach())


class _EmptyOnMeta(TorchFunctionMode):
    """Redirects `torch.empty` to the meta device: even for a moment, the largest matrix may exceed the memory."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        if function is torch.empty and keywords.get("device") is None:
            keywords["device"] = "meta"
        return function(*args, **keywords)


def empty_model(checkpoint: LocalCheckpoint, *, is_quantized: bool) -> PreTrainedModel:
    """Return the module tree of a checkpoint's config, with its parameters on the meta device.

    Raises
    ------
    UnsupportedCheckpoint
        transformers cannot build the model, or it does not read text.
    """
    try:
        config = AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)
        if hasattr(config, "rescale_every"):  # RWKV halves weights in place now and then, for float16's range
            config.rescale_every = 0
        if not is_quantized:  # a merge of a quantized model may keep its quantization_config
            for part in (config, config.get_text_config()):
                vars(part).pop("quantization_config", None)
        with _EmptyOnMeta(), init_empty_weights(include_buffers=False), no_init_weights():
            model = _model_class(config)._from_config(config, dtype=torch.float32)
        if (checkpoint.folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    except NoLanguageModel:
        raise
    except Exception as error:  # an untrusted config can fail anywhere in the library
        if checkpoint.read_config().get("auto_map"):
            raise UnsupportedCheckpoint(
                f"{checkpoint} needs its own Python code (auto_map), which Deltadex never runs",
                hint="Use an architecture that is built into transformers.",
            ) from error
        raise UnsupportedCheckpoint(
            f"transformers cannot build {checkpoint}: {first_line(error)}",
            hint="Deltadex loads architectures built into transformers, from safetensors, without custom code.",
        ) from error
    if model.main_input_name != "input_ids":
        raise NoLanguageModel(f"{checkpoint} reads {model.main_input_name}, not text", hint="Register language models.")
    return model


def _conversions(model: PreTrainedModel, checkpoint: LocalCheckpoint) -> list[Any]:
    """Return transformers' renamings and conversions for loading files into this model."""
    section = next((part for part in (model.config, model.config.get_text_config()) if _quantization(part)), None)
    if section is None:
        return list(get_model_conversion_mapping(model))
    section.quantization_config = {**_quantization(section), "dequantize": True}
    try:
        quantizer, _, _ = get_hf_quantizer(model.config, None, "cpu", weights_only=True, user_agent={})
        quantizer.preprocess_model(model, dtype=torch.float32)
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise UnsupportedCheckpoint(
            f"transformers cannot undo the quantization of {checkpoint}: {first_line(error)}",
            hint="Register the unquantized model.",
        ) from error
    return list(get_model_conversion_mapping(model, None, quantizer))


def _quantization(config: Any) -> Any:
    return getattr(config, "quantization_config", None)


def _model_class(config: Any) -> Any:
    """Return the class that the model was saved from, because its adapters use the parameter names of that class."""
    named = getattr(transformers, (config.architectures or [""])[0], None)
    if isinstance(named, type) and issubclass(named, PreTrainedModel) and getattr(named, "config_class", None):
        return named
    mappings = (
        transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        transformers.MODEL_FOR_MASKED_LM_MAPPING,
        transformers.MODEL_FOR_CAUSAL_LM_MAPPING,
    )
    found = next((mapping for mapping in mappings if type(config) in mapping), None)
    if found is None:
        raise NoLanguageModel(
            f"Models of the type {config.model_type} do not read text", hint="Register language models."
        )
    return found[type(config)]


def _config_mismatch(checkpoint: LocalCheckpoint, names: Sequence[str]) -> BrokenCheckpoint:
    return BrokenCheckpoint(
        f"{len(names)} tensors of {checkpoint} do not fit its config, such as {names[0]}",
        hint="Save the model with save_pretrained and log it again.",
    )
