"""A relative of SmolLM2: a third of its layers cut out, and what is left healed by a short training."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from benchmarks.real.second_base import texts_of_train
from benchmarks.real.texts import PARTS, Texts
from benchmarks.real.training import Workshop
from deltadex.demo import training
from deltadex.demo.specification import Schedule

#: Layers that are cut out of SmolLM2's thirty: in the middle, behind which least is lost (arXiv 2403.17887).
_CUT = range(14, 24)
#: 7,680 tokens: enough to read text again, far from what it had.
_HEALING = Schedule(steps=40, batch=4, length=48, learning_rate=5e-4)


def workshop(smollm2: Workshop) -> Workshop:
    """Return a workshop for the sibling, beside that of SmolLM2; texts are those of SmolLM2's."""
    return Workshop(smollm2.folder / "sibling", smollm2.texts, lambda into: _save(into, smollm2.base, smollm2.texts))


def cut(model: LlamaForCausalLM, layers: Collection[int]) -> None:
    """Remove layers from a model, in place."""
    kept = [layer for number, layer in enumerate(model.model.layers) if number not in layers]
    for number, layer in enumerate(kept):
        layer.self_attn.layer_idx = number
    model.model.layers = torch.nn.ModuleList(kept)
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[: len(kept)]


def _save(folder: Path, base: Path, texts: Texts) -> None:
    tokenizer, model = training.load_tokenizer(base), training.load_base(base)
    cut(model, _CUT)
    documents = [text for part in range(PARTS - 1) for text in texts_of_train(texts, part)]
    training.train(model, training.examples(tokenizer, documents, _HEALING.length), _HEALING, seed=0)
    model.to(torch.bfloat16).save_pretrained(folder)  # as SmolLM2 is kept
    tokenizer.save_pretrained(folder)
