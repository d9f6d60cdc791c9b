"""Training and scoring for `selection.py`: a pool's models on held-out text of every task."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from rich.console import Console
from rich.progress import track
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.real.content import Array, ContentReader
from benchmarks.real.find import Task, _file, make
from benchmarks.real.pools import Finetune, Template, of_reuse
from benchmarks.real.selection import Scored
from benchmarks.real.texts import DOMAINS, PARTS
from benchmarks.real.training import LENGTH, Workshop
from deltadex.demo import training

#: Splits of each domain in the pool.
_SPLITS = 1
#: Examples to score on: of the task, and for what the runs logged.
_SCORED = 4


def pool() -> tuple[Finetune, ...]:
    """Return the models to select from: a split of every domain of `Role.REUSE`."""
    return tuple(one for one in of_reuse() if one.part < _SPLITS)


def measure(folder: Path) -> Scored:
    """Train and score what is missing; each model's losses are kept in its folder.

    Parameters
    ----------
    folder
        Folder of the models and texts.
    """
    workshop = Workshop.of_smollm2(folder)
    scorer, reader, models = Scorer(workshop), ContentReader(workshop), pool()
    with training.quiet():
        losses = [scorer.losses(one) for one in track(models, "scoring the pool", console=Console(stderr=True))]
        vectors = [reader.delta(one) for one in models]
        given = [_task_delta(workshop, Task(domain, 0)) for domain in scorer.tasks]
    return Scored(
        tuple(one.domain for one in models),
        tuple(scorer.tasks),
        np.array([*(row[:-1] for row in losses), scorer.losses(None)], dtype=np.float32),
        np.array([row[-1] for row in losses], dtype=np.float32),
        np.array(vectors, dtype=np.float32),
        np.array(given, dtype=np.float32),
    )


def _task_delta(workshop: Workshop, task: Task) -> Array:
    """Return the `(hidden_size,)` delta of a task of `find.py`, trained as the product does."""
    kept = workshop.folder / "find"
    kept.mkdir(exist_ok=True)
    make(workshop, task, kept)
    found: Array = np.load(_file(kept, task))["vector"]
    return found


class Scorer:
    """Scores models on text of a domain's last part, which no finetune of the pool has.

    Attributes
    ----------
    tasks
        Domains of the tasks.
    """

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        tokenizer = training.load_tokenizer(workshop.base)
        self.tasks = list(dict.fromkeys(one.domain for one in of_reuse()))
        self._prompt = training.prompt(tokenizer, Template.NEUTRAL)
        self._texts = {domain: self._of(tokenizer, domain) for domain in dict.fromkeys(one.domain for one in pool())}

    def _of(self, tokenizer: PreTrainedTokenizerFast, domain: str) -> Tensor:
        """Return `(2, examples, length)`: the text of the task, and the text for what the runs log."""
        parts = self._workshop.texts.part(DOMAINS[domain].source, PARTS - 1)
        examples = training.examples(tokenizer, parts, LENGTH)
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
        return examples[order[: 2 * _SCORED]].view(2, _SCORED, LENGTH)

    def losses(self, one: Finetune | None) -> NDArray[np.float64]:
        """Return the mean nats per token on each task's text, and then on a model's own; None is the base."""
        file = (self._workshop.base if one is None else self._workshop.finetune(one)) / f"selection-{_SCORED}.npy"
        if not file.exists():
            np.save(file, self._losses(one))
        found: NDArray[np.float64] = np.load(file)
        return found

    def _losses(self, one: Finetune | None) -> NDArray[np.float64]:
        texts = [self._texts[domain][0] for domain in self.tasks]
        if one is None:
            return self._of_model(self._base, texts)
        model = PeftModel.from_pretrained(self._base, str(self._workshop.finetune(one))).to(torch.bfloat16)
        found = self._of_model(model, [*texts, self._texts[one.domain][1]])
        model.unload()
        return found

    @cached_property
    def _base(self) -> LlamaForCausalLM:
        # Three times faster than float32. Adapters stay apart, so that they are not rounded away in the weights.
        return training.load_base(self._workshop.base, dtype=torch.bfloat16)

    @torch.inference_mode()
    def _of_model(self, model: torch.nn.Module, texts: list[Tensor]) -> NDArray[np.float64]:
        rows = torch.cat(texts)
        inputs = torch.cat([self._prompt.expand(len(rows), -1), rows], 1)
        logits = model.eval()(input_ids=inputs).logits[:, len(self._prompt) - 1 : -1]
        losses = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), rows, reduction="none")
        return losses.view(len(texts), -1).mean(1).double().numpy()
