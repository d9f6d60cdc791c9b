"""Copying a store to another server, or by way of a file, keeps every row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest

from deltadex.embeddings import queries as embeddings
from deltadex.errors import StoreError
from deltadex.findings import queries as findings
from deltadex.ingest import queries as watchers
from deltadex.reviews import actions as reviews
from deltadex.search import neighbors as search
from deltadex.settings import Settings
from deltadex.store.copy import TABLES, copy_store
from deltadex.store.database import Database
from deltadex.store.migrate import migrate
from deltadex.types import Finding, FindingKind, Queue, State
from deltadex.versions import queries as versions
from deltadex.versions import shards, transitions
from deltadex.witness.backup import back_up, restore
from tests.company_server import MAJORS, company_server
from tests.stored import REGISTRY, discovered, embedded, embedding, grouped


def ignore(*_: object) -> None:
    pass


@pytest.fixture
def filled(database: Database) -> Database:
    """A row in every table, and a version in every state that has a history."""
    vectors = np.random.default_rng(3).normal(size=(4, 600)).astype(np.float32)
    with database.transaction() as tx:
        one, two, gone, twice = (embedded(tx, name, vector) for name, vector in zip("abcd", vectors, strict=True))
        later = embedding(vectors[0], weights="later")
        embeddings.save(tx, twice, later, base_name="base", artifact_uri="u", is_weak=False)
        transitions.mark_ended(tx, gone, state=State.DELETED, reason="weg: „ü“")
        transitions.mark_running(tx, discovered(tx, "running", tags={"k": "ä"}), attempt=1, flow_run_id="f")
        shards.add(tx, shards.create(tx, REGISTRY, base="base", queue=Queue.FRESH), [discovered(tx, "queued")])
        [recipe] = embeddings.recipes(tx, REGISTRY)
        pair = Finding(FindingKind.NEAR_DUPLICATE, two, one, measure=0.99, threshold=0.95, evidence={"why": [1, None]})
        findings.replace(tx, [pair], version_id=two, recipe_id=recipe.id, kinds=[FindingKind.NEAR_DUPLICATE])
        grouped(tx, [one, two])
        reviews.follow(tx, Settings(registry=REGISTRY))
        tx.execute("select record_decision(id, revision, 'requested', 'retire', 'yes', 'ada') from reviews limit 1")
        tx.execute("select record_ownership(%s, 'a', 'owner', null, 'ada', '{}', 'ada', '')", [REGISTRY])
        tx.execute(
            "insert into words select model_version_id, recipe_id, weights_digest, '[]', '[]', '' from embeddings;"
            "insert into imprints select model_version_id, recipe_id, weights_digest, '\\x00', null from embeddings;"
            "insert into lineage_sketches select model_version_id, recipe_id, weights_digest, 'l', '\\x00', '\\x00'"
            " from embeddings;"
            "insert into meanings select id, 'texts', 'weights', 'base', 'name', '{0.5}', '{NaN}' from model_versions;"
            "insert into training_records select id, '{}' from model_versions;"
            "insert into layouts select recipe_id, model_version_id, weights_digest, 1, 2 from current_embeddings;"
            "insert into geometries values (1, 'r', '{}', 1, '{}', now());"
            "insert into calibrations values (1, 'r', '{}', '{}', 1);"
            "insert into machines values ('r', 'm', '{}', '2026-01-01');"
            "insert into work_done values ('r', 'step', 'embed', 1, 2, 3);"
            "insert into notified values ('r', 'rule', 1, 1);"
            "insert into deliveries (registry, rule, channel, events) values ('r', 'rule', 'channel', 1);"
            "insert into witnesses (registry, name) values ('r', 'folder:/mnt/heads');"
            "insert into time_stamps (registry, authority, entries, hash, stamped_at, answer)"
            " values ('r', 'tsa', 1, repeat('0', 64), now(), 'x');"
            "select ask_task_search('r', 'base', '[{}]', 'digest', 'ada');"
            "select note_visit('r', 'ada');"
            "select record_sent_text('r', 'host', 'model', 'purpose', repeat('0', 64), 1, 'ada');"
            "select ask_taught('r', 1, '{}', 0, 96, 'ada');"
            "select ask_advice('r', 'base', '[{}]', 'digest', '{}', '{*}', 'ada');"
            "insert into safety_bases values ('b', 'p', '\\x00', '\\x00', '{}', 1);"
            "insert into private_readings values (1, 'p', 'w', 'b', 0.1, 0.1, 0.9, 0);"
            "select ask_safety('r', 1, 'digest', 'ada');"
            "select ask_replay('r', 1, 2, '[\"x\"]', 'digest', 'file', 64, 'ada')"
        )
        tx.execute("insert into repeat_notices (review_id, model_version_id) select id, %s from reviews limit 1", [two])
        watchers.record_poll(tx, REGISTRY, watermark_ms=7)
        watchers.record_poll(tx, "Ünder", watermark_ms=8)
        tx.execute("insert into clusters (recipe_id, registry, number) values (%s, 'r', 0)", [recipe.id])
        tx.execute(
            "insert into cluster_runs (recipe_id, registry, method, cut, found_at) values (1, 'r', '{}', 0.5, now())"
        )
        tx.execute(
            "insert into cluster_assignments (recipe_id, model_version_id, cluster_id, strength)"
            " select recipe_id, %s, id, 0.9 from clusters",
            [one],
        )
    return database


@pytest.fixture
def empty(new_database_url: Callable[..., str]) -> Iterator[Database]:
    with Database(new_database_url()) as target:
        yield target


@pytest.mark.parametrize("major", MAJORS)
def test_a_store_moves_to_a_companys_server(filled: Database, tmp_path: Path, major: str) -> None:
    with company_server(tmp_path / "company", major) as url, Database(url) as target:
        copied = copy_store(filled, target, on_progress=ignore)
        assert set(copied) == set(TABLES)
        assert all(copied.values())
        with target.transaction() as there, filled.transaction() as here:
            for table in copied:
                query = f"select to_jsonb(each)::text from {table} each order by 1"  # noqa: S608
                assert there.execute(query).fetchall() == here.execute(query).fetchall()
            assert search.neighbors(there, 1).neighbors == search.neighbors(here, 1).neighbors
        # It goes on from there, by the same rules.
        with target.transaction() as tx:
            assert embedded(tx, "new", np.ones(600)) > 6
            transitions.requeue(tx, 1, reason="again")
        with pytest.raises(StoreError, match="can't become"), target.transaction() as tx:
            tx.execute("update model_versions set state = 'queued' where state = 'embedded'")


@pytest.mark.parametrize("major", MAJORS)
def test_a_backup_is_restored_row_by_row(filled: Database, tmp_path: Path, major: str) -> None:
    made = back_up(filled, tmp_path / "backup.zip", on_progress=ignore)
    assert set(made.tables) == set(TABLES)
    assert all(table.rows for table in made.tables.values())
    with company_server(tmp_path / "company", major) as url, Database(url) as target:
        assert restore(target, tmp_path / "backup.zip", on_progress=ignore).head == made.head
        with target.transaction() as there, filled.transaction() as here:
            for table in TABLES:
                query = f"select to_jsonb(each)::text from {table} each order by 1"  # noqa: S608
                assert there.execute(query).fetchall() == here.execute(query).fetchall()
        with target.transaction() as tx:
            assert embedded(tx, "new", np.ones(600)) > 6
        with pytest.raises(StoreError, match="target has rows"):
            restore(target, tmp_path / "backup.zip", on_progress=ignore)


def test_every_table_but_the_migrations_is_copied(database: Database) -> None:
    with database.transaction() as tx:
        found = tx.execute("select tablename from pg_tables where schemaname = 'deltadex'").fetchall()
    assert {name for (name,) in found} == {*TABLES, "schema_migrations"}


def test_a_target_with_rows_is_left_alone(filled: Database, empty: Database) -> None:
    migrate(empty)
    with empty.transaction() as tx:
        watchers.record_poll(tx, "mine", watermark_ms=1)
    with pytest.raises(StoreError, match="target has rows in watchers"):
        copy_store(filled, empty, on_progress=ignore)
    with empty.transaction() as tx:
        assert versions.listing(tx, REGISTRY) == []


def test_a_row_that_arrives_changed_undoes_everything(filled: Database, empty: Database) -> None:
    migrate(empty)
    with psycopg.connect(empty.url) as connection:
        # What no server should do. A constraint of its own is still there when triggers are off.
        connection.execute(
            "alter table deltadex.findings drop column measure;"
            "alter table deltadex.findings add column measure double precision generated always as (1) stored"
        )
    with pytest.raises(StoreError):
        copy_store(filled, empty, on_progress=ignore)
    with empty.transaction() as tx:
        assert versions.listing(tx, REGISTRY) == []


def test_a_source_that_is_not_migrated_is_refused(database: Database, empty: Database) -> None:
    with pytest.raises(StoreError):
        copy_store(empty, database, on_progress=ignore)
