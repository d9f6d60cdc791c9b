"""Greedy agreement of an adapter with the full model that it was extracted from."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from deltadex.engine.adapter_requests import AdapterComparison
from deltadex.engine.delta import load_tokenizer
from deltadex.engine.probes import METHODS, PROBE_SETS
from deltadex.engine.readout import Readout
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.engine.weights.whole_model import load_decoder


def greedy_agreement(request: AdapterComparison) -> float | None:
    """Return the share of the full model's greedy tokens after the probes that the adapter would choose too.

    The adapter reads the full model's own tokens, so that one other token does not make all later ones differ.

    Returns
    -------
    float or None
        None for a model that does not generate text.
    """
    base = StoredModel(request.base.checkpoint)
    if base.head is None or Readout.of(base.config) is not Readout.LAST_TOKEN:
        return None
    device = Compute.resolve("float32", request.base.device).device
    tokenizer = load_tokenizer(request.base.checkpoint)
    probe_set = PROBE_SETS[METHODS[request.base.method].probe_set]
    prompts = [
        tokenizer(probe, truncation=True, max_length=probe_set.max_tokens, return_tensors="pt")["input_ids"].to(device)
        for probe in probe_set.probes
    ]
    end = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id)
    with torch.inference_mode():
        texts = _continue(load_decoder(StoredModel(request.finetune), device), prompts, end, tokens=request.tokens)
        gc.collect()
        adapted = load_decoder(base, device, adapter=request.adapter)
        equal = [_equal(adapted, text, after=prompt.shape[1]) for prompt, text in zip(prompts, texts, strict=True)]
    return float(torch.cat(equal).float().mean())


def _continue(model: PreTrainedModel, prompts: Sequence[Tensor], end: GenerationConfig, *, tokens: int) -> list[Tensor]:
    """Return each prompt with its greedy continuation, `(1, n_tokens)`, whatever the model's own settings."""
    model.generation_config = end
    return [model.generate(prompt, do_sample=False, max_new_tokens=tokens) for prompt in prompts]


def _equal(model: PreTrainedModel, text: Tensor, *, after: int) -> Tensor:
    """Return, for each token from a position on, whether the model would choose it."""
    choices: Tensor = model(input_ids=text).logits[0, after - 1 : -1].argmax(dim=-1)
    return choices.eq(text[0, after:])
