"""Differences that repeat, on the real pools: found for a changed setting, not for another split of the same text.

The rule by which this part of the geometry stays and the larger scales went, with their measurements, is the docstring
and the code of this file in commit 8189298; it was committed before any model of `Role.REUSE` was scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.real.measured import VECTORS, Measured, load, save
from benchmarks.real.pools import Finetune, Template, of_reuse
from benchmarks.real.recipes import PRODUCTS, RECIPES
from benchmarks.real.scores import Answer, _share
from benchmarks.real.texts import DOMAINS, Role
from deltadex.geometry.atoms import Contrast, Parallelogram, parallelograms
from deltadex.geometry.chance import SIGNIFICANT
from deltadex.vectors import unit_vectors

Matrix = NDArray[np.float64]
Chosen = Callable[[Finetune], bool]
_REGISTRIES, _DRAWN = 60, 8
#: The committed vectors of the finetunes of `Role.REUSE`.
_FILE = Path(__file__).with_name("geometry.npz")
#: Seeds of those in the chat template begin after this one.
_LATER = 5_000


@dataclass(frozen=True, eq=False)
class Pool:
    """Finetunes of one domain each, and their unit vectors `(n, d)`."""

    models: tuple[Finetune, ...]
    units: Matrix

    @classmethod
    def of(cls, measured: Measured, roles: Sequence[Role]) -> Pool:
        """Keep the finetunes of domains of some roles."""
        kept = [n for n, one in enumerate(measured.models) if len(one.domains) == 1 and _role(one) in roles]
        vectors = RECIPES[PRODUCTS](measured.readings)
        return cls(tuple(measured.models[number] for number in kept), unit_vectors(vectors[kept]))

    @property
    def domains(self) -> NDArray[np.str_]:
        """`(n,)`: domain of each finetune."""
        return np.array([one.domain for one in self.models])

    def rows(self, is_chosen: Chosen) -> NDArray[np.intp]:
        """Return the numbers of some finetunes."""
        return np.flatnonzero([is_chosen(one) for one in self.models])


def _role(one: Finetune) -> Role:
    return DOMAINS[one.domain].role


def _in(pool: str, part: int | None = None) -> Chosen:
    return lambda one: one.pools == (pool,) and part in (None, one.part)


#: Changes of a setting in every domain, and other splits of the same text with the same settings.
_CHANGES: dict[str, tuple[Chosen, Chosen]] = {
    "neutral → own template": (_in("splits"), _in("own")),
    "neutral → chat template": (_in("splits"), _in("chat")),
    "splits → lower rate": (_in("splits"), lambda one: one.pools == ("settings",) and one.learning_rate < 1e-3),
}
_SAME: dict[str, tuple[Chosen, Chosen]] = {
    "first → second split": (_in("splits", 0), _in("splits", 1)),
    "second → third split": (_in("splits", 1), _in("splits", 2)),
}


def models() -> tuple[Finetune, ...]:
    """Return the finetunes of `Role.REUSE`: the splits, and one in the chat template of every domain."""
    names = dict.fromkeys(one.domain for one in of_reuse())
    others = [
        Finetune(("chat",), (name,), 1, template=Template.CHAT, seed=_LATER + number)
        for number, name in enumerate(names)
    ]
    return (*of_reuse(), *others)


def report(folder: Path, console: Console, *, quick: bool) -> dict[str, object]:
    """Print the comparisons, and return them.

    Parameters
    ----------
    folder
        Folder of the models, which are trained if they were not before.
    quick
        Score the committed vectors.
    """
    if not quick:
        _measure(folder)
    pools = {
        "train and select": Pool.of(load(VECTORS), (Role.TRAIN, Role.SELECT)),
        "reuse": Pool.of(load(_FILE), (Role.REUSE,)),
    }
    return {name: _report(pool, name, console) for name, pool in pools.items()}


def _measure(folder: Path) -> None:
    # They import torch, which scoring does not need.
    from benchmarks.real.content import ContentReader
    from benchmarks.real.training import Workshop
    from deltadex.demo import training

    reader = ContentReader(Workshop.of_smollm2(folder))
    with training.quiet():
        vectors = [reader.delta(one) for one in models()]
    save(_FILE, Measured(models(), {"wrapped_mean": np.stack(vectors)}, {}))


def _report(pool: Pool, name: str, console: Console) -> dict[str, object]:
    table = Table(
        "change", "groups", "alignment", "by chance", "p", "found in drawn registries", title=f"changes, {name}"
    )
    found: dict[str, object] = {}
    for change, sides in {**_CHANGES, **_SAME}.items():
        [one] = parallelograms(pool.units, [Contrast(change, *_contrast(pool, *sides))])
        if isinstance(one, Parallelogram):
            chance, drawn = one.alignment.chance, _drawn_contrasts(pool, *sides)
            numbers = f"{one.alignment.value:.2f}", f"{chance.low:.2f} to {chance.high:.2f}"
            table.add_row(change, str(one.groups), *numbers, f"{one.alignment.p_value:.3f}", str(drawn))
            found[change] = {"alignment": one.alignment.value, "p": one.alignment.p_value, "found": drawn.value}
    console.print(table)
    for change, sides in _CHANGES.items():
        plain, without = _nearest(pool, *sides)
        if plain.hits:
            console.print(f"{change}, nearest of its domain: {plain}; the others' difference subtracted: {without}")
            found[f"nearest, {change}"] = [plain.value, without.value]
    return found


def _contrast(
    pool: Pool, before: Chosen, after: Chosen
) -> tuple[tuple[int, ...], tuple[str, ...], tuple[bool, ...], str]:
    rows = pool.rows(lambda one: before(one) or after(one))
    changed = tuple(after(pool.models[row]) for row in rows)
    return tuple(map(int, rows)), tuple(map(str, pool.domains[rows])), changed, "domains"


def _drawn_contrasts(pool: Pool, before: Chosen, after: Chosen) -> Answer:
    """Return how often a change is found with a pair in each of eight drawn domains."""
    draw = np.random.default_rng(0)
    names = [name for name in np.unique(pool.domains) if _both(pool, name, before, after)]
    found = []
    for _ in range(_REGISTRIES):
        drawn = draw.choice(names, min(_DRAWN, len(names)), replace=False)
        rows = tuple(int(draw.choice(side)) for name in drawn for side in _both(pool, name, before, after))
        groups = tuple(str(name) for name in drawn for _ in range(2))
        [one] = parallelograms(pool.units, [Contrast("drawn", rows, groups, (False, True) * len(drawn))])
        if isinstance(one, Parallelogram):
            found.append(one.alignment.p_value <= SIGNIFICANT)
    return _share(found)


def _both(pool: Pool, name: str, before: Chosen, after: Chosen) -> list[NDArray[np.intp]]:
    """Return the finetunes of a domain on each side; empty if one side is."""
    sides = [[row for row in pool.rows(side) if pool.models[row].domain == name] for side in (before, after)]
    return [np.array(side) for side in sides] if all(sides) else []


def _nearest(pool: Pool, before: Chosen, after: Chosen) -> tuple[Answer, Answer]:
    """Return how many changed models find a split of their domain, and how many less the others' mean difference."""
    names = [name for name in np.unique(pool.domains) if _both(pool, name, before, after)]
    sides = {name: _both(pool, name, before, after) for name in names}
    differences = {name: pool.units[new].mean(0) - pool.units[old].mean(0) for name, (old, new) in sides.items()}
    splits = pool.rows(_in("splits"))
    hits = []
    for name in names:
        shared = np.mean([difference for other, difference in differences.items() if other != name], axis=0)
        for row in sides[name][1]:
            possible = np.array([each for each in splits if pool.models[each].part != pool.models[row].part])
            vectors = np.stack([pool.units[row], pool.units[row] - shared])
            best = possible[np.argmax(vectors @ pool.units[possible].T, axis=1)]
            hits.append(pool.domains[best] == name)
    plain, without = zip(*hits, strict=True) if hits else ((), ())
    return _share(plain), _share(without)
