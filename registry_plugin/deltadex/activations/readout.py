"""What is read off a model for each probe, and where: the one place that knows about kinds of language models.

Decoders are read as the paper does (arXiv 2509.04442, section 3). The other two readouts are ours: the paper has no
encoders.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from transformers import MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from deltadex.errors import BaseMismatch
from deltadex.probes import ProbeSet


class Readout(StrEnum):
    """Which hidden state stands for a probe; part of every recipe."""

    #: Decoders: the last token of the probe, after the final norm.
    LAST_TOKEN = "last_token/final_norm"  # noqa: S105 - a token of text
    #: Encoder-decoders: the decoder's first step after the encoder has read the probe, after the final norm.
    DECODER_START = "decoder_start/final_norm"
    #: Encoders: the mean over the probe's tokens, after the last layer.
    MEAN_TOKEN = "mean_token/last_layer"  # noqa: S105

    @classmethod
    def of(cls, config: Any) -> Readout:
        """Return how a model with this config is read."""
        if config.is_encoder_decoder:
            return cls.DECODER_START
        encodes = type(config) in MODEL_FOR_MASKED_LM_MAPPING or type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
        return cls.MEAN_TOKEN if encodes and not getattr(config, "is_decoder", False) else cls.LAST_TOKEN


@dataclass(frozen=True, eq=False)
class Prompts:
    """Tokenized probes: `(n_probes, n_tokens)`, short ones padded on the right with tokens that the mask hides."""

    ids: torch.Tensor
    mask: torch.Tensor

    @classmethod
    def tokenize(cls, tokenizer: Tokenizer, probe_set: ProbeSet) -> Prompts:
        """Tokenize each probe alone, and cut it at the probe set's limit."""
        rows = [
            tokenizer(probe, truncation=True, max_length=probe_set.max_tokens)["input_ids"]
            for probe in probe_set.probes
        ]
        longest = max(map(len, rows))
        # The padding repeats the last token: a token of its own would need a row of the vocabulary.
        ids = torch.tensor([row + row[-1:] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return cls(ids, mask)

    def to(self, device: torch.device) -> Prompts:
        """Return the same on a device."""
        return Prompts(self.ids.to(device), self.mask.to(device))

    def alone(self) -> list[Prompts]:
        """Return each probe as a batch of its own, without padding."""
        lengths = self.mask.sum(dim=1).tolist()
        return [Prompts(self.ids[i : i + 1, :n], self.mask[i : i + 1, :n]) for i, n in enumerate(lengths)]

    def check_vocabulary(self, model: PreTrainedModel) -> None:
        """Raise BaseMismatch where a model has no row for a token of the base's tokenizer."""
        rows = model.get_input_embeddings().weight.shape[0]
        largest = int(self.ids.max())
        if largest >= rows:
            raise BaseMismatch(
                f"{model.config.name_or_path} knows {rows} tokens, the base's tokenizer gave token {largest}",
                hint="Base and finetune must share their vocabulary.",
            )


@dataclass(frozen=True, eq=False)
class VirtualTokens:
    """What a prompt adapter puts before each probe: embeddings, or keys and values for every layer."""

    count: int
    embeddings: torch.Tensor | None = None
    cache: Any = None


def read(model: PreTrainedModel, prompts: Prompts, virtual: VirtualTokens | None = None) -> torch.Tensor:
    """Return `(n_probes, hidden_size)` float32: what a model makes of each probe. No logits are computed."""
    readout, skipped = Readout.of(model.config), 0
    inputs: dict[str, Any] = {"input_ids": prompts.ids, "attention_mask": prompts.mask}
    if virtual is not None:
        inputs |= _with_virtual(model, prompts, virtual)
        skipped = 0 if virtual.embeddings is None else virtual.count
    if readout is Readout.DECODER_START:
        inputs["decoder_input_ids"] = prompts.ids.new_full((len(prompts.ids), 1), _decoder_start(model))
    if virtual is None or virtual.cache is None:
        inputs |= {"use_cache": False} if hasattr(model.config, "use_cache") else {}
    states = _last_hidden_state(model, inputs)
    if readout is Readout.DECODER_START:
        return states[:, 0]
    states, mask = states[:, skipped:], prompts.mask
    if readout is Readout.MEAN_TOKEN:
        return (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return states[torch.arange(len(mask), device=mask.device), mask.sum(dim=1) - 1]


def _last_hidden_state(model: PreTrainedModel, inputs: dict[str, Any]) -> torch.Tensor:
    backbone = model.base_model
    if backbone is not model:
        states: torch.Tensor = backbone(**inputs).last_hidden_state
    else:  # T5 and its like have no backbone of their own below the head
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
    """Return the token that a decoder begins with; T5 and its like begin with the padding."""
    text = model.config.get_text_config(decoder=True)
    generation = getattr(model, "generation_config", None)
    found = (getattr(part, "decoder_start_token_id", None) for part in (generation, model.config, text))
    return int(next((token for token in found if token is not None), text.pad_token_id or 0))
