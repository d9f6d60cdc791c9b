"""Steps of the replay flow: fetch two versions, let both answer the prompts, and store how far they agree."""

from __future__ import annotations

import time
from contextlib import ExitStack

from deltadex.app import App
from deltadex.asked.progress import OnShare, progress_of
from deltadex.engine import shared
from deltadex.engine.text_requests import Replay, Replies
from deltadex.ingest.embed import heartbeats, stated
from deltadex.ingest.resolve import fetch, resolve, workspace
from deltadex.replay import queries as replays
from deltadex.replay.agreement import Agreement
from deltadex.replay.queries import REPLAYS
from deltadex.types import VersionRow
from deltadex.versions.queries import by_ids

#: Progress after fetching both models.
_FETCHED = 0.1


def run(app: App, replay_id: int, *, flow_run_id: str) -> bool:
    """Run a replay and return True if it is done; False if it had already ended.

    The reason of a failure is stored with the replay, and raised.
    """
    database, registry = app.database, app.settings.registry
    prompts = database.run(lambda tx: replays.begin(tx, replay_id, flow_run_id=flow_run_id))
    if prompts is None:
        return False
    row = database.run(lambda tx: replays.get(tx, registry, replay_id))
    versions = database.run(lambda tx: by_ids(tx, [row.keeper_id, row.other_id]))
    pair = versions[row.keeper_id], versions[row.other_id]
    started = time.perf_counter()
    try:
        with heartbeats(app, lambda tx: REPLAYS.beat(tx, replay_id, flow_run_id=flow_run_id), of=f"replay {replay_id}"):
            on_share = progress_of(database, REPLAYS, replay_id)
            digests, replies = _replay(app, pair, prompts, max_new_tokens=row.max_new_tokens, on_share=on_share)
    except Exception as error:
        cause = stated(error, pair[0])
        database.run(lambda tx: REPLAYS.fail(tx, replay_id, reason=cause.message, hint=cause.hint))
        raise
    agreement, seconds = Agreement.of(replies), time.perf_counter() - started
    return database.run(lambda tx: replays.finish(tx, replay_id, agreement, digests=digests, seconds=seconds))


def _replay(
    app: App,
    pair: tuple[VersionRow, VersionRow],
    prompts: tuple[str, ...],
    *,
    max_new_tokens: int,
    on_share: OnShare,
) -> tuple[tuple[str, str], Replies]:
    """Return the weights digests of two versions, and their replies."""
    with ExitStack() as stack:
        process = stack.enter_context(shared.embedding_process(app.settings))
        holds = [stack.enter_context(workspace(app, row)) for row in pair]
        one, other = (
            fetch(app, process, resolve(app, process, row, hold), hold) for row, hold in zip(pair, holds, strict=True)
        )
        on_share(_FETCHED)
        request = Replay(
            (one.base, other.base),
            (one.finetune.checkpoint, other.finetune.checkpoint),
            prompts,
            max_new_tokens=max_new_tokens,
        )
        replies = process.replay(
            request,
            deadline_seconds=app.settings.replay.deadline_seconds,
            on_share=lambda share: on_share(_FETCHED + (1 - _FETCHED) * share),
        )
    return (one.finetune.weights_digest, other.finetune.weights_digest), replies
