"""Parallelograms: differences between two models that repeat as the same direction elsewhere.

In word embeddings `king - man` equals `queen - woman`: the difference has one meaning (arXiv 2410.19750). This module
tests if the step from version 1 to 2 repeats across registered models, and if a difference such as `dpo - sft` is the
same in every domain. Embeddings are compared as unit vectors, so that a change of strength is no direction, and
relative to the mean of their group, so that its domain is none either. The null are labels permuted within groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import comb, log2

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltadex.geometry.chance import (
    SIGNIFICANT,
    NumberByChance,
    Refusal,
    adjusted_for_their_number,
    content_order,
    generator,
    measured,
)
from deltadex.vectors import unit_vectors

#: With fewer permutations of the labels no p-value could fall below .01.
_FEWEST_PERMUTATIONS = 100
_FEWEST_GROUPS = 3
_DRAWS = 999

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Contrast:
    """A difference that is declared in several groups.

    Attributes
    ----------
    name
        For example `version 1 → 2`.
    rows
        `m` row numbers of the vectors.
    groups
        The group of each row: a registered model or a domain.
    changed
        True for rows on the right of the arrow. Groups that lack one of the two sides are left out.
    group_noun
        A noun for the groups, in the plural.
    """

    name: str
    rows: tuple[int, ...]
    groups: tuple[str, ...]
    changed: tuple[bool, ...]
    group_noun: str = "groups"


@dataclass(frozen=True)
class Parallelogram:
    """Measured agreement of one contrast's direction across groups.

    Attributes
    ----------
    name, group_noun
        See `Contrast`.
    groups, models
        Number of groups and of models that were measured.
    agreeing_groups
        Number of groups whose difference has a positive cosine similarity to that of all others.
    alignment
        Mean cosine similarity between a group's difference and that of all others: 1 in a perfect parallelogram.
    adjusted_p
        Its p-value, corrected for the number of contrasts (Benjamini and Hochberg 1995).
    """

    name: str
    group_noun: str
    groups: int
    models: int
    agreeing_groups: int
    alignment: NumberByChance
    adjusted_p: float

    @property
    def is_found(self) -> bool:
        """True if the direction agrees across groups more than chance explains."""
        return self.adjusted_p <= SIGNIFICANT

    @property
    def meaning(self) -> str:
        """One sentence on what the result means for the registry."""
        chance = f"{self.alignment.chance.low:.2f} to {self.alignment.chance.high:.2f} by chance"
        numbers = f"alignment {self.alignment.value:.2f}, {chance}, corrected p = {self.adjusted_p:.3f}"
        agreement = f"{self.agreeing_groups} of {self.groups} {self.group_noun} follow the others ({numbers})"
        if self.is_found:
            return f"{self.name} is one direction across {self.group_noun}: {agreement}."
        return f"{self.name} is not measurably a common direction: {agreement}."


def parallelograms(vectors: ArrayLike, contrasts: Sequence[Contrast]) -> tuple[Parallelogram | Refusal, ...]:
    """Measure each contrast; one with too few groups gives a refusal that states how many are needed.

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe. The result does not depend on the order of rows.
    contrasts
        The p-values are corrected for their number.
    """
    units = unit_vectors(vectors)
    found = [_parallelogram(units, contrast) for contrast in contrasts]
    measured_contrasts = [one for one in found if isinstance(one, Parallelogram)]
    adjusted = iter(adjusted_for_their_number([one.alignment.p_value for one in measured_contrasts]))
    return tuple(replace(one, adjusted_p=next(adjusted)) if isinstance(one, Parallelogram) else one for one in found)


@dataclass(frozen=True, eq=False)
class _Layout:
    """A contrast's rows, group after group.

    Attributes
    ----------
    starts
        First row of each group.
    changed
        `(m,)` bool.
    """

    rows: NDArray[np.intp]
    starts: NDArray[np.intp]
    changed: NDArray[np.bool_]

    @property
    def groups(self) -> list[slice]:
        return [slice(start, end) for start, end in pairwise([*self.starts.tolist(), len(self.rows)])]

    def sums(self, values: Matrix) -> Matrix:
        """Return the sum of each group's rows."""
        return np.add.reduceat(values, self.starts, axis=0)

    def centred(self, values: Matrix) -> Matrix:
        """Return the rows with the mean of their group subtracted."""
        sizes = np.diff([*self.starts, len(self.rows)])
        return values - np.repeat(self.sums(values) / sizes[:, None], sizes, axis=0)


