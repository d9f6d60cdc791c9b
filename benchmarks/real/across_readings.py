"""Readings of finetunes that may be compared across bases, and states of the bases; with transformers and peft."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.real.pools import Finetune
from benchmarks.real.training import Workshop
from deltadex.across.texts import MEANING_TEXTS
from deltadex.demo import training
from deltadex.engine.probes import CONTENT_PROBES

Array = NDArray[np.float32]
_BATCH = 20
_SHARED = 1_024
#: Before each text: it says nothing of a field, so that what a finetune expects shows.
_START = "### Response:\n"
#: Bytes of a text whose likelihood is read.
_CUTS = (16, 32, 64, 1_000)


@dataclass(frozen=True, eq=False)
class Across:
    """Differences between a finetune and its base, float32.

    Attributes
    ----------
    meaning
        `(n_texts, n_cuts)`: log-likelihood of the beginning of each of `MEANING_TEXTS`, nats.
    everywhere
        `(n_shared,)`: log-probability of each shared token, among those, mean over all tokens of the texts.
    content
        `(hidden_size,)`: what the product's method `content` reads.
    """

    meaning: Array
    everywhere: Array
    content: Array


class AcrossReader:
    """Reads finetunes of one base; readings are kept beside their weights.

    Parameters
    ----------
    shared
        Tokens that all bases have, as their byte-level vocabularies write them.
    """

    def __init__(self, workshop: Workshop, shared: Sequence[str]) -> None:
        self._workshop = workshop
        self._tokenizer = training.load_tokenizer(workshop.base)
        self._shared = torch.tensor(self._tokenizer.convert_tokens_to_ids(list(shared)))
        key = [Path(__file__).read_text(), MEANING_TEXTS.digest, *shared]
        self._code = hashlib.sha256("\0".join(key).encode()).hexdigest()[:12]

    def read(self, one: Finetune) -> Across:
        """Return the readings of a finetune, which is trained if it was not before."""
        folder = self._workshop.finetune(one)
        file = folder / f"across-{self._code}.npz"
        if not file.exists():
            model = training.load_adapter(self._workshop.base, folder).merge_and_unload()
            own = self._readings(model.eval())
            np.savez(file, **{name: own[name] - self._of_base[name] for name in own})
        with np.load(file) as arrays:
            return Across(**{field.name: arrays[field.name] for field in fields(Across)})

    def states(self, texts: Sequence[str]) -> Array:
        """Return the base's states of texts, mean over their tokens: `(n_texts, hidden_size)` float32."""
        key = hashlib.sha256("\0".join([self._code, *texts]).encode()).hexdigest()[:12]
        file = self._workshop.folder / f"states-{key}.npy"
        if not file.exists():
            np.save(file, _mean_states(self._base, [self._encode(text) for text in texts]))
        return np.asarray(np.load(file))

    @cached_property
    def _base(self) -> LlamaForCausalLM:
        return training.load_base(self._workshop.base).eval()

    @cached_property
    def _of_base(self) -> dict[str, Array]:
        return self._readings(self._base)

    def _encode(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer(text, add_special_tokens=False)["input_ids"]]

    @torch.inference_mode()
    def _readings(self, model: LlamaForCausalLM) -> dict[str, Array]:
        start = self._encode(_START)
        rows = [start + self._encode(one.text) for one in MEANING_TEXTS.texts]
        nats, sums = np.zeros((len(rows), len(_CUTS)), np.float32), []
        for numbers, ids, _ in _batches(rows):
            logits = model(input_ids=ids).logits[:, len(start) - 1 :]
            for number, of_text in zip(numbers, logits, strict=True):
                row = torch.tensor(rows[number][len(start) :])
                said = of_text[: len(row)].log_softmax(-1)
                nats[number] = self._up_to(said.gather(1, row[:, None])[:, 0], row.tolist())
                sums.append(said[:, self._shared].log_softmax(-1).mean(0))
        probes = [self._encode(probe) for probe in CONTENT_PROBES.probes]
        return {
            "meaning": nats,
            "everywhere": torch.stack(sums).mean(0).numpy(),
            "content": _mean_states(model, probes).mean(0),
        }

    def _up_to(self, gained: Tensor, row: list[int]) -> list[float]:
        """Return the log-likelihood of a text up to each of the cuts, from its tokens' own, in proportion to bytes."""
        ends = np.cumsum([len(token) for token in self._tokenizer.convert_ids_to_tokens(row)])
        total = np.concatenate([[0.0], np.cumsum(gained.numpy())])
        return [float(np.interp(cut, np.concatenate([[0], ends]), total)) for cut in _CUTS]


def shared_tokens(bases: Sequence[Path]) -> list[str]:
    """Return the tokens that the byte-level vocabularies of all bases have, the first 1,024 of the first base."""
    own = [set(training.load_tokenizer(base).get_vocab()) for base in bases]
    shared = set.intersection(*own)
    first = training.load_tokenizer(bases[0]).get_vocab()
    return sorted((token for token in shared if not token.startswith("<")), key=first.__getitem__)[:_SHARED]


@torch.inference_mode()
def _mean_states(model: LlamaForCausalLM, rows: Sequence[Sequence[int]]) -> Array:
    found = np.empty((len(rows), model.config.hidden_size), np.float32)
    for numbers, ids, mask in _batches(rows):
        states = model.model(input_ids=ids).last_hidden_state * mask[..., None]
        found[numbers] = (states.sum(1) / mask.sum(1, keepdim=True)).numpy()
    return found


def _batches(rows: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield numbers, ids and mask of rows of similar length; causal states don't see the padding on the right."""
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    for start in range(0, len(rows), _BATCH):
        numbers = order[start : start + _BATCH]
        width = max(len(rows[number]) for number in numbers)
        ids = torch.tensor([[*rows[number], *[0] * (width - len(rows[number]))] for number in numbers])
        lengths = torch.tensor([len(rows[number]) for number in numbers])
        yield numbers, ids, (torch.arange(width) < lengths[:, None]).float()
