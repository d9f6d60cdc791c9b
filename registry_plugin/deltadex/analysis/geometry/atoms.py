"""The smallest scale: whether the difference between two models is the same direction elsewhere (a parallelogram).

Where `king - man` is `queen - woman`, the difference names one thing. Here: does the step from version 1 to 2 repeat
across registered models, is `dpo - sft` the same in every domain? Embeddings are compared as unit vectors, so that
"the same but stronger" is no direction, and within their group, so that its domain is none either.

Other directions in which models of one group differ hide a common one (arXiv 2410.19750, section 3): linear
discriminant analysis weighs them down. Fitted and scored on the same few points it finds a direction in anything, so
each group is scored by what was fitted to all others, and the whole beside the same with labels permuted within groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import comb, log2

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from deltadex.analysis.geometry.chance import SIGNIFICANT, Measured, Refusal, content_order, generator, measured
from deltadex.analysis.similarity import unit_vectors

#: With fewer ways to permute the labels no p-value could fall below .01.
_FEWEST_WAYS = 100
_FEWEST_GROUPS = 3
_DRAWS = 999
#: Shrinkage of the discriminant's covariance, in units of its mean variance.
_RIDGE = 0.1

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Contrast:
    """A difference that is declared in several groups.

    Attributes
    ----------
    name
        Such as `version 1 → 2`.
    rows
        `m` rows of the vectors.
    groups
        Which group each of them is in: a registered model, a domain.
    changed
        Whether it stands behind the arrow. Groups without both kinds say nothing and are left out.
    among
        What the groups are, in the plural.
    """

    name: str
    rows: tuple[int, ...]
    groups: tuple[str, ...]
    changed: tuple[bool, ...]
    among: str = "groups"


@dataclass(frozen=True)
class Parallelogram:
    """How far one contrast is the same direction in every group.

    Attributes
    ----------
    name, among
        The contrast's.
    groups, models
        How many of each it was measured on.
    told
        Groups in which the others' direction tells which models are the changed ones.
    score
        Agreement of the discriminant, fitted to the other groups, with each group's labels: within [-1, 1], around 0
        by chance.
    alignment
        Mean cosine similarity between a group's difference and that of all others, in the full space: 1 in a perfect
        parallelogram.
    adjusted_p
        The score's p-value, corrected for all contrasts that were asked about (Benjamini and Hochberg 1995).
    """

    name: str
    among: str
    groups: int
    models: int
    told: int
    score: Measured
    alignment: Measured
    adjusted_p: float

    @property
    def is_found(self) -> bool:
        """Whether the direction is more common than chance makes it."""
        return self.adjusted_p <= SIGNIFICANT

    @property
    def meaning(self) -> str:
        """Say in a sentence what it means for the registry."""
        numbers = f"score {self.score.value:.2f}, corrected p = {self.adjusted_p:.3f}"
        follow = f"{self.told} of {self.groups} {self.among} follow the others ({numbers})"
        if self.is_found:
            return f"{self.name} is one direction across {self.among}: {follow}."
        return f"{self.name} is no common direction, as far as can be told: {follow}."


def parallelograms(vectors: ArrayLike, contrasts: Sequence[Contrast]) -> tuple[Parallelogram | Refusal, ...]:
    """Measure each contrast, or say how many groups it takes.

    Parameters
    ----------
    vectors
        `(n, d)`, finite, all of one recipe. Their order changes nothing.
    contrasts
        What is asked about; the p-values are corrected for their number.
    """
    units = unit_vectors(vectors)
    found = [_parallelogram(units, contrast) for contrast in contrasts]
    answered = [one for one in found if isinstance(one, Parallelogram)]
    adjusted = iter(false_discovery_control([one.score.p_value for one in answered])) if answered else iter(())
    return tuple(
        replace(one, adjusted_p=float(next(adjusted))) if isinstance(one, Parallelogram) else one for one in found
    )


@dataclass(frozen=True, eq=False)
class _Layout:
    """A contrast's rows, group after group.

    Attributes
    ----------
    starts
        Where each group begins.
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
        """Add up the rows of each group."""
        return np.add.reduceat(values, self.starts, axis=0)

    def centred(self, values: Matrix) -> Matrix:
        """Take from each row the mean of its group."""
        sizes = np.diff([*self.starts, len(self.rows)])
        return values - np.repeat(self.sums(values) / sizes[:, None], sizes, axis=0)


