from __future__ import annotations

from collections.abc import Callable

import pytest

from deltadex.domain import Finding, FindingKind, State
from deltadex.store import findings, version_changes, watchers
from deltadex.store.database import Database, Transaction
from deltadex.store.revision import revision
from tests.store.examples import REGISTRY, discovered, embedded, registered
from tests.store.test_embeddings import RIGHT

WEAK = FindingKind.TOO_WEAK


def _find(tx: Transaction, version_id: int) -> None:
    findings.replace(tx, [Finding(WEAK, version_id)], version_id=version_id, recipe_id=None, kinds=[WEAK])


@pytest.mark.parametrize(
    "change",
    [
        lambda tx, _: discovered(tx, "another"),
        lambda tx, _: version_changes.discover(tx, [registered(tags={"a": "b"})], fresh_since_ms=0),
        lambda tx, id_: version_changes.rename(tx, id_, "new"),
        lambda tx, id_: version_changes.mark_queued(tx, id_, attempt=1, flow_run_id="f"),
        lambda tx, id_: version_changes.mark_ended(tx, id_, state=State.DELETED, reason=""),
        lambda tx, id_: version_changes.requeue(tx, id_, reason=""),
        lambda tx, _: embedded(tx, "another", RIGHT),
        _find,
        lambda tx, _: watchers.failed(tx, REGISTRY, "MLflow is away"),
    ],
    ids=["discovered", "tagged", "renamed", "queued", "deleted", "requeued", "embedded", "found", "watcher failed"],
)
def test_every_visible_change_gives_another_token(
    database: Database, change: Callable[[Transaction, int], object]
) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
        before = revision(tx, REGISTRY)
        change(tx, version_id)
        assert revision(tx, REGISTRY) != before


def test_what_is_not_shown_keeps_the_token(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx)
        version_changes.mark_running(tx, version_id, attempt=1, flow_run_id="f")
        before = revision(tx, REGISTRY)
        version_changes.heartbeat(tx, version_id)
        version_changes.discover(tx, [registered()], fresh_since_ms=0)
        watchers.polled(tx, REGISTRY, watermark_ms=5)
        watchers.swept(tx, REGISTRY)
        discovered(tx, registry="other")
        assert revision(tx, REGISTRY) == before


def test_a_transaction_that_commits_late_is_noticed(database: Database) -> None:
    with database.transaction() as late, database.transaction() as tx:
        discovered(late, "late")
        discovered(tx, "early")
        tx.commit()
        before = revision(tx, REGISTRY)
        tx.commit()
        late.commit()
        assert revision(tx, REGISTRY) != before