def _parallelogram(units: Matrix, contrast: Contrast) -> Parallelogram | Refusal:
    layout = _layout(units, contrast)
    count, needed = len(layout.starts), _groups_needed(layout)
    if count < needed:
        return Refusal(contrast.name, f"{contrast.group_noun} with both sides", count, needed)
    rows = layout.centred(units[layout.rows])
    kernel, labels = rows @ rows.T, layout.centred(_labels(layout))
    cosines = _alignments(kernel, labels, layout)
    alignments = cosines.mean(axis=0)
    return Parallelogram(
        contrast.name,
        contrast.group_noun,
        groups=count,
        models=len(layout.rows),
        agreeing_groups=int((cosines[:, 0] > 0).sum()),
        alignment=measured(alignments[0], alignments[1:]),
        adjusted_p=1.0,
    )


def _layout(units: Matrix, contrast: Contrast) -> _Layout:
    both = {group for group, changed in zip(contrast.groups, contrast.changed, strict=True) if changed}
    both &= {group for group, changed in zip(contrast.groups, contrast.changed, strict=True) if not changed}
    used = [index for index, group in enumerate(contrast.groups) if group in both]
    rows = np.array([contrast.rows[index] for index in used], dtype=np.intp)
    groups = [contrast.groups[index] for index in used]
    changed = np.array([contrast.changed[index] for index in used], dtype=bool)
    order = content_order(units[rows], names=[f"{group}\0{side}" for group, side in zip(groups, changed, strict=True)])
    _, starts = np.unique(np.array(groups, dtype=object)[order].astype(str), return_index=True)
    return _Layout(rows[order], starts, changed[order])


def _groups_needed(layout: _Layout) -> int:
    """Return the number of such groups that is needed for `_FEWEST_PERMUTATIONS` permutations of the labels."""
    members = [layout.changed[group] for group in layout.groups]
    permutations = [comb(len(each), int(each.sum())) for each in members] or [2]
    # If both sides of every group are of equal size, swapping the sides everywhere gives the same score.
    is_symmetric = all(2 * each.sum() == len(each) for each in members)
    mean = sum(log2(each) for each in permutations) / len(permutations)
    return max(_FEWEST_GROUPS, int(np.ceil((log2(_FEWEST_PERMUTATIONS) + is_symmetric) / mean)))


def _labels(layout: _Layout) -> Matrix:
    """Return `(m, 1 + draws)`: the labels, then permutations of them within each group."""
    labels = np.repeat(layout.changed.astype(np.float64)[:, None], 1 + _DRAWS, axis=1)
    random = generator()
    for group in layout.groups:
        labels[group, 1:] = random.permuted(labels[group, 1:], axis=0)
    return labels


def _alignments(kernel: Matrix, labels: Matrix, layout: _Layout) -> Matrix:
    """Return `(groups, 1 + draws)`: cosine similarities of each group's difference with the sum of the others'."""
    sizes = np.diff([*layout.starts, len(layout.rows)])
    shares = labels / np.repeat(layout.sums(np.square(labels)), sizes, axis=0)
    with_all = layout.sums(shares * (kernel @ shares))
    own = np.concatenate(
        [
            np.sum(shares[group] * (kernel[group, group] @ shares[group]), axis=0, keepdims=True)
            for group in layout.groups
        ]
    )
    others = with_all.sum(axis=0) - 2 * with_all + own
    products = np.sqrt(np.maximum(own * others, 0))
    cosines: Matrix = np.divide(with_all - own, products, out=np.zeros_like(own), where=products > 0)
    return cosines
