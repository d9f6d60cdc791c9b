"""A group of redundant versions, with its proposal. Needs no vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from deltadex.duplicates.keeper import Policy, Proposal, Standing, propose
from deltadex.types import VersionRow


class Redundancy(StrEnum):
    """Levels of redundancy, the strictest first. A version is in at most one group per level.

    Only one version of a group takes part in the levels below, so no pair of versions is on two levels.
    """

    EXACT = "exact"
    SUPERSEDED = "superseded"
    NEAR = "near"
    SAME_TASK = "same_task"

    @property
    def words(self) -> str:
        """Name of the level, for display."""
        return "same weights" if self is Redundancy.EXACT else self.value.replace("_", " ")

    @property
    def verb(self) -> str:
        """Verb for the versions that aren't kept: two models of one task may still answer differently."""
        return "compare, then retire" if self is Redundancy.SAME_TASK else "retire"


@dataclass(frozen=True)
class Group:
    """Versions that are redundant with each other.

    Attributes
    ----------
    versions
        Two or more, the oldest first.
    lowest_similarity
        Lowest cosine similarity of two members; below the threshold if only a chain of pairs connects them.
    lowest_norm_ratio
        Smallest norm over the largest.
    freed_bytes
        Bytes that the proposal frees; None if nothing is proposed, or no size is known.
    owners
        Owners of the versions, from their tags.
    """

    kind: Redundancy
    versions: tuple[VersionRow, ...]
    proposal: Proposal
    lowest_similarity: float
    lowest_norm_ratio: float
    freed_bytes: int | None
    owners: tuple[str, ...]

    def role_of(self, row: VersionRow) -> str:
        """Return what is proposed for a version of the group, in words; empty if nothing is."""
        if self.proposal.keeper is not None and row.id == self.proposal.keeper.id:
            return "keep"
        is_retired = any(row.id == each.id for each in self.proposal.retired)
        return self.kind.verb if is_retired else self.proposal.spared.get(row.id, "")


def group_of(
    kind: Redundancy, rows: tuple[VersionRow, ...], proposal: Proposal, *, similarity: float, ratio: float
) -> Group:
    """Return the group of versions, the oldest first, with a proposal."""
    away = {row.id for row in proposal.retired}
    stay = [row for row in rows if row.id not in away]
    return Group(
        kind=kind,
        versions=rows,
        proposal=proposal,
        lowest_similarity=similarity,
        lowest_norm_ratio=ratio,
        freed_bytes=freed_bytes(proposal.retired, stay) if proposal.retired else None,
        owners=tuple(sorted({name for row in rows if (name := row.registered.owner)})),
    )


def exact_group(versions: Sequence[VersionRow], standings: Mapping[int, Standing], policy: Policy) -> Group:
    """Return the group of versions with equal weights, which needs no vectors."""
    rows = tuple(sorted(versions, key=lambda row: row.registered.ref.age))
    proposal, _ = propose(rows, standings, policy)
    return group_of(Redundancy.EXACT, rows, proposal, similarity=1.0, ratio=1.0)


def freed_bytes(retired: Sequence[VersionRow], kept: Sequence[VersionRow]) -> int | None:
    """Return the bytes that retiring versions frees; None if no size is known.

    Files that several versions share are counted once, and not at all if a kept version uses them. A version that was
    copied within the registry (`models:/name/3`) has no files of its own.
    """
    in_use = {version.registered.source for version in kept}
    sizes = {version.registered.source: version.provenance.weights_bytes for version in retired}
    known = {source: size for source, size in sizes.items() if size is not None}
    own = {source: size for source, size in known.items() if source not in in_use and not _is_copy(source)}
    return sum(own.values()) if known else None


def _is_copy(source: str) -> bool:
    return source.startswith("models:/") and not source.startswith("models:/m-")
