"""Usefulness of the three scales of the geometry, each beside a simpler rival, on the real pools.

The rule, committed before any model of `Role.REUSE` was scored, decides on the train and select domains:

- *galaxy* stays if its number of directions is nearer to the number of domains, over drawn registries of every set of
  pools, than the number of clusters is, and than one constant guess;
- *lobes* stay if they detect true tags more often, over registries of 10, 20 and 40 models, than a permutation test of
  the silhouette of the tag's values, with at most a tenth of the shuffled tags called true;
- *atoms* stay if a setting that was changed in every domain is found as one direction (corrected p of .05), another
  split of the same text is not, and more of the changed models find their domain once the direction of the other
  domains is subtracted. Their discriminant stays if it finds more of the changed settings than the plain mean cosine
  does, over drawn registries of eight domains with a pair each, and the two intervals are apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from deltadex.clusters.partition import cluster
from deltadex.geometry.atoms import Contrast, Parallelogram, parallelograms
from deltadex.geometry.galaxy import Galaxy, galaxy
from deltadex.geometry.lobes import Lobes, lobes
from deltadex.settings import ThresholdSettings
from deltadex.vectors import cosine_similarity, silhouettes, similarity_sums, unit_vectors

Matrix = NDArray[np.float64]
Chosen = Callable[[Finetune], bool]
_SIGNIFICANT, _PERMUTATIONS = 0.05, 199
_REGISTRIES = 60
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
    found: dict[str, object] = {}
    directions = Table("pools", "registries", "directions", "clusters", "constant", title=f"galaxy, {name}")
    directions.caption = "mean distance from the number of domains"
    there = {one.pools[0] for one in pool.models}
    for pools in (("splits",), ("splits", "settings"), ("splits", "settings", "own", "chat")):
        if not {*pools} <= there:
            continue
        errors = _domain_counts(pool, pools)
        directions.add_row(" ".join(pools), str(len(errors)), *(f"{error:.1f}" for error in errors.mean(0)))
        found[f"galaxy {' '.join(pools)}"] = errors.mean(0).tolist()
    console.print(directions)
    tags = Table("models", "shuffled", "lobes", "permuted silhouette", title=f"tags called true, {name}")
    for count, domains in ((10, 3), (20, 5), (40, 8)):
        for share in (0.0, 0.5, 1.0):
            both = [_share(hits) for hits in zip(*_tag_tests(pool, count, domains, share), strict=True)]
            tags.add_row(str(count), f"{share:.0%}", *map(str, both))
            found[f"lobes {count} {share}"] = [one.value for one in both]
    console.print(tags)
    atoms = Table(
        "change", "alignment", "p, corrected", "by discriminant", "in drawn registries", title=f"atoms, {name}"
    )
    contrasts = {change: _contrast(pool, *sides) for change, sides in (_CHANGES | _SAME).items()}
    for one in parallelograms(pool.units, [Contrast(change, *parts) for change, parts in contrasts.items()]):
        if not isinstance(one, Parallelogram):
            console.print(one.meaning)
            continue
        drawn = _drawn_contrasts(pool, *(_CHANGES | _SAME)[one.name])
        atoms.add_row(
            one.name,
            f"{one.alignment.value:.2f}",
            f"{one.alignment.p_value:.3f}",
            f"{one.adjusted_p:.3f}",
            " / ".join(map(str, drawn)),
        )
        found[one.name] = [one.alignment.p_value, one.adjusted_p, *(each.value for each in drawn)]
    console.print(atoms)
    for change, sides in _CHANGES.items():
        plain, without = _nearest(pool, *sides)
        console.print(f"nearest of their domain after {change}: {plain}; the others' direction subtracted: {without}")
        found[f"nearest, {change}"] = [plain.value, without.value]
    return found


def _domain_counts(pool: Pool, pools: Sequence[str]) -> Matrix:
    """Return `(registries, 3)` errors of directions, clusters and the constant, each for a drawn registry."""
    draw = np.random.default_rng(0)
    names = np.unique(pool.domains)
    constant = (3 + len(names)) / 2
    errors = []
    for count in (*range(3, len(names) + 1),) * 4:
        rows = _drawn(pool, draw, pools, count, lambda: int(draw.integers(3, 6)))
        shape = galaxy(pool.units[rows])
        labels = cluster(pool.units[rows], min_similarity=ThresholdSettings().cluster_similarity).labels
        if isinstance(shape, Galaxy):
            errors.append([abs(number - count) for number in (shape.directions, len({*labels} - {-1}), constant)])
    return np.array(errors, dtype=float)


def _drawn(
    pool: Pool, draw: np.random.Generator, pools: Sequence[str], count: int, size: Callable[[], int]
) -> list[int]:
    """Return finetunes of so many drawn domains, `size` of each or as many as there are."""
    domains = pool.domains
    inside = np.array([one.pools[0] in pools for one in pool.models])
    rows: list[int] = []
    for name in draw.choice(np.unique(domains), count, replace=False):
        of_domain = np.flatnonzero(inside & (domains == name))
        rows += draw.choice(of_domain, min(len(of_domain), size()), replace=False).tolist()
    return rows


def _tag_tests(pool: Pool, count: int, domains: int, shuffled: float) -> Iterator[tuple[bool, bool]]:
    """Yield what both tests say about the domain as a tag, shuffled among a share of the models."""
    draw = np.random.default_rng(0)
    for _ in range(_REGISTRIES):
        rows = _drawn(pool, draw, ("splits", "settings", "own", "chat"), domains, lambda: count // domains)
        tags = pool.domains[rows]
        moved = np.flatnonzero(draw.random(len(rows)) < shuffled)
        tags[moved] = tags[draw.permutation(moved)]
        answers = lobes(pool.units[rows], [{("tag domain", tag)} for tag in tags])
        by_lobes = [one.agreement.p_value for one in answers if isinstance(one, Lobes) and one.name == "tag domain"]
        similarity = cosine_similarity(pool.units[rows])
        yield bool(by_lobes and by_lobes[0] <= _SIGNIFICANT), _permuted(similarity, tags, draw) <= _SIGNIFICANT


def _permuted(similarity: Matrix, tags: NDArray[np.str_], draw: np.random.Generator) -> float:
    """Return the p-value of the silhouette of the tag's values."""
    numbers = np.unique(tags, return_inverse=True)[1].astype(np.int64)

    def silhouette(labels: NDArray[np.int64]) -> float:
        return float(silhouettes(similarity_sums(similarity, labels), labels).mean())

    own = silhouette(numbers)
    return (1 + sum(silhouette(draw.permutation(numbers)) >= own for _ in range(_PERMUTATIONS))) / (1 + _PERMUTATIONS)


