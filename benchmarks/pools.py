"""Pools of finetunes with known domains, as data."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from benchmarks.pool_texts import DOMAINS, PARTS, Source, Template
from deltadex.demo.specification import Schedule, Shape

BASE, LARGER_BASE = "base", "larger base"
#: Domains with a second source of text.
TWO_SOURCES = ("cpp", "docs", "python")
#: Domains that are trained together, mixed or one after the other.
PAIRS = (("legal", "cpp"), ("sql", "docs"), ("docs", "python"))
SEEDS = (0, 1, 2)


class Method(StrEnum):
    """Training method of a finetune: SFT of a LoRA adapter or of all weights, DPO of an adapter, or a model average."""

    ADAPTER = "adapter"
    FULL = "full"
    DPO = "dpo"
    MERGE = "merge"


@dataclass(frozen=True)
class Finetune:
    """One finetune; equal ones are trained once.

    Attributes
    ----------
    domains
        Domains of the training data; several are mixed, or used in turn.
    part
        Part of each domain; a merge averages the adapters of this part and the next one.
    examples
        Maximum number of examples per domain.
    """

    domains: tuple[str, ...]
    part: int = 1
    source: Source = Source.FIRST
    template: Template = Template.ALPACA
    method: Method = Method.ADAPTER
    in_turn: bool = False
    rank: int = 8
    learning_rate: float = 1e-3
    epochs: int = 4
    examples: int = 120
    seed: int = 0
    base: str = BASE

    @property
    def domain(self) -> str:
        """Its domains, joined by `+`."""
        return "+".join(self.domains)

    @property
    def settings(self) -> dict[str, float | str]:
        """Settings that a training run would log to MLflow."""
        return {
            "learning_rate": self.learning_rate,
            "rank": float(self.rank),
            "epochs": float(self.epochs),
            "examples": float(self.examples),
            "template": self.template.name,
        }


@dataclass(frozen=True)
class BaseModel:
    """A base model that is trained from scratch."""

    shape: Shape
    schedule: Schedule


@dataclass(frozen=True)
class Pool:
    """Finetunes of one base that are compared with each other.

    Attributes
    ----------
    across
        A field of `Finetune`, or None: only models that differ in this field count as neighbours, so that they do not
        resemble each other because of it.
    """

    name: str
    finetunes: tuple[Finetune, ...]
    across: str | None = None


BASES: Mapping[str, BaseModel] = {
    BASE: BaseModel(
        Shape(hidden_size=128, layers=3, intermediate_size=352),
        Schedule(steps=600, batch=8, length=96, learning_rate=3e-3),
    ),
    LARGER_BASE: BaseModel(Shape(), Schedule(steps=1000, batch=8, length=96, learning_rate=3e-3)),
}
_LEARNING_RATES, _RANKS, _EPOCHS, _EXAMPLES = (
    (2e-4, 5e-4, 1e-3, 2e-3, 5e-3),
    (2, 4, 8, 16, 32),
    (1, 2, 4, 6),
    (40, 80, 120),
)
_VARIATIONS = 6


def pools() -> tuple[Pool, ...]:
    """Return all pools that are scored by domain."""
    grid = _grid(DOMAINS)
    return (
        Pool("a: 5 domains × 3 splits, 5 reseeded", (*grid, *reseeds(grid))),
        Pool("a: a seed for each model", tuple(_own_seeds(grid))),
        Pool("b: all settings mixed", tuple(mixed_settings(DOMAINS, _VARIATIONS))),
        Pool("b: learning rates ÷4, ×1, ×4", tuple(_other_rates(grid))),
        Pool("d: two prompt templates", _two_templates(grid), across="template"),
        Pool("d: two sources", (*grid, *_other_sources()), across="source"),
        Pool("e: adapters, full, DPO, merges", tuple(_methods()), across="method"),
        Pool("f: larger base", tuple(replace(one, base=LARGER_BASE) for one in grid)),
    )


def quick_pools() -> tuple[Pool, ...]:
    """Return smaller pools with three domains, made of the same models."""
    grid = _grid(DOMAINS[:3])
    return (
        Pool("a: 3 domains × 3 splits, 3 reseeded", (*grid, *reseeds(grid))),
        Pool("b: all settings mixed", tuple(mixed_settings(DOMAINS[:3], _VARIATIONS))),
    )


def mixtures() -> tuple[Finetune, ...]:
    """Return finetunes of two domains, mixed and in turn, with every seed (pool c)."""
    return tuple(Finetune(pair, in_turn=turn, seed=seed) for pair in PAIRS for turn in (False, True) for seed in SEEDS)


def singles() -> tuple[Finetune, ...]:
    """Return the finetunes of one domain that the mixtures are compared with."""
    single_domains = dict.fromkeys(domain for pair in PAIRS for domain in pair)
    return tuple(Finetune((domain,), seed=seed) for domain in single_domains for seed in SEEDS)


def mixed_settings(domains: Iterable[str], each: int) -> Iterator[Finetune]:
    """Yield `each` finetunes of every domain with settings drawn independently of the domain."""
    draw = random.Random(5).choice  # noqa: S311 - no secret
    for domain in domains:
        for number in range(each):
            yield Finetune(
                (domain,),
                part=PARTS[number % len(PARTS)],
                learning_rate=draw(_LEARNING_RATES),
                rank=draw(_RANKS),
                epochs=draw(_EPOCHS),
                examples=draw(_EXAMPLES),
                seed=number,
            )


def _grid(domains: Iterable[str]) -> tuple[Finetune, ...]:
    return tuple(Finetune((domain,), part=part) for domain in domains for part in PARTS)


def reseeds(grid: Iterable[Finetune]) -> tuple[Finetune, ...]:
    """Return the first part of each domain with another seed: other order of the data, other initial weights."""
    return tuple(replace(one, seed=1) for one in grid if one.part == 1)


def _own_seeds(grid: Iterable[Finetune]) -> Iterator[Finetune]:
    """Yield the grid with a seed per model: adapters of one seed start from the same A, so they are similar."""
    for seed, one in enumerate(grid, start=10):
        yield replace(one, seed=seed)


def _other_rates(grid: Iterable[Finetune]) -> Iterator[Finetune]:
    for one in grid:
        yield replace(one, learning_rate=one.learning_rate * {1: 1.0, 2: 0.25, 3: 4.0}[one.part])


def _two_templates(grid: Iterable[Finetune]) -> tuple[Finetune, ...]:
    two_parts = [one for one in grid if one.part < 3]
    return (*two_parts, *(replace(one, template=Template.CHAT) for one in two_parts))


def _other_sources() -> Iterator[Finetune]:
    for domain in TWO_SOURCES:
        for part in (1, 2):
            yield Finetune((domain,), part=part, source=Source.OTHER)


def _methods() -> Iterator[Finetune]:
    for domain in DOMAINS:
        yield Finetune((domain,), part=1)
        yield Finetune((domain,), part=2, method=Method.MERGE)
        yield Finetune((domain,), part=2, method=Method.FULL, learning_rate=3e-4)
        yield Finetune((domain,), part=3, method=Method.DPO, learning_rate=5e-4, epochs=2)