def _parallelogram(units: Matrix, contrast: Contrast) -> Parallelogram | Refusal:
    layout = _layout(units, contrast)
    count, needed = len(layout.starts), _groups_needed(layout)
    if count < needed:
        return Refusal(contrast.name, f"{contrast.among} that hold both", count, needed)
    rows = layout.centred(units[layout.rows])
    kernel, labels = rows @ rows.T, layout.centred(_labels(layout))
    agreements = _left_out(kernel, labels, layout)
    scores = _ratio(agreements.mean(axis=0), np.sqrt(np.square(agreements).mean(axis=0)))
    alignments = _alignments(kernel, labels, layout)
    return Parallelogram(
        contrast.name,
        contrast.among,
        groups=count,
        models=len(layout.rows),
        told=int((agreements[:, 0] > 0).sum()),
        score=measured(scores[0], scores[1:]),
        alignment=measured(alignments[0], alignments[1:]),
        adjusted_p=1.0,
    )


def _layout(units: Matrix, contrast: Contrast) -> _Layout:
    both = {group for group, changed in zip(contrast.groups, contrast.changed, strict=True) if changed}
    both &= {group for group, changed in zip(contrast.groups, contrast.changed, strict=True) if not changed}
    kept = [place for place, group in enumerate(contrast.groups) if group in both]
    rows = np.array([contrast.rows[place] for place in kept], dtype=np.intp)
    groups = [contrast.groups[place] for place in kept]
    changed = np.array([contrast.changed[place] for place in kept], dtype=bool)
    order = content_order(units[rows], names=[f"{group}\0{late}" for group, late in zip(groups, changed, strict=True)])
    _, starts = np.unique(np.array(groups, dtype=object)[order].astype(str), return_index=True)
    return _Layout(rows[order], starts, changed[order])


def _groups_needed(layout: _Layout) -> int:
    """Return how many groups like these it takes until the labels can be permuted in enough ways."""
    members = [layout.changed[group] for group in layout.groups]
    ways = [comb(len(each), int(each.sum())) for each in members] or [2]
    # Where each group has as many of both kinds, swapping the two names everywhere is no other way.
    swapped = all(2 * each.sum() == len(each) for each in members)
    mean = sum(log2(each) for each in ways) / len(ways)
    return max(_FEWEST_GROUPS, int(np.ceil((log2(_FEWEST_WAYS) + swapped) / mean)))


def _labels(layout: _Layout) -> Matrix:
    """Return `(m, 1 + draws)`: the labels, then permutations of them within each group."""
    labels = np.repeat(layout.changed.astype(np.float64)[:, None], 1 + _DRAWS, axis=1)
    random = generator()
    for group in layout.groups:
        labels[group, 1:] = random.permuted(labels[group, 1:], axis=0)
    return labels


def _left_out(kernel: Matrix, labels: Matrix, layout: _Layout) -> Matrix:
    """Return `(groups, 1 + draws)`: how far the discriminant of all other groups separates each group's labels.

    Least squares on centred labels gives the direction of the discriminant, and the residual of a left-out block is
    that of the whole fit divided by its block of the inverse (Rifkin and Lippert 2007): one inversion serves all.
    """
    inverse = np.linalg.inv(
        kernel + _RIDGE * max(np.trace(kernel), np.finfo(float).tiny) / len(kernel) * np.eye(len(kernel))
    )
    residuals = inverse @ labels
    for group in layout.groups:
        residuals[group] = np.linalg.solve(inverse[group, group], residuals[group])
    return layout.sums(labels * (labels - residuals)) / layout.sums(np.square(labels))


def _alignments(kernel: Matrix, labels: Matrix, layout: _Layout) -> Matrix:
    """Return `(1 + draws,)`: the mean cosine similarity of each group's difference with the sum of the others'."""
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
    cosines: Matrix = _ratio(with_all - own, np.sqrt(np.maximum(own * others, 0))).mean(axis=0)
    return cosines


def _ratio(one: Matrix, by: Matrix) -> Matrix:
    return np.divide(one, by, out=np.zeros_like(one), where=by > 0)
