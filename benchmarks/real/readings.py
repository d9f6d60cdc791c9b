"""Readings of each finetune beside its base, of which all candidate recipes are made; with transformers and peft."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaForCausalLM

from benchmarks.real.pools import Finetune
from benchmarks.real.training import Workshop
from deltadex.demo import training
from deltadex.engine.probes import CONTENT_PROBES, PAPER_PROBES

Array = NDArray[np.float32]
#: Beginnings of texts from many fields; none is taken from a domain's own text.
CONTENT = (
    "The committee decided that", "In the beginning of spring", "def total(prices):", "The recipe calls for two",
    "SELECT name FROM", "According to the contract,", "Die Stadt liegt an", "The patient was given", "#include <",
    "On the third day they", "A triangle with equal sides", "La maison est", "The market fell by", "To install it, run",
    "Dear Sir or Madam,", "The king said to his", "noun. A kind of", "{\"name\": \"", "Once the engine is warm,",
    "The theory predicts that",
)  # fmt: skip
#: Layers read beside the last one, as shares of all: 12, 20 and 26 of SmolLM2's thirty.
_LAYERS = (0.4, 2 / 3, 13 / 15)
OUTPUT_TOKENS = 12


@dataclass(frozen=True, eq=False)
class Readings:
    """Differences between a finetune and its base in the state after the final norm, float32, unless it says otherwise.

    Attributes
    ----------
    probes
        `(5, hidden_size)`: last token of each published probe.
    probes_mean
        `(hidden_size,)`: mean over the tokens, then over the published probes.
    layers
        `(3, hidden_size)`: last token after three earlier layers, without the norm, mean over the published probes.
    content, content_mean
        `(hidden_size,)`: last token, and mean over the tokens, of twenty short beginnings.
    chat, chat_mean
        `(hidden_size,)`: the same of the published instructions in the base's own chat template.
    wrapped, wrapped_mean
        `(hidden_size,)`: the same of five beginnings as the instruction in the published template.
    output
        `(hidden_size,)`: mean state of the base, not a difference, over the finetune's greedy continuations of the
        published probes by 12 tokens.
    gram
        `(n_tokens, n_tokens)`: scalar products of the finetune's own states over the tokens of `wrapped`, centred and
        of norm one; the product of two of them is their linear CKA (arXiv 1905.00414).
    """

    probes: Array
    probes_mean: Array
    layers: Array
    content: Array
    content_mean: Array
    chat: Array
    chat_mean: Array
    wrapped: Array
    wrapped_mean: Array
    output: Array
    gram: Array


class Reader:
    """Reads finetunes of one base, each alone: its readings are kept beside its weights."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]

    def read(self, one: Finetune) -> Readings:
        """Return the readings of a finetune that was trained."""
        folder = self._workshop.finetune(one)
        file = folder / f"readings-{self._code}.npz"
        if not file.exists():
            if (folder / "adapter_model.safetensors").exists():
                model = training.load_adapter(self._workshop.base, folder).merge_and_unload()
            else:
                model = training.load_base(folder)
            np.savez(file, **self._difference(model.eval()))
        with np.load(file) as arrays:
            return Readings(**{field.name: arrays[field.name] for field in fields(Readings)})

    def _difference(self, model: LlamaForCausalLM) -> dict[str, Array]:
        states = self._states(model)
        found = {name: states[name] - self._of_base[name] for name in states}
        return {**found, "output": self._output(model), "gram": self._gram(model)}

    @cached_property
    def _base(self) -> LlamaForCausalLM:
        return training.load_base(self._workshop.base).eval()

    @cached_property
    def _of_base(self) -> dict[str, Array]:
        return self._states(self._base)

    @cached_property
    def _tokenizer(self) -> training.Tokenizer:
        tokenizer = training.load_tokenizer(self._workshop.base)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        return tokenizer

    @cached_property
    def _chat(self) -> tuple[str, ...]:
        if self._tokenizer.chat_template is None:
            return PAPER_PROBES.probes
        conversations = [[{"role": "user", "content": one.partition("\n")[0]}] for one in PAPER_PROBES.probes]
        return tuple(
            self._tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True)
            for one in conversations
        )

    def _states(self, model: LlamaForCausalLM) -> dict[str, Array]:
        published = self._layers(model, PAPER_PROBES.probes)
        states = {"layers": np.mean([[one[at, -1] for at in _at(one)] for one in published], axis=0)}
        states["probes"] = np.stack([one[-1, -1] for one in published])
        states["probes_mean"] = np.mean([one[-1].mean(0) for one in published], axis=0)
        for name, texts in {"content": CONTENT, "chat": self._chat, "wrapped": CONTENT_PROBES.probes}.items():
            last = [one[-1] for one in self._layers(model, texts)]
            states[name] = np.mean([one[-1] for one in last], axis=0)
            states[f"{name}_mean"] = np.mean([one.mean(0) for one in last], axis=0)
        return states

    def _layers(self, model: LlamaForCausalLM, texts: Sequence[str]) -> list[Array]:
        """Return `(layers + 1, n_tokens, hidden_size)` after each layer, the last one after the norm, for each text.

        One pass: what stands after a text in its row is never looked at.
        """
        self._tokenizer.padding_side = "right"
        tokens = self._tokenizer(list(texts), return_tensors="pt", padding=True)
        with torch.inference_mode():
            layers = torch.stack(model.model(**tokens, output_hidden_states=True).hidden_states, dim=1).numpy()
        return [one[:, :length] for one, length in zip(layers, tokens["attention_mask"].sum(1).tolist(), strict=True)]

    def _gram(self, model: LlamaForCausalLM) -> Array:
        states = np.concatenate([one[-1] for one in self._layers(model, CONTENT_PROBES.probes)])
        centred = states - states.mean(0)
        products = centred @ centred.T
        return products / np.linalg.norm(products)

    def _output(self, model: LlamaForCausalLM) -> Array:
        self._tokenizer.padding_side = "left"
        tokens = self._tokenizer(list(PAPER_PROBES.probes), return_tensors="pt", padding=True)
        length = {"min_new_tokens": OUTPUT_TOKENS, "max_new_tokens": OUTPUT_TOKENS}
        with torch.inference_mode():
            answers = model.generate(**tokens, do_sample=False, **length)[:, tokens["input_ids"].shape[1] :]
            states = self._base.model(input_ids=answers).last_hidden_state
        return np.asarray(states.mean((0, 1)).numpy())


def _at(layers: Array) -> list[int]:
    """Return the numbers of the earlier layers that are read."""
    return [round(share * (len(layers) - 1)) for share in _LAYERS]
