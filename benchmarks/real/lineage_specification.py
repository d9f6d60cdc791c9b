"""Finetunes with known parents, others that only look related, and merges, as data."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.real.pools import Finetune, Method, finetunes, of_reuse
from benchmarks.real.texts import DOMAINS, Role

_FULL = {"method": Method.FULL, "learning_rate": 1e-4}
_FEW = 6
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
        """A name of its own."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:24]

    @property
    def is_full(self) -> bool:
        """True if all weights were trained."""
        return self.made.method is Method.FULL


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
    yield from _full_families(parents[::4], seed=5_300)


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
        if number % 4 < 2 or len(parents) < _FEW:
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


#: Merges of each method: few for choosing, more for the test.
_COUNTS = {False: {"linear": 3, "cat": 2, "ties": 3, "dare_linear": 2, "svd": 2, "full": 2},
           True: {"linear": 12, "cat": 8, "ties": 8, "dare_linear": 6, "svd": 6, "full": 4}}  # fmt: skip
_MIXES = ((0.5, 0.5), (0.7, 0.3), (0.4, 0.3, 0.3), (0.25, 0.25, 0.25, 0.25))


@dataclass(frozen=True)
class KnownMerge:
    """A merge and its parents."""

    method: str
    parents: tuple[Finetune | Descendant, ...]
    weights: tuple[float, ...]

    @property
    def name(self) -> str:
        """A name of its own."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:24]


def known_merges(*, reuse: bool) -> Iterator[KnownMerge]:
    """Yield merges of two to four finetunes, of one domain or several."""
    roles = (Role.REUSE,) if reuse else (Role.TRAIN, Role.SELECT)
    pool = of_reuse() if reuse else finetunes()
    adapters = [one for one in pool if one.pools == ("splits",) and DOMAINS[one.domain].role in roles]
    fulls = [one for one in descendants(reuse=reuse) if one.made.method is Method.FULL and one.parent is None]
    draw = random.Random(f"merges {reuse}")  # noqa: S311 - no secret
    for method, count in _COUNTS[reuse].items():
        for number in range(count):
            weights = _MIXES[number % (2 if method == "full" else len(_MIXES))]
            parents: Sequence[Finetune | Descendant] = fulls if method == "full" else adapters
            yield KnownMerge(method, tuple(draw.sample(list(parents), len(weights))), weights)
