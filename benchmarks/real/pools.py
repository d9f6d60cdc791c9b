"""Finetunes of SmolLM2 with known domains, as data, in the order of training: what matters most comes first."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from benchmarks.real.texts import DOMAINS, PARTS, Role


class Template(StrEnum):
    """Text before each example. `CHAT` is the base's own template around the domain's instruction."""

    NEUTRAL = "### Text:\n"
    OWN = "Task: {instruction}\n---\n"
    CHAT = "chat"


class Method(StrEnum):
    """Training method of a finetune.

    An adapter or all weights by SFT, all weights rounded to four bits after that, the mean of two adapters of a domain,
    or an adapter by DPO that prefers the domain's text to that of the next domain.
    """

    ADAPTER = "adapter"
    FULL = "full"
    QUANTIZED = "quantized"
    MERGE = "merge"
    PREFERENCE = "preference"


@dataclass(frozen=True)
class Finetune:
    """One finetune.

    Attributes
    ----------
    pools
        Pools that it belongs to.
    domains
        Domains of its training text; several are mixed, or used one after the other.
    kind
        0 for the domain's own text, 1 for its other source, 2 and 3 for its relatives.
    examples
        Number of examples; None for as many as it has.
    """

    pools: tuple[str, ...]
    domains: tuple[str, ...]
    part: int = 0
    kind: int = 0
    template: Template = Template.NEUTRAL
    method: Method = Method.ADAPTER
    in_turn: bool = False
    rank: int = 8
    learning_rate: float = 1e-3
    steps: int = 12
    examples: int | None = None
    seed: int = 0

    @property
    def domain(self) -> str:
        """Its domains, joined by `+`."""
        return "+".join(self.domains)


_SPLITS = PARTS - 1
#: Domains of the first round of questions; later ones have finetunes of their own.
_NAMES = tuple(name for name, text in DOMAINS.items() if text.role not in (Role.REUSE, Role.CONFIRM))
#: Seeds of the finetunes of later domains begin after these.
_REUSE_SEEDS, _CONFIRM_SEEDS = 2_000, 3_000
_RATES = (3e-4, 3e-3)
_MIXES = (
    ("bible", "python"), ("german", "manuals"), ("essays", "sql"), ("perl", "quotes"),
    ("go", "policy"), ("c++", "spanish quotes"), ("docs", "messages"), ("italian quotes", "go"),
)  # fmt: skip
_TRIPLES = (("bible", "german", "perl"), ("go", "docs", "policy"))
#: Domains of which five finetunes are trained three times more, with other seeds.
_RESEEDED = ("bible", "licences", "sql", "go", "policy")


def finetunes() -> tuple[Finetune, ...]:
    """Return all finetunes, each with a seed of its own unless it is a reseed."""
    untouched = [name for name in _NAMES if DOMAINS[name].role is not Role.TRAIN]
    trained = [name for name in _NAMES if name not in untouched]
    found = [*_splits(_NAMES), *_tasks(), *_other_sources(0), *_relatives()]
    for names in (untouched, trained):
        found += [one for name in names for one in (*_other_templates(name), _other_settings(name, 0))]
    found += [*_reseeds(), *_mixtures(), *_other_methods(), *_other_sources(1)]
    found += [_other_settings(name, 1) for name in _NAMES]
    found += [*_more_methods(), *_rates()]
    return tuple(one if one.seed else replace(one, seed=number) for number, one in enumerate(found, start=1))


def _splits(domains: Sequence[str]) -> Iterator[Finetune]:
    for part in range(_SPLITS):
        for domain in domains:
            yield Finetune(("splits",), (domain,), part)


def _tasks() -> Iterator[Finetune]:
    """Yield a task of twenty examples of every domain, of a part that no other finetune has."""
    for domain in _NAMES:
        yield Finetune(("tasks",), (domain,), _SPLITS, examples=20)


def _other_settings(domain: str, part: int) -> Finetune:
    draw = random.Random(f"{domain} {part}").choice  # noqa: S311 - no secret
    rank, rate, steps = draw((2, 4, 16, 32)), draw((3e-4, 5e-4, 2e-3)), draw((8, 16, 24))
    return Finetune(("settings",), (domain,), part, rank=rank, learning_rate=rate, steps=steps)


def _other_templates(domain: str) -> Iterator[Finetune]:
    for template in (Template.OWN, Template.CHAT):
        yield Finetune((template.name.lower(),), (domain,), 1, template=template)


def _other_sources(part: int) -> Iterator[Finetune]:
    for domain in _NAMES:
        text = DOMAINS[domain]
        if text.other:
            yield Finetune(("source",), (domain,), part, kind=1)


def _relatives() -> Iterator[Finetune]:
    for domain in _NAMES:
        text = DOMAINS[domain]
        for number in range(len(text.relatives)):
            for part in range(2):
                yield Finetune(("relatives",), (domain,), part, kind=2 + number)


def _reseeds() -> Iterator[Finetune]:
    for domain in _RESEEDED:
        for seed in (1001, 1002, 1003):
            yield Finetune(("reseeds",), (domain,), 0, seed=seed)


def _mixtures() -> Iterator[Finetune]:
    for domains in (*_MIXES, *_TRIPLES):
        yield Finetune(("mixes",), domains, 2)
    for domains in _MIXES[::4]:
        yield Finetune(("mixes",), domains, 2, in_turn=True)


def _other_methods() -> Iterator[Finetune]:
    for domain in ("bible", "sql", "go", "c++"):
        yield Finetune(("methods",), (domain,), 1, method=Method.MERGE)
        yield Finetune(("methods",), (domain,), 2, method=Method.FULL, learning_rate=1e-4)


def _more_methods() -> Iterator[Finetune]:
    for domain in ("bible", "sql", "go", "c++"):
        yield Finetune(("methods",), (domain,), 2, method=Method.QUANTIZED, learning_rate=1e-4)
        yield Finetune(("methods",), (domain,), 1, method=Method.PREFERENCE)


def _rates() -> Iterator[Finetune]:
    """Yield finetunes at a third and three times the rate of the splits, alike in all else."""
    for rate in _RATES:
        for domain in _RESEEDED:
            yield Finetune(("rates",), (domain,), 1, learning_rate=rate)


def of_second_base() -> tuple[Finetune, ...]:
    """Return the finetunes of the second base: the splits of the domains that it was not pretrained on."""
    return tuple(
        replace(one, seed=number)
        for number, one in enumerate(_splits(_NAMES), start=1)
        if DOMAINS[one.domain].role is not Role.TRAIN
    )


def of_reuse() -> tuple[Finetune, ...]:
    """Return the finetunes of the domains of `Role.REUSE`, trained as the first splits were."""
    return _later(Role.REUSE, _REUSE_SEEDS)


def of_confirm() -> tuple[Finetune, ...]:
    """Return the finetunes of the domains of `Role.CONFIRM`, trained as the first splits were."""
    return _later(Role.CONFIRM, _CONFIRM_SEEDS)


def _later(role: Role, seeds: int) -> tuple[Finetune, ...]:
    names = [name for name, text in DOMAINS.items() if text.role is role]
    return tuple(replace(one, seed=number) for number, one in enumerate(_splits(names), start=seeds))
