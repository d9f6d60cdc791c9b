"""Training and scoring for `selection.py`: a pool's models on held-out text of every task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from benchmarks.real.content import ContentReader
from benchmarks.real.pools import Finetune, finetunes, of_reuse
from benchmarks.real.selection import Scored
from benchmarks.real.texts import DOMAINS, PARTS, Role
from benchmarks.real.training import LENGTH, Workshop
from deltadex.demo import training

#: Examples that a task is trained on, and as many again to score on: of the task, and for what the runs logged.
_TASK, _SCORED = 20, 16
#: Seeds of the tasks begin after this one.
_LATER = 4_000


def pool() -> tuple[Finetune, ...]:
    """Return the models to select from: all of the domains of `Role.REUSE`, and a split of every second other one."""
    older = [one for one in finetunes() if one.pools == ("splits",) and one.part == 0]
    return (*of_reuse(), *older[::2])


def tasks() -> tuple[Finetune, ...]:
    """Return a finetune on twenty examples of every domain of `Role.REUSE`, of a part that no other finetune has."""
    names = [name for name, text in DOMAINS.items() if text.role is Role.REUSE]
    return tuple(
        Finetune(("tasks",), (name,), PARTS - 1, examples=_TASK, seed=_LATER + number)
        for number, name in enumerate(names)
    )


def measure(folder: Path) -> Scored:
    """Train and score what is missing; each model's losses are kept in its folder.

    Parameters
    ----------
    folder
        Folder of the models and texts.
    """
    workshop = Workshop.of_smollm2(folder)
    models, asked = pool(), tasks()
    console = Console(stderr=True)
    scorer = _Scorer(workshop)
    with training.quiet():
        losses = [scorer.losses(one) for one in track(models, "scoring the pool", console=console)]
        base = scorer.losses(None)
        reader = ContentReader(workshop)
        vectors = [reader.delta(one) for one in track((*models, *asked), "reading", console=console)]
    return Scored(
        tuple(one.domain for one in models),
        tuple(one.domain for one in asked),
        np.array([*(row[:-1] for row in losses), base], dtype=np.float32),
        np.array([row[-1] for row in losses], dtype=np.float32),
        np.array(vectors[: len(models)], dtype=np.float32),
        np.array(vectors[len(models) :], dtype=np.float32),
    )


class _Scorer:
    """Scores models on text of a domain's last part that follows the examples of its task."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        tokenizer = training.load_tokenizer(workshop.base)
        self._prompt = training.prompt(tokenizer, tasks()[0].template)
        self._texts = {
            domain: self._of(tokenizer, domain)
            for domain in dict.fromkeys([*(one.domain for one in tasks()), *(one.domain for one in pool())])
        }

    def _of(self, tokenizer: PreTrainedTokenizerFast, domain: str) -> Tensor:
        """Return `(2, examples, length)`: the text of the task, and the text for what the runs log."""
        parts = self._workshop.texts.part(DOMAINS[domain].source, PARTS - 1)
        examples = training.examples(tokenizer, parts, LENGTH)
        # The order in which `Workshop` takes the examples of a task.
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
        chosen = examples[order[_TASK : _TASK + 2 * _SCORED]]
        return chosen.view(2, _SCORED, LENGTH)

    def losses(self, one: Finetune | None) -> NDArray[np.float64]:
        """Return the mean nats per token on each task's text, and then on a model's own; None is the base."""
        file = (self._workshop.base if one is None else self._workshop.finetune(one)) / "selection.npy"
        if not file.exists():
            np.save(file, np.array(list(self._losses(one))))
        found: NDArray[np.float64] = np.load(file)
        return found

    @torch.inference_mode()
    def _losses(self, one: Finetune | None) -> Iterator[float]:
        base = self._workshop.base
        # bfloat16 is three times faster; the adapter stays apart, so that it is not rounded away in the weights.
        model = training.load_base(base) if one is None else training.load_adapter(base, self._workshop.finetune(one))
        model = model.to(torch.bfloat16).eval()
        texts = [self._texts[each.domain][0] for each in tasks()]
        for text in texts if one is None else [*texts, self._texts[one.domain][1]]:
            yield self._loss(model, text)

    def _loss(self, model: torch.nn.Module, text: Tensor) -> float:
        inputs = torch.cat([self._prompt.expand(len(text), -1), text], 1)
        logits = model(input_ids=inputs).logits[:, len(self._prompt) - 1 : -1].float()
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), text.flatten()))
