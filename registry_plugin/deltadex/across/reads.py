"""The nearest versions of other bases, and a map of all bases, for a viewer. Neighbours of hidden models are masked.

Similar by what they make likelier is not a duplicate: nothing here makes a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deltadex.access import Person
from deltadex.across import queries
from deltadex.across.meaning import comparable
from deltadex.across.queries import Coverage, MeaningTable
from deltadex.across.texts import MEANING_TEXTS
from deltadex.errors import DeltadexError
from deltadex.map.projection import project
from deltadex.store.database import Transaction
from deltadex.types import VersionRow
from deltadex.versions import reads as versions


@dataclass(frozen=True)
class Counterpart:
    """A version of another base, and its similarity of meaning."""

    version: VersionRow
    base_name: str
    similarity: float


@dataclass(frozen=True)
class Counterparts:
    """Nearest versions of other bases.

    Attributes
    ----------
    base_name
        Base of the version that was asked about; empty if its Delta Meaning is not known.
    nearest
        The most similar first.
    compared
        Number of versions of other bases that it was compared with.
    note
        What limits the answer; empty if nothing does.
    """

    base_name: str
    nearest: tuple[Counterpart, ...]
    compared: int
    note: str


@dataclass(frozen=True, eq=False)
class AcrossMap:
    """Finetunes of all bases in two dimensions, by Delta Meaning.

    Attributes
    ----------
    rows, base_names
        `n` versions, and the base of each.
    coordinates
        `(n, 2)`.
    """

    rows: tuple[VersionRow, ...]
    base_names: tuple[str, ...]
    coordinates: NDArray[np.float64]

    @property
    def bases(self) -> list[str]:
        """Names of the bases."""
        return sorted({*self.base_names})


def coverage(tx: Transaction, viewer: Person, registry: str) -> list[Coverage]:
    """Return how many versions of each base may be compared across bases, and of how many that is known, by its name.

    Bases that are hidden from the viewer have no name.
    """
    found = queries.coverage(tx, registry, texts_digest=MEANING_TEXTS.digest)
    shown = [replace(one, base_name=viewer.shown_address(one.base_name)) for one in found]
    return sorted(shown, key=astuple)


def counterparts(
    tx: Transaction, viewer: Person, registry: str, version_id: int, *, base: str | None = None, k: int = 10
) -> Counterparts:
    """Return the versions of other bases that are most similar to a version by Delta Meaning.

    A version that is hidden from the viewer has none.

    Parameters
    ----------
    base
        Name of the only other base to look at.

    Raises
    ------
    DeltadexError
        No version with a known Delta Meaning has this base.
    """
    table = _table(tx, viewer, registry)
    if base is not None and base not in table.base_names:
        raise DeltadexError(
            f"No version of {base} can be compared across bases",
            hint="`deltadex across` lists the bases; `deltadex across --update` computes what is missing.",
        )
    place = {row.id: number for number, row in enumerate(table.rows)}.get(version_id)
    if place is None or not versions.sees_versions(tx, viewer, version_id):
        return Counterparts("", (), 0, "It was not compared across bases yet: `deltadex across --update` does so.")
    vectors, uncentred = _vectors(table)
    similarity = vectors @ vectors[place]
    others = [
        number
        for number, (digest, name) in enumerate(zip(table.base_digests, table.base_names, strict=True))
        if digest != table.base_digests[place] and base in (None, name)
    ]
    nearest = sorted(others, key=lambda number: -similarity[number])[:k]
    found = tuple(
        Counterpart(viewer.view(table.rows[number]), table.base_names[number], float(similarity[number]))
        for number in nearest
    )
    seen = {table.base_digests[number] for number in (place, *others)}
    return Counterparts(table.base_names[place], found, len(others), _note(table, others, uncentred & seen))


def across_map(tx: Transaction, viewer: Person, registry: str) -> AcrossMap:
    """Return the map of all versions whose Delta Meaning is known; distances on it are not distances between models."""
    table = _table(tx, viewer, registry)
    return AcrossMap(tuple(viewer.view_each(table.rows)), table.base_names, project(_vectors(table)[0]))


def _table(tx: Transaction, viewer: Person, registry: str) -> MeaningTable:
    """Return the Delta Meanings with the rows of all versions, and without the names of hidden bases."""
    table = queries.table(tx, registry, texts_digest=MEANING_TEXTS.digest)
    return replace(table, base_names=tuple(map(viewer.shown_address, table.base_names)))


def _vectors(table: MeaningTable) -> tuple[NDArray[np.float64], frozenset[str]]:
    names = [row.registered.ref.name for row in table.rows]
    return comparable(table.texts, table.tokens, table.base_digests, names)


def _note(table: MeaningTable, others: Sequence[int], uncentred: frozenset[str]) -> str:
    if not others:
        return "No version of another base was compared across bases yet: `deltadex across --update` does so."
    names = sorted({name for name, one in zip(table.base_names, table.base_digests, strict=True) if one in uncentred})
    if names:
        return f"Few models of {', '.join(names)}: what all finetunes of a base share could not be subtracted."
    return ""
