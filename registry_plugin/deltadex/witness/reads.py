"""Reads of the witnesses: the state of publication, and how the log compares with what they hold."""

from __future__ import annotations

from collections.abc import Sequence

from deltadex.access import Person, Right
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.witness import queries
from deltadex.witness.compare import Answers, HeadComparison, compare
from deltadex.witness.queries import WitnessState


def witness_states(tx: Transaction, viewer: Person, settings: Settings) -> Sequence[WitnessState]:
    """Return the state of publication to each witness, by name. It names no model."""
    viewer.require(Right.LOOK)
    return list(queries.states(tx, settings.registry).values())


def head_comparisons(tx: Transaction, viewer: Person, settings: Settings, answers: Answers) -> Sequence[HeadComparison]:
    """Compare the log with what the witnesses answered; see `deltadex.witness.compare.compare`."""
    viewer.require(Right.LOOK)
    return compare(tx, settings.registry, answers)
