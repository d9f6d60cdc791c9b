"""Methods of merging, what each needs, and their weights by default."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class MergeMethod(StrEnum):
    """Methods of merging: the combination types of peft's `add_weighted_adapter`, of which mergekit has some."""

    CAT = "cat"
    SVD = "svd"
    LINEAR = "linear"
    TIES = "ties"
    DARE_TIES = "dare_ties"
    DARE_LINEAR = "dare_linear"
    MAGNITUDE_PRUNE = "magnitude_prune"
    TIES_SVD = "ties_svd"
    DARE_TIES_SVD = "dare_ties_svd"
    DARE_LINEAR_SVD = "dare_linear_svd"
    MAGNITUDE_PRUNE_SVD = "magnitude_prune_svd"

    @property
    def needs_equal_ranks(self) -> bool:
        """True if peft merges the factors of adapters one by one, which must then have one rank."""
        return self is not MergeMethod.CAT and not self.endswith("svd")

    @property
    def prunes(self) -> bool:
        """True if the method keeps only a share of the entries: the density."""
        return self not in (MergeMethod.CAT, MergeMethod.SVD, MergeMethod.LINEAR)

    @property
    def is_sum(self) -> bool:
        """True if the merge's update is the weighted sum of the parents', exactly or at a smaller rank."""
        return self in (MergeMethod.CAT, MergeMethod.SVD)

    @property
    def for_full_models(self) -> str | None:
        """Name of the method in mergekit; None if it has none."""
        return _MERGEKIT.get(self)

    def default_weights(self, count: int) -> tuple[float, ...]:
        """Return equal weights. TIES takes a mean over the parents that agree by itself."""
        return (1.0 if "ties" in self else 1 / count,) * count

    def as_of_a_sum(self, weights: Sequence[float]) -> tuple[float, ...]:
        """Return the weights of the sum that comes closest to the merge: TIES divides by the parents that agree."""
        return tuple(one / len(weights) for one in weights) if "ties" in self else tuple(weights)


#: A weighted sum of the differences from the base, and how each of its entries is pruned.
_MERGEKIT = {
    MergeMethod.LINEAR: "task_arithmetic",
    MergeMethod.TIES: "ties",
    MergeMethod.DARE_TIES: "dare_ties",
    MergeMethod.DARE_LINEAR: "dare_linear",
}
