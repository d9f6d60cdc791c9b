"""Neighbours by what is left of a version once the settings that it was trained with are taken out of it.

Two models of one task that were trained at other learning rates are far apart by the published method (silhouette .15
on such a pool, .29 so): docs/analyses.md. It is not better on every pool, so it answers only who asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deltadex.analysis.nuisance import Nuisance
from deltadex.analysis.similarity import unit_vectors
from deltadex.domain import VersionRow
from deltadex.errors import AnalysisError
from deltadex.store import embeddings
from deltadex.store.database import Transaction
from deltadex.store.embeddings import EmbeddingTable
from deltadex.store.search import Neighbor

#: Of different weights, with logged settings: this many, and so many for each setting, or value of one that is a name.
#: Fewer make neighbours worse than they are without, on subsets of the pools in docs/analyses.md.
FEWEST_VERSIONS, FEWEST_FOR_EACH = 12, 7
#: All are read at once: some 16 KB each at 2,048 dimensions, five times over.
MOST_VERSIONS = 10_000


@dataclass(frozen=True)
class Removed:
    """Neighbours without settings.

    Attributes
    ----------
    neighbors
        Closest first. Similarities of what is left: not to be compared with others, or with thresholds.
    compared, with_settings
        How many versions there are beside the one, and how many of different weights the settings were learned from.
    names
        The settings that differ among those.
    explained
        The share of the variance that they explain in versions left out. A small one, even a little below 0, may be
        what keeps models of one task apart: the rest is mostly what they learned.
    """

    neighbors: tuple[Neighbor, ...]
    compared: int
    with_settings: int
    names: tuple[str, ...]
    explained: float

    @property
    def basis(self) -> str:
        """What it rests on, in words."""
        return (
            f"removed: {', '.join(self.names)}; learned from {self.with_settings} of {self.compared} versions that "
            f"logged any, of whose variance they explain {self.explained:.1%}"
        )


def neighbors(
    tx: Transaction, registry: str, version: VersionRow, *, limit: int = 10, base: str | None = None
) -> Removed:
    """Return the versions that behave most like one, less what the others' training settings explain.

    Parameters
    ----------
    base
        Compare under this base model; None for the latest embedding.

    Raises
    ------
    AnalysisError
        Too few versions logged settings, or these don't differ, or this version logged none.
    """
    table = _table(tx, registry, version, base)
    place = next((at for at, row in enumerate(table.rows) if row.id == version.id), None)
    if place is None:
        raise AnalysisError(
            f"{version.label} has nothing to compare", hint=f"`deltadex status {version.label}` says why."
        )
    if not version.provenance.settings:
        raise AnalysisError(f"{version.label} has no training settings on record", hint=_HINT)
    settings = [row.provenance.settings for row in table.rows]
    learned = _learned_from(table, version)
    names = _differing([settings[at] for at in learned])
    known = [settings[at] for at in learned]
    found = Nuisance.fit(table.vectors[learned], known, names=names) if names else None
    needed = max(FEWEST_VERSIONS, FEWEST_FOR_EACH * len(found.movement)) if found else FEWEST_VERSIONS
    if found is None or len(learned) < needed:
        what = "versions of other weights with training settings on record"
        raise AnalysisError(
            f"Settings can't be told apart from what models learned: it takes {needed} {what}, and settings "
            f"that differ among them; there are {len(learned)}, and {', '.join(names) or 'none'} differ",
            hint=_HINT,
        )
    left = found.remove(table.vectors, settings)
    units = unit_vectors(left)
    similarity = units @ units[place]
    order = [at for at in np.argsort(-similarity, kind="stable").tolist() if at != place][:limit]
    return Removed(
        tuple(Neighbor(table.rows[at], float(similarity[at])) for at in order),
        compared=len(table.rows) - 1,
        with_settings=len(learned),
        names=names,
        explained=found.explained(table.vectors[learned], known),
    )


_HINT = "Log learning_rate, r, num_train_epochs … with the run, as trainers do; `deltadex retry` reads them again."


def _table(tx: Transaction, registry: str, version: VersionRow, base: str | None) -> EmbeddingTable:
    every = [one.recipe for one in embeddings.of_version(tx, version.id) if base in (None, one.recipe.base_name)]
    if not every:
        raise AnalysisError(f"{version.label} has no embedding", hint=f"`deltadex status {version.label}` says why.")
    if every[0].embedded > MOST_VERSIONS:
        raise AnalysisError(
            f"{every[0].embedded:,} versions of {every[0].base_name} are too many to take settings out of",
            hint=f"It is done in memory, for up to {MOST_VERSIONS:,}.",
        )
    return embeddings.table(tx, every[0].id, registry=registry)


def _learned_from(table: EmbeddingTable, version: VersionRow) -> list[int]:
    """Return the places of versions with settings: each weights once, and none of the version that is asked about."""
    first: dict[str, int] = {}
    for place, row in enumerate(table.rows):
        if row.provenance.settings:
            first.setdefault(row.weights_digest or row.label, place)
    first.pop(version.weights_digest or version.label, None)
    return list(first.values())


def _differing(settings: list[Mapping[str, float | str]]) -> tuple[str, ...]:
    names = sorted({name for each in settings for name in each})
    return tuple(name for name in names if len({each[name] for each in settings if name in each}) > 1)
