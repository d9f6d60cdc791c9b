from __future__ import annotations

import time

from deltadex.ingest import queries as watchers
from deltadex.ingest.queries import WatcherRow
from deltadex.store.database import Database


def test_a_registry_that_was_never_read_has_an_empty_row(database: Database) -> None:
    with database.transaction() as tx:
        assert watchers.read(tx, "acme") == WatcherRow(0, None, None, "")


def test_the_watermark_never_goes_back(database: Database) -> None:
    with database.transaction() as tx:
        watchers.record_poll(tx, "acme", watermark_ms=7)
        watchers.record_poll(tx, "acme", watermark_ms=5)
        row = watchers.read(tx, "acme")
        assert watchers.read(tx, "other").watermark_ms == 0
    assert (row.watermark_ms, row.swept_at) == (7, None)
    assert row.polled_at is not None


def test_an_error_stays_until_reading_works_again(database: Database) -> None:
    with database.transaction() as tx:
        watchers.failed(tx, "acme", "MLflow is away")
        watchers.record_sweep(tx, "acme")
        assert watchers.read(tx, "acme").error == "MLflow is away"
        assert watchers.read(tx, "acme").polled_at is None
        watchers.record_poll(tx, "acme", watermark_ms=1)
        row = watchers.read(tx, "acme")
    assert row.error == ""
    assert row.swept_at is not None


def test_a_time_of_the_future_does_not_silence_polling_until_then(database: Database) -> None:
    with database.transaction() as tx:
        watchers.record_poll(tx, "acme", watermark_ms=32_503_680_000_000)
        assert watchers.read(tx, "acme").watermark_ms <= time.time() * 1000 + 60_000
