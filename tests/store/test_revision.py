from __future__ import annotations

from collections.abc import Callable

import pytest

from deltadex.findings import queries as findings
from deltadex.ingest import queries as watchers
from deltadex.store.database import Database, Transaction
from deltadex.store.revision import revision
from deltadex.types import Finding, FindingKind, State
from deltadex.versions import transitions
from tests.embeddings.test_queries import RIGHT
from tests.stored import REGISTRY, discovered, embedded, registered

WEAK = FindingKind.TOO_WEAK


def _find(tx: Transaction, version_id: int) -> None:
    findings.replace(tx, [Finding(WEAK, version_id)], version_id=version_id, recipe_id=None, kinds=[WEAK])


@pytest.mark.parametrize(
    "change",
    [
        lambda tx, _: discovered(tx, "another"),
        lambda tx, _: transitions.discover(tx, [registered(tags={"a": "b"})], fresh_since_ms=0),
        lambda tx, id_: transitions.rename(tx, id_, "new"),
        lambda tx, id_: transitions.mark_queued(tx, id_, attempt=1, flow_run_id="f"),
        lambda tx, id_: transitions.mark_ended(tx, id_, state=State.DELETED, reason=""),
        lambda tx, id_: transitions.requeue(tx, id_, reason=""),
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
        transitions.mark_running(tx, version_id, attempt=1, flow_run_id="f")
        before = revision(tx, REGISTRY)
        transitions.heartbeat(tx, version_id, attempt=1)
        transitions.discover(tx, [registered()], fresh_since_ms=0)
        watchers.record_poll(tx, REGISTRY, watermark_ms=5)
        watchers.record_sweep(tx, REGISTRY)
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
