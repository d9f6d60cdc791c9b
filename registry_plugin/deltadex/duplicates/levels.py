"""Groups of redundant models, level by level, each with a proposal. The order of arrival does not matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from deltadex.duplicates.all_pairs import Pairs
from deltadex.duplicates.group import Group, Redundancy, group_of
from deltadex.duplicates.keeper import Policy, Standing, propose
from deltadex.duplicates.pairs import connected_groups
from deltadex.duplicates.rules import is_near, norm_ratio
from deltadex.findings.calibration import Calibration
from deltadex.types import FloatArray, VersionRow
from deltadex.vectors import average_linkage, canonical_order, cosine_similarity, cut_tree

_MOST_SPLIT = 5_000
_DEFAULT_POLICY = Policy()


def redundant_groups(
    versions: Sequence[VersionRow],
    vectors: FloatArray,
    *,
    pairs: Pairs,
    calibration: Calibration,
    merged: Sequence[tuple[int, int]] = (),
    standings: Mapping[int, Standing] | None = None,
    policy: Policy = _DEFAULT_POLICY,
) -> list[Group]:
    """Return the groups of one recipe, the strictest level first, then the largest group.

    Parameters
    ----------
    vectors
        `(n, d)` vectors of the versions.
    pairs
        Pairs of similar rows, of dtype `PAIR`.
    merged
        Pairs of rows: an adapter and its merge.
    standings, policy
        See `propose`.
    """
    task_at = calibration.same_task.value
    norms = np.linalg.norm(vectors, axis=1)
    ratio = norm_ratio(norms[pairs["first"]], norms[pairs["second"]])
    near = pairs[is_near(pairs["similarity"], ratio, calibration)]
    levels = _Levels(versions, vectors, standings or {}, policy)
    models = levels.models
    levels.join(Redundancy.EXACT, np.concatenate([_same_weights(versions), _rows(merged)]))
    levels.join(Redundancy.SUPERSEDED, _edges(near[models[near["first"]] == models[near["second"]]]))
    levels.join(Redundancy.NEAR, _edges(near))
    levels.join(Redundancy.SAME_TASK, _edges(pairs[pairs["similarity"] >= task_at]), split_at=task_at)
    order = list(Redundancy)
    return sorted(
        levels.groups,
        key=lambda group: (order.index(group.kind), -len(group.versions), group.versions[0].registered.ref.age),
    )


class _Levels:
    """Groups versions level by level; the best version of a group represents it on the next level."""

    def __init__(
        self, versions: Sequence[VersionRow], vectors: FloatArray, standings: Mapping[int, Standing], policy: Policy
    ) -> None:
        self.groups: list[Group] = []
        self._versions, self._vectors = versions, vectors
        self._standings, self._policy = standings, policy
        self._leader = np.arange(len(versions))
        self.models = np.array([version.registered.ref.name for version in versions], dtype=object)

    def join(self, kind: Redundancy, pairs: NDArray[np.int64], *, split_at: float | None = None) -> None:
        edges = np.unique(self._leader[pairs].reshape(-1, 2), axis=0)
        edges = edges[edges[:, 0] != edges[:, 1]]
        if kind is Redundancy.SUPERSEDED:  # a version of another model may stand for one of the two: that is `NEAR`
            edges = edges[self.models[edges[:, 0]] == self.models[edges[:, 1]]]
        for connected in connected_groups(map(tuple, edges.tolist())):
            for members in [connected] if split_at is None else self._split(connected, split_at):
                models = {*self.models[list(members)]}
                if len(members) > 1 and (len(models) > 1 or kind in (Redundancy.EXACT, Redundancy.SUPERSEDED)):
                    self._add(kind, sorted(members, key=lambda member: self._versions[member].registered.ref.age))

    def _add(self, kind: Redundancy, members: Sequence[int]) -> None:
        rows = tuple(self._versions[member] for member in members)
        proposal, best = propose(rows, self._standings, self._policy)
        vectors = self._vectors[list(members)]
        norms = np.linalg.norm(vectors, axis=1)
        similarity, ratio = float(np.min(cosine_similarity(vectors))), float(norm_ratio(norms.min(), norms.max()))
        self.groups.append(group_of(kind, rows, proposal, similarity=similarity, ratio=ratio))
        leader = members[rows.index(best)]
        self._leader[np.isin(self._leader, members)] = leader

    def _split(self, members: Sequence[int], threshold: float) -> list[list[int]]:
        """Split a connected component by average linkage, so that each part has this mean similarity.

        A component of more than `_MOST_SPLIT` versions is not split: linkage would need gigabytes.
        """
        if len(members) > _MOST_SPLIT:
            return [list(members)]
        # Linkage breaks ties by row order: make that depend on the content only.
        ordered = [members[row] for row in canonical_order(self._vectors[list(members)])]
        tree = average_linkage(cosine_similarity(self._vectors[ordered]))
        labels = cut_tree(tree, 1 - threshold)
        return [[ordered[row] for row in np.flatnonzero(labels == label)] for label in np.unique(labels)]


def _same_weights(versions: Sequence[VersionRow]) -> NDArray[np.int64]:
    first: dict[str, int] = {}
    same = [
        (first[row.weights_digest], position)
        for position, row in enumerate(versions)
        if row.weights_digest and first.setdefault(row.weights_digest, position) != position
    ]
    return _rows(same)


def _rows(pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _edges(pairs: Pairs) -> NDArray[np.int64]:
    return np.column_stack([pairs["first"], pairs["second"]])
