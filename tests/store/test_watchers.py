from __future__ import annotations

from deltadex.store import watchers
from deltadex.store.database import Database
from deltadex.store.watchers import WatcherRow


def test_a_registry_that_was_never_read_has_an_empty_row(database: Database) -> None:
    with database.transaction() as tx:
        assert watchers.read(tx, "acme") == WatcherRow(0, None, None, "")


def test_the_watermark_never_goes_back(database: Database) -> None:
    with database.transaction() as tx:
        watchers.polled(tx, "acme", watermark_ms=7)
        watchers.polled(tx, "acme", watermark_ms=5)
        row = watchers.read(tx, "acme")
        assert watchers.read(tx, "other").watermark_ms == 0
    assert (row.watermark_ms, row.swept_at) == (7, None)
    assert row.polled_at is not None


def test_an_error_stays_until_reading_works_again(database: Database) -> None:
    with database.transaction() as tx:
        watchers.failed(tx, "acme", "MLflow is away")
        watchers.swept(tx, "acme")
        assert watchers.read(tx, "acme").error == "MLflow is away"
        assert watchers.read(tx, "acme").polled_at is None
        watchers.polled(tx, "acme", watermark_ms=1)
        row = watchers.read(tx, "acme")
    assert row.error == ""
    assert row.swept_at is not None


def test_a_lock_is_held_until_its_transaction_ends(database: Database) -> None:
    with database.transaction() as one, database.transaction() as other:
        assert watchers.lock(one, "reconcile:acme")
        assert not watchers.lock(other, "reconcile:acme")
        assert watchers.lock(other, "reconcile:other")
        one.commit()
        assert watchers.lock(other, "reconcile:acme")
