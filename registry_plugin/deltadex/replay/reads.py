"""Replays as a viewer may see them: those of two versions that are both visible."""

from __future__ import annotations

from typing import Any

from deltadex.access import Person
from deltadex.asked.queries import AskedState
from deltadex.errors import StoreError
from deltadex.replay import queries as replays
from deltadex.replay.queries import ReplayRow
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.versions.reads import sees_versions


def get(tx: Transaction, viewer: Person, settings: Settings, replay_id: int) -> ReplayRow:
    """Return one replay.

    Raises
    ------
    StoreError
        There is none with this id, or the viewer may not see its versions.
    """
    row = replays.get(tx, settings.registry, replay_id)
    if not sees_versions(tx, viewer, row.keeper_id, row.other_id):
        raise StoreError(f"There is no replay with id {replay_id}", hint="Check that the link is complete.")
    return row


def latest_between(
    tx: Transaction, viewer: Person, settings: Settings, one_id: int, other_id: int, *, is_done: bool = False
) -> ReplayRow | None:
    """Return the latest replay of two versions, in either order; None if there is none that the viewer may see.

    Parameters
    ----------
    is_done
        True for the latest with a result.
    """
    if not sees_versions(tx, viewer, one_id, other_id):
        return None
    states = [AskedState.DONE] if is_done else list(AskedState)
    return replays.latest_between(tx, settings.registry, one_id, other_id, states=states)


def evidence_of(row: ReplayRow) -> dict[str, Any]:
    """Return a finished replay as the evidence of a decision: what agreed, over what, and which weights answered.

    `intervals` are of 95 %; `gap` is in nats per token.
    """
    agreement = row.agreement
    if agreement is None:
        raise ValueError(f"replay {row.id} has no result")
    measured = {"equal": agreement.equal, "common_start": agreement.common_start, "gap": agreement.gap}
    return {
        "replay": row.id,
        "verdict": agreement.verdict,
        **{name: one.value for name, one in measured.items()},
        "intervals": {name: [one.low, one.high] for name, one in measured.items()},
        "prompts": row.prompts_count,
        "prompts_digest": row.prompts_digest,
        "max_new_tokens": row.max_new_tokens,
        "weights_digests": {str(row.keeper_id): row.keeper_digest, str(row.other_id): row.other_digest},
        "asked_by": row.asked_by,
        "ended_at": row.state_since.isoformat(),
    }
