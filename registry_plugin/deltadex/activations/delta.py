"""From two checkpoints to an embedding: what the finetune does to the base's hidden states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deltadex.activations.hidden_states import read_hidden_states
from deltadex.checkpoints.layout import Kind, LocalCheckpoint
from deltadex.domain import Embedding, FloatArray, Recipe
from deltadex.errors import BaseMismatch, BrokenCheckpoint, UnsupportedCheckpoint
from deltadex.probes import DELTA_ACTIVATION, PAPER_PROBES

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def embed(finetune: LocalCheckpoint, base: LocalCheckpoint, *, base_digest: str, weights_digest: str) -> Embedding:
    """Return the Delta Activation of `finetune` (arXiv 2509.04442, equation 1), computed in float32.

    The base is loaded anew for every finetune and never holds more than one adapter; a full finetune is loaded
    after the base is gone. Nothing but safetensors is read, nothing is downloaded, no code of a checkpoint is run.

    Raises
    ------
    CheckpointError
        A checkpoint can't be loaded, or base and finetune don't belong together.
    EmbeddingError
        The hidden states are not finite.
    """
    tokenizer = _load_tokenizer(base)
    model = _load_model(base)
    base_states = read_hidden_states(model, tokenizer, PAPER_PROBES)
    if finetune.kind is Kind.ADAPTER:
        model = _attach(model, finetune).get_base_model()
    else:
        del model  # before the next one is loaded: one model in memory at a time
        model = _load_model(finetune)
    deltas = _difference(read_hidden_states(model, tokenizer, PAPER_PROBES), base_states)
    return Embedding(
        recipe=Recipe(method=DELTA_ACTIVATION, base_digest=base_digest, dimension=deltas.shape[1]),
        probe_deltas=deltas,
        base_norm=float(np.linalg.norm(base_states, axis=1).mean()),
        weights_digest=weights_digest,
    )


def _difference(states: FloatArray, base_states: FloatArray) -> FloatArray:
    if states.shape != base_states.shape:
        raise BaseMismatch(
            f"The finetune's hidden size is {states.shape[1]}, the base's {base_states.shape[1]}",
            hint="Declare the base that the model was really trained from.",
        )
    difference: FloatArray = states - base_states
    return difference


def _load_tokenizer(base: LocalCheckpoint) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    if base.tokenizer_folder is None:
        raise BrokenCheckpoint(
            f"The base {base.folder} has no tokenizer", hint="Save its tokenizer beside its weights."
        )
    try:
        return AutoTokenizer.from_pretrained(base.tokenizer_folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unloadable(base, error) from error


def _load_model(checkpoint: LocalCheckpoint) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unloadable(checkpoint, error) from error
    # transformers would fill these with random numbers
    random = sorted(str(key) for name in ("missing_keys", "mismatched_keys") for key in loading[name])
    if random:
        raise BrokenCheckpoint(
            f"{len(random)} tensors of {checkpoint.folder} are missing or do not fit its config, such as {random[0]}",
            hint="Save the model with save_pretrained and log it again.",
        )
    return model


def _attach(model: PreTrainedModel, adapter: LocalCheckpoint) -> PeftModel:
    """Put an adapter into `model`, whose vocabulary is resized to the adapter's where that has one."""
    from peft import LoraConfig, PeftModel, set_peft_model_state_dict

    tensors = _read_adapter(adapter)
    rows = _vocabulary_rows(model, tensors)
    if rows is not None and rows != len(model.get_input_embeddings().weight):
        model.resize_token_embeddings(rows, mean_resizing=False)
    try:
        adapted = PeftModel(model, LoraConfig.from_pretrained(adapter.folder, inference_mode=True))
        loaded = set_peft_model_state_dict(adapted, tensors)
    except (ValueError, KeyError, RuntimeError, ImportError) as error:
        raise BaseMismatch(
            f"The adapter {adapter.folder} cannot be attached to its base: {_first_line(error)}",
            hint="Declare the base that the adapter was really trained on.",
        ) from error
    # peft would leave these at their start, where an adapter does nothing
    unused = [*loaded.unexpected_keys, *(key for key in loaded.missing_keys if "lora_" in key)]
    if unused:
        raise BaseMismatch(
            f"{len(unused)} tensors of the adapter {adapter.folder} have no place in its base, such as {unused[0]}",
            hint="Declare the base that the adapter was really trained on.",
        )
    return adapted


def _read_adapter(adapter: LocalCheckpoint) -> dict[str, Any]:
    """Return an adapter's tensors without the copies that peft adds under two more names to resized embeddings."""
    from safetensors.torch import load_file

    tensors = {name: tensor for file in adapter.weight_files for name, tensor in load_file(file).items()}
    copies = (".modules_to_save.weight", ".original_module.weight")
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(copies)}


def _vocabulary_rows(model: PreTrainedModel, tensors: dict[str, Any]) -> int | None:
    """Return the size of the vocabulary that an adapter was trained with, None where it does not say."""
    vocabulary = (model.get_input_embeddings(), model.get_output_embeddings())
    for module in (name for name, module in model.named_modules() if any(module is part for part in vocabulary)):
        for suffix, axis in (("weight", 0), ("base_layer.weight", 0), ("lora_embedding_A", 1), ("lora_B.weight", 0)):
            tensor = tensors.get(f"base_model.model.{module}.{suffix}")
            if tensor is not None:
                return int(tensor.shape[axis])
    return None


def _unloadable(checkpoint: LocalCheckpoint, error: Exception) -> UnsupportedCheckpoint:
    return UnsupportedCheckpoint(
        f"transformers cannot load {checkpoint.folder}: {_first_line(error)}",
        hint="Deltadex loads architectures that transformers knows, from safetensors, without code of their own.",
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
