"""Request of a replay. The work is in `deltadex.ingest.replay`."""

from __future__ import annotations

from collections.abc import Sequence

from deltadex.access import Person, Right
from deltadex.errors import AccessDenied, DeltadexError
from deltadex.replay import queries as replays
from deltadex.replay.queries import REPLAYS
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.versions import reads as versions

#: Most replays of one person at a time; each occupies a worker for minutes.
_MOST_UNFINISHED = 2


def ask(
    tx: Transaction,
    person: Person,
    settings: Settings,
    keeper_id: int,
    other_id: int,
    prompts: Sequence[str],
    *,
    prompts_from: str = "file",
) -> int:
    """Store a replay and return its id; the watcher starts its flow within seconds.

    Raises
    ------
    AccessDenied
        The person may not see one of the versions, or has too many replays under way.
    """
    person.require(Right.LOOK)
    if keeper_id == other_id:
        raise DeltadexError("A version can't be replayed against itself", hint="Name two versions.")
    if not versions.sees_versions(tx, person, keeper_id, other_id):
        raise AccessDenied("These versions are not known", hint="`deltadex status` lists the versions.")
    if REPLAYS.unfinished(tx, settings.registry, by=person.name) >= _MOST_UNFINISHED:
        raise AccessDenied(f"{_MOST_UNFINISHED} of your replays are under way", hint="Wait for one of them to end.")
    return replays.ask(
        tx,
        settings.registry,
        keeper_id,
        other_id,
        prompts,
        prompts_from=prompts_from,
        max_new_tokens=settings.replay.max_new_tokens,
        by=person.name,
    )
