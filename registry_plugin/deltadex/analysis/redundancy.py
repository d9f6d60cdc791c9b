"""Groups of redundant models, level by level, and which one of each to keep. Whatever came first never matters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from deltadex.analysis.calibration import Calibration
from deltadex.analysis.duplicates import connected_groups
from deltadex.analysis.near_duplicates import Pairs
from deltadex.analysis.similarity import cosine_similarity, unit_vectors
from deltadex.domain import FloatArray, VersionRow

#: Tag of a version that says how often it is used, such as requests per day: any number, higher is more.
USAGE_TAG = "deltadex.usage"


_MOST_SPLIT = 5_000
#: A number, higher is better, and what it means for people.
Score = tuple[float, str]


class Redundancy(StrEnum):
    """In what way versions are redundant, the strictest first. A version takes part in each level once at most.

    The keeper of a group stands for it on the levels below, so that no pair of versions is on two.
    """

    EXACT = "exact"
    SUPERSEDED = "superseded"
    NEAR = "near"
    SAME_TASK = "same_task"

    @property
    def words(self) -> str:
        """What people call it."""
        return "same weights" if self is Redundancy.EXACT else self.value.replace("_", " ")


@dataclass(frozen=True)
class Keeper:
    """The version of a group to keep: a proposal, with its reason."""

    version: VersionRow
    reason: str


@dataclass(frozen=True)
class Group:
    """Versions that are redundant with each other.

    Attributes
    ----------
    versions
        Two or more, the oldest first.
    lowest_similarity
        Cosine similarity of the two members that are furthest apart; below the threshold where a chain connects them.
    lowest_norm_ratio
        The smallest norm over the largest.
    freed_bytes
        What retiring all but the keeper frees; None where the size of none is known.
    owners
        Whose the versions are, as far as their tags say.
    """

    kind: Redundancy
    versions: tuple[VersionRow, ...]
    keeper: Keeper
    lowest_similarity: float
    lowest_norm_ratio: float
    freed_bytes: int | None
    owners: tuple[str, ...]


def redundant_groups(
    versions: Sequence[VersionRow],
    vectors: FloatArray,
    *,
    pairs: Pairs,
    calibration: Calibration,
    merged: Sequence[tuple[int, int]] = (),
    keeper_metric: str | None = None,
) -> list[Group]:
    """Return the groups of one recipe, strictest kind first, then the largest.

    Parameters
    ----------
    vectors
        `(n, d)`, those of the versions.
    pairs
        Rows that are known to be similar, of dtype `PAIR`.
    merged
        Rows of an adapter and of its merge.
    keeper_metric
        See `propose_keeper`.
    """
    near_at, task_at = calibration.near_similarity.value, calibration.same_task.value
    norms = np.linalg.norm(vectors, axis=1)
    one, other = norms[pairs["first"]], norms[pairs["second"]]
    is_as_long = np.minimum(one, other) >= calibration.near_norm_ratio.value * np.maximum(one, other)
    near = pairs[(pairs["similarity"] >= near_at) & is_as_long]
    models = np.array([_model(version) for version in versions], dtype=object)
    levels = _Levels(versions, vectors, keeper_metric)
    levels.join(Redundancy.EXACT, np.concatenate([_same_weights(versions), _rows(merged)]))
    levels.join(Redundancy.SUPERSEDED, _edges(near[models[near["first"]] == models[near["second"]]]))
    levels.join(Redundancy.NEAR, _edges(near))
    levels.join(Redundancy.SAME_TASK, _edges(pairs[pairs["similarity"] >= task_at]), split_at=task_at)
    order = list(Redundancy)
    return sorted(
        levels.groups, key=lambda group: (order.index(group.kind), -len(group.versions), _age(group.versions[0]))
    )


def propose_keeper(versions: Sequence[VersionRow], metric: str | None = None) -> Keeper:
    """Choose which version to keep: one with an alias, then the most used, then the best by a metric, then the newest.

    Parameters
    ----------
    metric
        A metric that the versions' runs log; with `-` in front lower is better. It decides only where all have it.
    """
    left, reasons = list(versions), []
    for criterion in (_in_use, _most_used, partial(_best, metric=metric)):
        scores = criterion(left)
        best = max(scores, key=lambda each: each[0])
        if any(score != best[0] for score, _ in scores):
            reasons.append(best[1])
            left = [version for version, (score, _) in zip(left, scores, strict=True) if score == best[0]]
    if len(left) > 1:
        reasons.append("the newest of those" if reasons else "the newest")
    return Keeper(max(left, key=_age), ", ".join(reasons))


def freed_bytes(retired: Sequence[VersionRow], kept: Sequence[VersionRow]) -> int | None:
    """Return what retiring versions frees; None where the size of none is known.

    Files that several versions share are counted once, and not at all where a version that is kept has them. A version
    that was copied within the registry (`models:/name/3`) has no files of its own.
    """
    in_use = {version.registered.source for version in kept}
    sizes = {version.registered.source: version.provenance.weights_bytes for version in retired}
    known = {source: size for source, size in sizes.items() if size is not None}
    own = {source: size for source, size in known.items() if source not in in_use and not _is_copy(source)}
    return sum(own.values()) if known else None


class _Levels:
    """Joins versions level by level; each group goes on as its keeper."""

    def __init__(self, versions: Sequence[VersionRow], vectors: FloatArray, keeper_metric: str | None) -> None:
        self.groups: list[Group] = []
        self._versions, self._vectors, self._metric = versions, vectors, keeper_metric
        self._leader = np.arange(len(versions))

    def join(self, kind: Redundancy, pairs: NDArray[np.int64], *, split_at: float | None = None) -> None:
        led = np.unique(self._leader[pairs].reshape(-1, 2), axis=0)
        for connected in connected_groups(map(tuple, led[led[:, 0] != led[:, 1]].tolist())):
            for members in [connected] if split_at is None else self._split(connected, split_at):
                models = {_model(self._versions[member]) for member in members}
                if len(members) > 1 and (len(models) > 1 or kind in (Redundancy.EXACT, Redundancy.SUPERSEDED)):
                    self._add(kind, sorted(members, key=lambda member: _age(self._versions[member])))

    def _add(self, kind: Redundancy, members: Sequence[int]) -> None:
        rows = tuple(self._versions[member] for member in members)
        keeper = propose_keeper(rows, self._metric)
        vectors = self._vectors[list(members)]
        norms = np.linalg.norm(vectors, axis=1)
        self.groups.append(
            Group(
                kind=kind,
                versions=rows,
                keeper=keeper,
                lowest_similarity=float(np.min(cosine_similarity(vectors))),
                lowest_norm_ratio=float(norms.min() / (norms.max() or 1.0)),
                freed_bytes=freed_bytes([row for row in rows if row.id != keeper.version.id], [keeper.version]),
                owners=tuple(sorted({name for row in rows if (name := row.registered.owner)})),
            )
        )
        leader = members[rows.index(keeper.version)]
        self._leader[np.isin(self._leader, members)] = leader

    def _split(self, members: Sequence[int], threshold: float) -> list[list[int]]:
        """Split what chains connect, by average linkage: every part is for the same task on average.

        What connects more than `_MOST_SPLIT` versions stays whole: linkage would need gigabytes.
        """
        if len(members) > _MOST_SPLIT:
            return [list(members)]
        rows = self._vectors[list(members)]
        # Linkage breaks ties by row order: only the content decides it.
        contents = [row.tobytes() for row in unit_vectors(rows) + 0.0]
        ordered = [members[row] for row in sorted(range(len(rows)), key=contents.__getitem__)]
        distance = 1 - cosine_similarity(self._vectors[ordered])
        tree = linkage(squareform(distance, checks=False), method="average")
        labels = fcluster(tree, t=1 - threshold, criterion="distance")
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


def _in_use(versions: Sequence[VersionRow]) -> list[Score]:
    aliases = [version.registered.aliases for version in versions]
    return [(float(bool(each)), f"in use as {', '.join(each)}") for each in aliases]


def _most_used(versions: Sequence[VersionRow]) -> list[Score]:
    usage = [_number(version.registered.tags.get(USAGE_TAG)) for version in versions]
    return [(each, f"used most ({each:g})") for each in usage]


def _best(versions: Sequence[VersionRow], *, metric: str | None) -> list[Score]:
    name = (metric or "").removeprefix("-")
    values = [version.provenance.metrics.get(name) for version in versions]
    sign = -1.0 if (metric or "").startswith("-") else 1.0
    if None in values:
        return [(0.0, "")] * len(values)
    return [(sign * value, f"best {name} ({value:g})") for value in values if value is not None]


def _number(text: str | None) -> float:
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _is_copy(source: str) -> bool:
    return source.startswith("models:/") and not source.startswith("models:/m-")


def _model(version: VersionRow) -> str:
    return version.registered.ref.name


def _age(version: VersionRow) -> tuple[int, str, int]:
    return version.registered.ref.age
