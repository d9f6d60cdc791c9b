"""Finetunes with known parents, trained on from the pools' finetunes, and others that only look related."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from benchmarks.real.pools import Finetune, Method, finetunes, of_reuse
from benchmarks.real.texts import DOMAINS, Role
from benchmarks.real.training import Workshop
from deltadex.demo import training

_FULL = {"method": Method.FULL, "learning_rate": 1e-4}
_CHOSEN_ON = (Role.TRAIN, Role.SELECT)


@dataclass(frozen=True)
class Descendant:
    """A finetune and what it was trained on from.

    Attributes
    ----------
    parent
        None for a training from the base. Such a one is here for its seed: it begins as another finetune did.
    twin
        The finetune whose initial adapter it shares, without having it as a parent.
    """

    made: Finetune
    parent: Finetune | Descendant | None = None
    twin: Finetune | None = None

    @property
    def name(self) -> str:
        """A name that says how it was made."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:24]


def descendants(*, reuse: bool) -> tuple[Descendant, ...]:
    """Return the descendants for choosing thresholds, or those of the domains of `Role.REUSE`, used once."""
    return tuple((_on_reuse if reuse else _on_select)())


def first_parts(*roles: Role) -> list[Finetune]:
    """Return the finetune on the first part of each domain of some roles."""
    pool = of_reuse() if Role.REUSE in roles else finetunes()
    return [one for one in pool if one.pools == ("splits",) and one.part == 0 and DOMAINS[one.domain].role in roles]


def _on_select() -> Iterator[Descendant]:
    parents = first_parts(*_CHOSEN_ON)
    yield from _trained_on(parents[::3], seed=4_000)
    yield from _full_families(parents[1::4], seed=4_300)


def _on_reuse() -> Iterator[Descendant]:
    parents = first_parts(Role.REUSE)
    yield from _trained_on(parents, seed=5_000)
    yield from _full_families(parents[::2], seed=5_300)


def _trained_on(parents: list[Finetune], *, seed: int) -> Iterator[Descendant]:
    """Yield, for each parent, one trained on with its own domain and one with another, and twins of its seed.

    Every second one trained on is trained on once more: a chain of three.
    """
    for number, parent in enumerate(parents):
        other = parents[(number + 1) % len(parents)]
        steps = (8, 12)[number % 2]
        own = replace(parent, pools=("lineage",), part=1, steps=steps, seed=seed + 10 * number)
        away = replace(own, domains=other.domains, seed=own.seed + 1, steps=20 - steps)
        for made in (own, away):
            yield Descendant(made, parent)
        if number % 2:
            yield Descendant(replace(own, part=2, seed=own.seed + 2), Descendant(own, parent))
        # The seed of the initial adapter is the parent's; data differ.
        twin = replace(own if number % 2 else away, steps=parent.steps, seed=parent.seed)
        yield Descendant(twin, twin=parent)


def _full_families(parents: list[Finetune], *, seed: int) -> Iterator[Descendant]:
    """Yield all weights trained twice on one domain, with two seeds, and the first of them trained on."""
    for number, parent in enumerate(parents):
        one = replace(parent, pools=("lineage",), seed=seed + 10 * number, **_FULL)  # type: ignore[arg-type]
        other = replace(one, part=1 if number % 2 else 0, seed=one.seed + 1)
        domains = parents[(number + 1) % len(parents)].domains if number % 2 else parent.domains
        child = replace(one, domains=domains, part=2, steps=8, seed=one.seed + 2)
        yield Descendant(one)
        yield Descendant(other)
        yield Descendant(child, Descendant(one))


class Nursery:
    """Trains descendants, or returns those that were trained before."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._folder = workshop.folder / "lineage"

    def folder(self, one: Descendant | Finetune) -> Path:
        """Return the folder of a finetune, trained now if it was not before."""
        if isinstance(one, Finetune):
            return self._workshop.finetune(one)
        folder = self._folder / one.name
        if not folder.exists():
            unfinished = folder.with_name(f".{one.name}")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            model = self._start(one)
            self._workshop.teach(model, one.made)
            if one.made.method is Method.FULL:
                model.to(torch.bfloat16)  # as most are kept
            training.save(model, unfinished)
            unfinished.rename(folder)
        return folder

    def _start(self, one: Descendant) -> PreTrainedModel | PeftModel:
        if one.parent is None:
            return self._workshop.start(one.made)
        before = self.folder(one.parent)
        if one.made.method is Method.FULL:
            return training.load_base(before)
        model = PeftModel.from_pretrained(training.load_base(self._workshop.base), str(before), is_trainable=True)
        model.peft_config["default"].inference_mode = False
        return model
