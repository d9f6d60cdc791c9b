"""Duplicates of a version that was just stored: read in a transaction, judged without one.

A version is compared only with its neighbours when it arrives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deltadex.checkpoints.merge_check import Imprint, merge_of
from deltadex.checkpoints.quantized_copy import QuantizedCopy, quantized_copy
from deltadex.duplicates import rules
from deltadex.duplicates.rules import Compared
from deltadex.embeddings import imprints
from deltadex.embeddings import queries as embeddings
from deltadex.findings.calibration import Calibration
from deltadex.search import neighbors as search
from deltadex.search.nearest import NEAREST
from deltadex.search.neighbors import Neighbor
from deltadex.store.database import Transaction
from deltadex.types import Finding, VersionRow

#: Lowest similarity of an adapter and its merge: what rounding does is small, whatever counts as near.
_MERGE_SIMILARITY = 0.95


@dataclass(frozen=True)
class DuplicateCandidates:
    """Versions that a version may duplicate.

    Attributes
    ----------
    same_weights
        Versions with the same weights digest, under any recipe.
    compared
        Nearest versions under its recipe; includes all that may be near duplicates, or merges.
    imprints
        Imprints by id, of the version, of those in `compared` that may be merges, and of `rounded`.
    rounded
        Versions that may be the same model, quantized, or its original.
    """

    same_weights: Sequence[VersionRow] = ()
    compared: Sequence[Compared] = ()
    imprints: Mapping[int, Imprint] = field(default_factory=dict)
    rounded: Sequence[VersionRow] = ()


def read_rivals(
    tx: Transaction, version: VersionRow, recipe_id: int, near: Sequence[Neighbor], *, calibration: Calibration
) -> DuplicateCandidates:
    """Read the versions that a version may duplicate.

    Parameters
    ----------
    near
        Result of `deltadex.search.nearest.nearest`.
    """
    limit = min(calibration.near_similarity.value, _MERGE_SIMILARITY)
    same = embeddings.same_weights(tx, version.id)
    if len(near) >= NEAREST and near[-1].similarity >= limit:
        near = search.neighbors(tx, version.id, k=None, min_similarity=limit).neighbors
    compared = _compared(tx, version, recipe_id, near)
    similar = [one.version.id for one in compared if one.similarity >= limit]
    # Rounding may move an embedding further than the near-duplicate similarity.
    near_ids = [one.version.id for one in compared]
    rounded = embeddings.ordered(tx, imprints.maybe_quantized_copies(tx, version.id, recipe_id, near_ids))
    sampled = {version.id, *similar, *(row.id for row in rounded)}
    found = imprints.of_versions(tx, recipe_id, sampled) if len(sampled) > 1 else {}
    return DuplicateCandidates(same, compared, found, rounded)


def judge_duplicates(version: VersionRow, rivals: DuplicateCandidates, *, calibration: Calibration) -> list[Finding]:
    """Return findings about the exact and near duplicates of a version."""
    merged = [*_merged(version, rivals), *_rounded(version, rivals)]
    return rules.judge_pairs(version, rivals.same_weights, rivals.compared, calibration=calibration, merged=merged)


def _merged(version: VersionRow, rivals: DuplicateCandidates) -> list[tuple[VersionRow, Mapping[str, object]]]:
    """Return the merges of this version and the adapters that it is a merge of, each with the evidence."""
    own = rivals.imprints.get(version.id)
    found: list[tuple[VersionRow, Mapping[str, object]]] = []
    for one in rivals.compared:
        other = rivals.imprints.get(one.version.id)
        merge = merge_of(own, other) if own and other else None
        if merge:
            share = f"{merge.equal:.2%} of {merge.moved} sampled changed weights are those of a merge"
            found.append((one.version, {"reason": f"an adapter and its merge in {merge.dtype}: {share}"}))
    return found


def quantized_copies(version: VersionRow, rivals: DuplicateCandidates) -> list[tuple[VersionRow, QuantizedCopy]]:
    """Return the versions that are this one, quantized, or its original, each with the evidence."""
    own = rivals.imprints.get(version.id)
    pairs = ((row, rivals.imprints.get(row.id)) for row in rivals.rounded)
    copies = ((row, quantized_copy(own, other)) for row, other in pairs if own and other)
    return [(row, copy) for row, copy in copies if copy]


def _rounded(version: VersionRow, rivals: DuplicateCandidates) -> list[tuple[VersionRow, Mapping[str, object]]]:
    return [
        (row, {"reason": str(copy), "bits": copy.bits, "relative_error": copy.error})
        for row, copy in quantized_copies(version, rivals)
    ]


def _compared(tx: Transaction, version: VersionRow, recipe_id: int, near: Sequence[Neighbor]) -> list[Compared]:
    norms = embeddings.norms(tx, recipe_id, [version.id, *(one.version.id for one in near)])
    own = norms.get(version.id, 0.0)
    return [
        Compared(one.version, one.similarity, float(rules.norm_ratio(own, norms[one.version.id])))
        for one in near
        if one.version.id in norms
    ]
