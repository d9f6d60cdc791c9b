"""Rules for duplicates and repeated tasks. Pure: thresholds are arguments, and stored with findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltadex.duplicates.all_pairs import Members, Pairs
from deltadex.findings.calibration import Calibration
from deltadex.types import Finding, FindingKind, VersionRow


@dataclass(frozen=True)
class Compared:
    """Another version of the recipe, compared with the judged version.

    Attributes
    ----------
    similarity
        Cosine similarity to the judged version.
    norm_ratio
        Smaller norm over the larger.
    """

    version: VersionRow
    similarity: float
    norm_ratio: float


def norm_ratio(one: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Return the smaller norm over the larger, elementwise; 0 if both are 0."""
    norms = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    larger = np.maximum(*norms)
    return np.divide(np.minimum(*norms), larger, out=np.zeros_like(larger), where=larger > 0)


def is_near(similarity: ArrayLike, ratio: ArrayLike, calibration: Calibration) -> NDArray[np.bool_]:
    """Return True if two versions are near duplicates, elementwise.

    Parameters
    ----------
    ratio
        Result of `norm_ratio`.
    """
    is_similar = np.asarray(similarity) >= calibration.near_similarity.value
    return np.asarray(is_similar & (np.asarray(ratio) >= calibration.near_norm_ratio.value))


def judge_pairs(
    version: VersionRow,
    same_weights: Iterable[VersionRow],
    neighbors: Iterable[Compared],
    *,
    calibration: Calibration,
    merged: Sequence[tuple[VersionRow, Mapping[str, object]]] = (),
) -> list[Finding]:
    """Return the duplicates of one version; a pair is exact or near, never both.

    Versions of one registered model are usually near duplicates: the later one supersedes the earlier one, which needs
    no decision. Such a pair is a finding only if the weights are equal.

    Parameters
    ----------
    same_weights
        Versions with the same weights digest.
    neighbors
        Versions of the same recipe.
    merged
        Merges of this version, adapters that it is a merge of, and quantized copies, each with the evidence.
    """
    evidence_of_merges = {other.id: evidence for other, evidence in merged}
    exact = {other.id: other for other in (*same_weights, *(other for other, _ in merged)) if other.id != version.id}
    found = [
        replace(
            _pair(FindingKind.EXACT_DUPLICATE, version, other),
            evidence=evidence_of_merges.get(other.id) or _same_files(version),
        )
        for other in exact.values()
    ]
    for one in neighbors:
        is_near_duplicate = is_near(one.similarity, one.norm_ratio, calibration) and one.version.id not in exact
        if is_near_duplicate and one.version.registered.ref.name != version.registered.ref.name:
            finding = _pair(FindingKind.NEAR_DUPLICATE, version, one.version)
            limit = calibration.near_similarity
            evidence = {
                "norm_ratio": one.norm_ratio,
                "lowest_norm_ratio": calibration.near_norm_ratio.value,
                "threshold_from": limit.note,
            }
            found.append(replace(finding, measure=one.similarity, threshold=limit.value, evidence=evidence))
    return sorted(found, key=lambda finding: (finding.kind, finding.version_id, finding.other_id))


def near_duplicates(pairs: Pairs, members: Members, *, calibration: Calibration) -> Pairs:
    """Return the near duplicates by the rule of `judge_pairs`. Merges are included: digests do not identify them.

    Parameters
    ----------
    pairs
        Pairs of rows of `members`.
    """
    one, other = members[pairs["first"]], members[pairs["second"]]
    is_other = (one["model"] != other["model"]) & (one["weights"] != other["weights"])
    near: Pairs = pairs[is_other & is_near(pairs["similarity"], norm_ratio(one["norm"], other["norm"]), calibration)]
    return near


def repeated_tasks(closest: Pairs, members: Members, *, calibration: Calibration) -> Pairs:
    """Return the pairs of a version and its closest older version of another model that are for the same task.

    There is at most one per version, since the pairs of a task grow with the square of its finetunes. A pair that is
    an exact or near duplicate is left out: it has that finding already.

    Parameters
    ----------
    closest
        Result of `PairSearch.closest`: pairs of rows of `members`.
    """
    one, other = members[closest["first"]], members[closest["second"]]
    ratio = norm_ratio(one["norm"], other["norm"])
    is_duplicate = is_near(closest["similarity"], ratio, calibration) | (one["weights"] == other["weights"])
    repeated: Pairs = closest[(closest["similarity"] >= calibration.same_task.value) & ~is_duplicate]
    return repeated


def _same_files(version: VersionRow) -> dict[str, object]:
    return {"weights_digest": version.weights_digest, "weights_bytes": version.provenance.weights_bytes}


def _pair(kind: FindingKind, one: VersionRow, other: VersionRow) -> Finding:
    older, newer = sorted((one, other), key=lambda version: version.registered.ref.age)
    return Finding(kind, version_id=newer.id, other_id=older.id)
