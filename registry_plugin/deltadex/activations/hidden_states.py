"""One model's answer to the probes: the state of the last token after the final norm (arXiv 2509.04442, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deltadex.domain import FloatArray
from deltadex.errors import BaseMismatch, EmbeddingError, UnsupportedCheckpoint
from deltadex.probes import ProbeSet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def read_hidden_states(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, probe_set: ProbeSet) -> FloatArray:
    """Return `(n_probes, hidden_size)` float32: what `model` makes of each probe, read alone and without padding.

    Parameters
    ----------
    model
        A causal language model with or without adapters inside; only its backbone runs, no logits are computed.
    tokenizer
        The base's, for base and finetune alike: both must read the same tokens.

    Raises
    ------
    UnsupportedCheckpoint
        The model has an encoder.
    BaseMismatch
        The model's vocabulary is too small for the tokenizer.
    EmbeddingError
        A state is not finite.
    """
    import torch

    if model.config.is_encoder_decoder:
        raise UnsupportedCheckpoint(f"{model.config.model_type} has an encoder", hint="Use a decoder-only model.")
    backbone = model.base_model.eval()
    with torch.inference_mode():
        states = [_last_state(backbone, _tokens(model, tokenizer, probe, probe_set)) for probe in probe_set.probes]
    stacked = np.stack([state.float().cpu().numpy() for state in states])
    if not np.isfinite(stacked).all():
        raise EmbeddingError(
            f"The hidden states of {model.config.model_type} {model.config.name_or_path} are not finite",
            hint="The weights hold NaN or infinity, or overflow: check the training run.",
        )
    return stacked


def _tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, probe: str, probe_set: ProbeSet) -> Any:
    tokens = tokenizer(probe, return_tensors="pt", truncation=True, max_length=probe_set.max_tokens)["input_ids"]
    rows = len(model.get_input_embeddings().weight)
    if int(tokens.max()) >= rows:
        raise BaseMismatch(
            f"{model.config.name_or_path} knows {rows} tokens, the base's tokenizer gave token {int(tokens.max())}",
            hint="Base and finetune must share their vocabulary.",
        )
    return tokens.to(model.device)


def _last_state(backbone: PreTrainedModel, tokens: Any) -> Any:
    output = backbone(input_ids=tokens, attention_mask=tokens.new_ones(tokens.shape), use_cache=False)
    return output.last_hidden_state[0, -1]
