"""Sentences about a version's origin that a graph cannot show: its base, and steps that are no training on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deltadex.access import Person
from deltadex.checkpoints.sketch import Sketch
from deltadex.lineage import queries
from deltadex.lineage import sketch_queries as sketches
from deltadex.lineage.base import BaseVerdict, MeasuredBase, measured_base
from deltadex.lineage.graph import p_in_words
from deltadex.lineage.kinship import SIGNIFICANT, aligned, independence
from deltadex.store.database import Transaction
from deltadex.versions.queries import by_ids
from deltadex.versions.reads import sees_versions


def base_and_remarks(tx: Transaction, viewer: Person, version_id: int) -> tuple[MeasuredBase | None, tuple[str, ...]]:
    """Return the measured base of a version, None if it has no sketch, and sentences for people.

    Bases that are hidden from the viewer have no name.
    """
    if not sees_versions(tx, viewer, version_id):
        return None, ()
    own = sketches.of_versions(tx, [version_id]).get(version_id)
    if own is None:
        return None, ("Origin not measured: no sample of the weights is stored. `deltadex retry` takes one.",)
    bases = sketches.bases(tx, version_id)
    found, declared = measured_base(own, bases), viewer.shown_address(next(iter(bases), ""))
    shown = tuple(map(viewer.shown_address, found.consistent))
    found = replace(found, name=viewer.shown_address(found.name), consistent=shown)
    return found, (_of_base(found, own, declared), *_new_beginnings(tx, version_id))


def _of_base(found: MeasuredBase, own: Sketch, declared: str) -> str:
    if found.verdict is BaseVerdict.CONFIRMED and found.p is not None:
        return f"Base by the weights: {found.name}, as declared ({p_in_words(found.p)} for an independent training)."
    if found.verdict is BaseVerdict.ANOTHER and found.p is not None:
        return f"Base by the weights: {found.name}, not {declared} as declared ({p_in_words(found.p)})."
    count = len(found.consistent)
    shapes = f"{count} known {'base has' if count == 1 else 'bases have'} matrices of these shapes"
    if own.is_adapter:
        return f"Base by the weights: undetermined. An adapter adds to any base of its shapes; {shapes}."
    return f"Base by the weights: undetermined; it may come from each of {count} known bases."


def _new_beginnings(tx: Transaction, version_id: int) -> list[str]:
    """Return a sentence for each step to or from the version that was a training from a new beginning."""
    steps = queries.next_to(tx, version_id)
    ids = {each for pair in steps for each in pair}
    found, rows = sketches.of_versions(tx, ids), by_ids(tx, list(ids))
    sentences = []
    for before, after in steps:
        if before in found and after in found and found[before].layout == found[after].layout:
            mine, its = aligned(found[before], found[after])
            products = np.einsum("me,me->m", found[before].down[mine], found[after].down[its], dtype=np.float64)
            p = independence(products)
            if len(mine) and p > SIGNIFICANT:
                sentences.append(
                    f"{rows[after].label} was not trained on from {rows[before].label}: their A matrices have "
                    f"independent beginnings ({p_in_words(p)} for a shared one)."
                )
    return sentences
