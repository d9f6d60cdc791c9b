"""Tiny models that are really trained, with known parents, and their sketches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel

from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.checkpoints.sketch import Sketch, sketch
from deltadex.demo import training
from deltadex.demo.specification import Schedule, Shape
from deltadex.downloads.files import LocalFiles
from tests.tiny_models import build_tokenizer

SHAPE = Shape(vocabulary=384, hidden_size=48, layers=2, heads=4, intermediate_size=96)
_SCHEDULE = Schedule(steps=12, batch=4, length=24, learning_rate=3e-3)


def text(domain: int, part: int = 0) -> Tensor:
    """Return `(64, 24)` tokens: phrases of a domain, in an order of the part's own."""
    phrases = torch.randint(10, SHAPE.vocabulary, (12, 6), generator=torch.Generator().manual_seed(domain))
    order = torch.Generator().manual_seed(1000 * domain + part)
    return phrases[torch.randint(len(phrases), (64, 4), generator=order)].flatten(1)


@dataclass(frozen=True)
class Family:
    """A folder of models of one base."""

    folder: Path
    base: Path

    @classmethod
    def found(cls, folder: Path, *, seed: int = 0) -> Family:
        """Train a base a little; bases of several seeds are twins: same shape, same text."""
        base = folder / f"base-{seed}"
        model = training.new_base(SHAPE, seed=seed)
        training.train(model, torch.cat([text(each) for each in range(50, 60)]), _SCHEDULE, seed=seed)
        training.save(model, base)
        build_tokenizer().save_pretrained(base)
        return cls(folder, base)

    def adapter(self, name: str, *, domain: int, part: int = 0, seed: int = 1, after: Path | None = None) -> Path:
        """Train an adapter, or train on from one."""
        base = training.load_base(self.base)
        if after is None:
            model = training.new_adapter(base, seed=seed, declared_base="base", rank=4)
        else:
            model = PeftModel.from_pretrained(base, str(after), is_trainable=True)
        return self._trained(model, name, domain, part, seed)

    def full(self, name: str, *, domain: int, part: int = 0, seed: int = 1, after: Path | None = None) -> Path:
        """Train all weights, from the base or from another full model."""
        return self._trained(training.load_base(after or self.base), name, domain, part, seed, rate=3e-4)

    def merge(self, name: str, parents: list[Path], method: str, **settings: object) -> Path:
        """Merge adapters with peft; DARE drops the same entries each time, as one in twenty draws hides a parent."""
        torch.manual_seed(0)
        model = training.load_adapter(self.base, parents[0])
        names = ["default"]
        for number, parent in enumerate(parents[1:], start=1):
            names.append(f"p{number}")
            model.load_adapter(str(parent), names[-1])
        weights = [1 / len(parents)] * len(parents)
        model.add_weighted_adapter(names, weights, "merged", combination_type=method, **settings)
        model.save_pretrained(str(self.folder / name), selected_adapters=["merged"], save_embedding_layers=False)
        return self.folder / name / "merged"

    def mean(self, name: str, parents: list[Path]) -> Path:
        """Save the mean of full models."""
        models = [training.load_base(parent) for parent in parents]
        states = [model.state_dict() for model in models]
        models[0].load_state_dict({key: torch.stack([state[key] for state in states]).mean(0) for key in states[0]})
        return self._saved(models[0], name)

    def rounded(self, name: str, parent: Path) -> Path:
        """Save a full model in bfloat16."""
        return self._saved(training.load_base(parent).to(torch.bfloat16), name)

    def sketch(self, folder: Path) -> Sketch:
        """Return the sketch of a model, as the check of an arriving version makes it."""
        found = sketch(checkpoint(folder), checkpoint(self.base))
        assert found is not None
        return found

    def _trained(
        self, model: PreTrainedModel | PeftModel, name: str, domain: int, part: int, seed: int, *, rate: float = 3e-3
    ) -> Path:
        schedule = Schedule(_SCHEDULE.steps, _SCHEDULE.batch, _SCHEDULE.length, rate)
        training.train(model, text(domain, part), schedule, seed=seed)
        return self._saved(model, name)

    def _saved(self, model: LlamaForCausalLM | PreTrainedModel | PeftModel, name: str) -> Path:
        training.save(model, self.folder / name)
        return self.folder / name


def checkpoint(folder: Path) -> LocalCheckpoint:
    """Return a folder as a checkpoint."""
    found = inspect(LocalFiles(folder)).fetch()
    assert isinstance(found, LocalCheckpoint)
    return found
