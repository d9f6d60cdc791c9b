"""Advice as a viewer may see it: candidates that are hidden from them have no name."""

from __future__ import annotations

from dataclasses import replace

from deltadex.access import HIDDEN, Person, Right
from deltadex.advise import queries as advice
from deltadex.advise.advice import Advice, CandidateScore
from deltadex.advise.measured import Unscored
from deltadex.advise.queries import AdviceRow
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.versions.queries import by_ids


def get(tx: Transaction, viewer: Person, settings: Settings, request_id: int) -> AdviceRow:
    """Return one request, with the candidates masked that the viewer may not see.

    Raises
    ------
    StoreError
        There is none with this id.
    """
    viewer.require(Right.LOOK)
    # The patterns may be names.
    row = advice.get(tx, settings.registry, request_id)
    row = replace(row, sees=(), base_name=viewer.shown_address(row.base_name))
    if row.advice is None:
        # A reason may name what was to be read.
        is_own = row.asked_by == viewer.name or viewer.sees_all
        return row if is_own else replace(row, reason=row.reason and HIDDEN, hint="")
    return replace(row, advice=_masked(tx, viewer, row.advice))


def _masked(tx: Transaction, viewer: Person, found: Advice) -> Advice:
    rows = by_ids(
        tx,
        [
            *(one.candidate.version_id for one in found.candidates),
            *(one.candidate.version_id for one in found.unscored),
        ],
    )

    def sees(one: CandidateScore | Unscored) -> bool:
        row = rows.get(one.candidate.version_id)
        return row is not None and viewer.sees(row.registered.ref.name)

    shown = tuple(
        one if sees(one) else replace(one, candidate=replace(one.candidate, version_id=0, label=HIDDEN))
        for one in found.candidates
    )
    base_name = viewer.shown_address(found.base_name)
    return replace(
        found, base_name=base_name, candidates=shown, unscored=tuple(one for one in found.unscored if sees(one))
    )