def _contrast(
    pool: Pool, before: Chosen, after: Chosen
) -> tuple[tuple[int, ...], tuple[str, ...], tuple[bool, ...], str]:
    rows = pool.rows(lambda one: before(one) or after(one))
    changed = tuple(after(pool.models[row]) for row in rows)
    return tuple(map(int, rows)), tuple(map(str, pool.domains[rows])), changed, "domains"


def _drawn_contrasts(pool: Pool, before: Chosen, after: Chosen) -> tuple[Answer, Answer]:
    """Return how often a change is found with a pair in each of eight domains: by the alignment, the discriminant."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(_REGISTRIES):
        rows: list[int] = []
        groups: list[str] = []
        names = [name for name in np.unique(pool.domains) if _both(pool, name, before, after)]
        for name in draw.choice(names, min(8, len(names)), replace=False):
            rows += [int(draw.choice(side)) for side in _both(pool, name, before, after)]
            groups += [str(name)] * 2
        [one] = parallelograms(
            pool.units, [Contrast("drawn", tuple(rows), tuple(groups), (False, True) * (len(rows) // 2))]
        )
        if isinstance(one, Parallelogram):
            found.append([one.alignment.p_value <= _SIGNIFICANT, one.score.p_value <= _SIGNIFICANT])
    by_alignment, by_discriminant = zip(*found, strict=True) if found else ((), ())
    return _share(by_alignment), _share(by_discriminant)


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
