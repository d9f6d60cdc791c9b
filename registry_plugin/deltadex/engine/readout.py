"""Readouts: the hidden state that represents a probe, for each kind of language model.

The decoder readout is the paper's (arXiv 2509.04442, section 3). The paper has no encoders; their readouts are ours.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import torch
from transformers import MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from deltadex.engine.probes import PUBLISHED, ProbeSet
from deltadex.errors import BaseMismatch
from deltadex.types import EmbeddingMethod


class Readout(StrEnum):
    """The hidden state that represents a probe; part of every recipe."""

    #: Decoders: the last token of the probe, or the mean over its tokens, after the final norm.
    LAST_TOKEN = "last_token/final_norm"  # noqa: S105 - a token of text
    MEAN_OF_DECODER = "mean_token/final_norm"
    #: Encoder-decoders: the decoder's first step after the encoder has read the probe, after the final norm.
    DECODER_START = "decoder_start/final_norm"
    #: Encoders: the mean over the probe's tokens, after the last layer.
    MEAN_TOKEN = "mean_token/last_layer"  # noqa: S105

    @classmethod
    def of(cls, config: Any, method: EmbeddingMethod = PUBLISHED) -> Readout:
        """Return the readout for a model with this config; the method chooses among those of decoders."""
        if config.is_encoder_decoder:
            return cls.DECODER_START
        encodes = type(config) in MODEL_FOR_MASKED_LM_MAPPING or type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
        return cls.MEAN_TOKEN if encodes and not getattr(config, "is_decoder", False) else cls(method.readout)


@dataclass(frozen=True, eq=False)
class Prompts:
    """Tokenized probes: `(n_probes, n_tokens)`, padded on the right; the mask hides the padding.

    Attributes
    ----------
    readout
        Readout of each.
    tokens
        The tokens of each probe as text.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    readout: Readout
    tokens: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def tokenize(cls, tokenizer: Tokenizer, probe_set: ProbeSet, readout: Readout) -> Prompts:
        """Tokenize each probe separately, and truncate it to the probe set's limit."""
        rows = [
            tokenizer(probe, truncation=True, max_length=probe_set.max_tokens)["input_ids"]
            for probe in probe_set.probes
        ]
        tokens = tuple(tuple(tokenizer.convert_ids_to_tokens(row)) for row in rows)
        longest = max(map(len, rows))
        # Padding repeats the last token: a dedicated padding token might have no row in the vocabulary.
        ids = torch.tensor([row + row[-1:] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return cls(ids, mask, readout, tokens)

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the token ids of each probe."""
        return hashlib.sha256(json.dumps([one.ids[0].tolist() for one in self.alone()]).encode()).hexdigest()

    def to(self, device: torch.device) -> Prompts:
        """Return a copy on a device."""
        return replace(self, ids=self.ids.to(device), mask=self.mask.to(device))

    def alone(self) -> list[Prompts]:
        """Return each probe as a batch of its own, without padding."""
        lengths = self.mask.sum(dim=1).tolist()
        return [Prompts(self.ids[i : i + 1, :n], self.mask[i : i + 1, :n], self.readout) for i, n in enumerate(lengths)]

    def check_vocabulary(self, model: PreTrainedModel) -> None:
        """Raise BaseMismatch if the model's vocabulary lacks a token of the probes."""
        rows = model.get_input_embeddings().weight.shape[0]
        largest = int(self.ids.max())
        if largest >= rows:
            raise BaseMismatch(
                f"{model.config.name_or_path} knows {rows} tokens, but the base's tokenizer produced token {largest}",
                hint="Base and finetune must share their vocabulary.",
            )


@dataclass(frozen=True, eq=False)
class VirtualTokens:
    """A prompt adapter's prefix for each probe: embeddings, or keys and values for every layer."""

    count: int
    embeddings: torch.Tensor | None = None
    cache: Any = None


def read(model: PreTrainedModel, prompts: Prompts, virtual: VirtualTokens | None = None) -> torch.Tensor:
    """Return the readout of each probe, `(n_probes, hidden_size)` float32. Computes no logits."""
    readout, n_skipped = prompts.readout, 0
    inputs: dict[str, Any] = {"input_ids": prompts.ids, "attention_mask": prompts.mask}
    if virtual is not None:
        inputs |= _with_virtual(model, prompts, virtual)
        n_skipped = 0 if virtual.embeddings is None else virtual.count
    if readout is Readout.DECODER_START:
        inputs["decoder_input_ids"] = prompts.ids.new_full((len(prompts.ids), 1), _decoder_start(model))
    if virtual is None or virtual.cache is None:
        inputs |= {"use_cache": False} if hasattr(model.config, "use_cache") else {}
    states = _last_hidden_state(model, inputs)
    if readout is Readout.DECODER_START:
        return states[:, 0]
    states, mask = states[:, n_skipped:], prompts.mask
    if readout in (Readout.MEAN_TOKEN, Readout.MEAN_OF_DECODER):
        return (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return states[torch.arange(len(mask), device=mask.device), mask.sum(dim=1) - 1]


def _last_hidden_state(model: PreTrainedModel, inputs: dict[str, Any]) -> torch.Tensor:
    backbone = model.base_model
    if backbone is not model:
        states: torch.Tensor = backbone(**inputs).last_hidden_state
    else:  # T5 and similar models have no separate backbone below the head
        output = model(**inputs, output_hidden_states=True)
        states = (output.get("decoder_hidden_states") or output.hidden_states)[-1]
    return states.float()


def _with_virtual(model: PreTrainedModel, prompts: Prompts, virtual: VirtualTokens) -> dict[str, Any]:
    mask = torch.cat([prompts.mask.new_ones(len(prompts.mask), virtual.count), prompts.mask], dim=1)
    if virtual.embeddings is None:
        return {"attention_mask": mask, "past_key_values": virtual.cache}
    words = model.get_input_embeddings()(prompts.ids)
    embeddings = torch.cat([virtual.embeddings.to(words.dtype), words], dim=1)
    return {"input_ids": None, "inputs_embeds": embeddings, "attention_mask": mask}


def _decoder_start(model: PreTrainedModel) -> int:
    """Return the decoder's start token; T5 and similar models start with the padding token."""
    text = model.config.get_text_config(decoder=True)
    generation = getattr(model, "generation_config", None)
    start_tokens = (getattr(part, "decoder_start_token_id", None) for part in (generation, model.config, text))
    return int(next((token for token in start_tokens if token is not None), text.pad_token_id or 0))
