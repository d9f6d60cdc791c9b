"""Groups of redundant models, level by level, and which one of each to keep. Whatever came first never matters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from deltadex.analysis.calibration import Calibration
from deltadex.analysis.duplicates import Pair, connected_groups, near_duplicate_pairs
from deltadex.analysis.similarity import cosine_similarity, unit_vectors
from deltadex.domain import FloatArray, VersionRow

#: Tag of a version that says how often it is used, such as requests per day: any number, higher is more.
USAGE_TAG = "deltadex.usage"


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
    versions: Sequence[VersionRow], vectors: FloatArray, *, calibration: Calibration, keeper_metric: str | None = None
) -> list[Group]:
    """Return the groups of one recipe, strictest kind first, then the largest.

    Parameters
    ----------
    vectors
        `(n, d)`, those of the versions.
    keeper_metric
        See `propose_keeper`.
    """
    levels = _Levels(versions, vectors, keeper_metric)
    levels.join(Redundancy.EXACT, _same_weights(versions))
    lowest = min(calibration.near_similarity.value, calibration.same_task.value)
    pairs = near_duplicate_pairs(vectors, lowest)
    ratios = np.linalg.norm(vectors, axis=1)
    near = [pair for pair in pairs if _is_near(pair, ratios, calibration)]
    one_model = [pair for pair in near if _model(versions[pair.first]) == _model(versions[pair.second])]
    levels.join(Redundancy.SUPERSEDED, ((pair.first, pair.second) for pair in one_model))
    levels.join(Redundancy.NEAR, ((pair.first, pair.second) for pair in near))
    task = calibration.same_task.value
    alike = [(pair.first, pair.second) for pair in pairs if pair.similarity >= task]
    levels.join(Redundancy.SAME_TASK, alike, split_at=task)
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

    def join(self, kind: Redundancy, pairs: Iterable[tuple[int, int]], *, split_at: float | None = None) -> None:
        led = {(int(self._leader[one]), int(self._leader[other])) for one, other in pairs}
        for connected in connected_groups(pair for pair in led if pair[0] != pair[1]):
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
        """Split what chains connect, by average linkage: every part is for the same task on average."""
        rows = self._vectors[list(members)]
        # Linkage breaks ties by row order: only the content decides it.
        contents = [row.tobytes() for row in unit_vectors(rows) + 0.0]
        ordered = [members[row] for row in sorted(range(len(rows)), key=contents.__getitem__)]
        distance = 1 - cosine_similarity(self._vectors[ordered])
        tree = linkage(squareform(distance, checks=False), method="average")
        labels = fcluster(tree, t=1 - threshold, criterion="distance")
        return [[ordered[row] for row in np.flatnonzero(labels == label)] for label in np.unique(labels)]


def _same_weights(versions: Sequence[VersionRow]) -> list[tuple[int, int]]:
    first: dict[str, int] = {}
    return [
        (first[row.weights_digest], position)
        for position, row in enumerate(versions)
        if row.weights_digest and first.setdefault(row.weights_digest, position) != position
    ]


def _is_near(pair: Pair, norms: NDArray[np.floating], calibration: Calibration) -> bool:
    low, high = sorted((float(norms[pair.first]), float(norms[pair.second])))
    ratio = low / (high or 1.0)
    return pair.similarity >= calibration.near_similarity.value and ratio >= calibration.near_norm_ratio.value


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
