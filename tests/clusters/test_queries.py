"""Stored clusters: ids, numbers and given names survive later runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from deltadex.clusters import queries as clusters
from deltadex.clusters import run_queries as cluster_runs
from deltadex.clusters.names import DomainName
from deltadex.clusters.queries import ClusterRun, Place
from deltadex.clusters.run_queries import Changes, FoundCluster
from deltadex.embeddings import queries as embeddings
from deltadex.errors import StoreError
from deltadex.store.database import Database, Transaction
from deltadex.store.revision import revision
from deltadex.store.roles import DatabaseRole
from tests.embeddings.test_queries import RIGHT, UP
from tests.stored import REGISTRY, embedded, embedding


def replace(tx: Transaction, *groups: tuple[int | None, list[int]], alone: tuple[int, ...] = ()) -> list[int]:
    run = ClusterRun({"algorithm": "by hand"}, 0.5, None, "", datetime.now(UTC))
    found = [FoundCluster(continues, dict.fromkeys(members, 0.75)) for continues, members in groups]
    return cluster_runs.replace(tx, 1, REGISTRY, run=run, found=found, alone=alone)


def test_a_run_is_read_as_it_was_stored(database: Database) -> None:
    with database.transaction() as tx:
        assert clusters.latest_run(tx, 1, REGISTRY) is None
        one, two, three = (embedded(tx, name, RIGHT) for name in ("one", "two", "three"))
        [cluster_id] = replace(tx, (None, [one, two]), alone=(three,))
        clusters.label(tx, cluster_id, DomainName("sql", "a tag"))
        run = clusters.latest_run(tx, 1, REGISTRY)
        assert run is not None
        assert (run.method, run.cut, run.silhouette) == ({"algorithm": "by hand"}, 0.5, None)
        [row] = clusters.listing(tx, 1, REGISTRY)
        assert (row.id, row.number, row.name, row.named_by) == (cluster_id, 0, "sql", "a tag")
        placed = Place(cluster_id, 0.75)
        assert clusters.places(tx, 1, REGISTRY) == {one: placed, two: placed, three: Place(None, None)}


def test_what_goes_on_keeps_id_number_and_given_name(database: Database) -> None:
    with database.transaction() as tx:
        one, two, three = (embedded(tx, name, RIGHT) for name in ("one", "two", "three"))
        first, second = replace(tx, (None, [one]), (None, [two]))
        clusters.rename(tx, REGISTRY, second, " Contracts ", by="ann")
        third, again = replace(tx, (None, [three]), (second, [two]))
        assert again == second
        assert third not in (first, second)
        rows = {row.id: row for row in clusters.listing(tx, 1, REGISTRY)}
        assert (rows[second].number, rows[second].name, rows[second].named_by) == (1, "Contracts", "ann")
        assert rows[second].given_at is not None
        # The first one's number is free again, its id never is.
        assert rows[third].number == 0
        clusters.rename(tx, REGISTRY, second, "", by="ann")
        assert clusters.listing(tx, 1, REGISTRY)[1].given_name is None


def test_names_are_given_once_and_to_clusters_of_the_registry(database: Database) -> None:
    with database.transaction() as tx:
        first, second = replace(tx, (None, [embedded(tx, "one", RIGHT)]), (None, [embedded(tx, "two", UP)]))
        clusters.rename(tx, REGISTRY, first, "Contracts", by="ann")
        clusters.rename(tx, REGISTRY, first, "Contracts", by="ann")
        with pytest.raises(StoreError, match="Another cluster is named 'Contracts'"):
            clusters.rename(tx, REGISTRY, second, "Contracts", by="ann")
        for registry, cluster_id in ((REGISTRY, second + 1), ("other", first)):
            with pytest.raises(StoreError, match="no cluster with id"):
                clusters.rename(tx, registry, cluster_id, "Law", by="ann")


def test_a_reader_renames_through_the_function_only(database: Database) -> None:
    with database.transaction() as tx:
        [cluster_id] = replace(tx, (None, [embedded(tx, "one", RIGHT)]))
    with Database(database.url, role=DatabaseRole.READER) as reader:
        with reader.transaction() as tx:
            clusters.rename(tx, REGISTRY, cluster_id, "Law", by="ann")
            [row] = clusters.listing(tx, 1, REGISTRY)
        with pytest.raises(StoreError, match="permission denied"), reader.transaction() as tx:
            tx.execute("update clusters set given_by = 'bob'")
    assert (row.name, row.given_by) == ("Law", "ann")
    with (
        Database(database.url, role=DatabaseRole.AUDITOR) as auditor,
        pytest.raises(StoreError, match="permission denied"),
        auditor.transaction() as tx,
    ):
        clusters.rename(tx, REGISTRY, cluster_id, "Mine", by="eve")


def test_a_centre_is_the_mean_of_the_members_directions(database: Database) -> None:
    with database.transaction() as tx:
        members = [embedded(tx, "right", 3 * RIGHT), embedded(tx, "up", 0.5 * UP)]
        [cluster_id] = replace(tx, (None, members))
        centre = clusters.centres(tx, 1, REGISTRY)[cluster_id]
        units = [vector / np.linalg.norm(vector) for vector in (RIGHT, UP)]
        assert centre == pytest.approx(np.mean(units, axis=0))
        own = clusters.own_cluster(tx, 1, members[0])
        assert own is not None
        assert (own.cluster_id, own.size) == (cluster_id, 2)


def test_arrivals_departures_and_other_weights_are_changes(database: Database) -> None:
    with database.transaction() as tx:
        one, two = embedded(tx, "one", RIGHT), embedded(tx, "two", UP)
        embedded(tx, "weak", UP, is_weak=True)
        embedded(tx, "elsewhere", UP, registry="other")
        assert cluster_runs.changes(tx, 1, REGISTRY) == Changes(compared=2, changed=2)
    with database.transaction() as tx:
        replace(tx, (None, [one]), alone=(two,))
        assert cluster_runs.changes(tx, 1, REGISTRY) == Changes(compared=2, changed=0)
    with database.transaction() as tx:
        tx.execute("update cluster_runs set found_at = %s", [datetime.now(UTC) - timedelta(seconds=1)])
        tx.execute("update embeddings set current_since = now() - interval '1 hour'")
        embedded(tx, "three", RIGHT)
        tx.execute("update model_versions set state = 'deleted' where id = %s", [two])
        again = embedding(UP, weights="w2")
    with database.transaction() as tx:
        assert cluster_runs.changes(tx, 1, REGISTRY) == Changes(compared=2, changed=2)
        embeddings.save(tx, one, again, base_name="base", artifact_uri="u", is_weak=False)
        assert cluster_runs.changes(tx, 1, REGISTRY) == Changes(compared=2, changed=3)


def test_codes_take_the_place_of_vectors(database: Database) -> None:
    long = np.random.default_rng(0).normal(size=(3, 700)).astype(np.float32)
    with database.transaction() as tx:
        expected = [embedded(tx, f"model-{place}", row) for place, row in enumerate(long)]
        ids, vectors = cluster_runs.vectors(tx, 1, REGISTRY)
        assert (ids, vectors.shape) == (expected, (3, 700))
        assert vectors == pytest.approx(long, rel=1e-6)
        ids, vectors = cluster_runs.vectors(tx, 1, REGISTRY, as_codes=True)
        assert (ids, vectors.shape) == (expected, (3, 512))
        assert cluster_runs.vectors(tx, 2, REGISTRY)[0] == []


def test_runs_and_renamings_are_seen_by_readers(database: Database) -> None:
    with database.transaction() as tx:
        one = embedded(tx, "one", RIGHT)
        tokens = [revision(tx, REGISTRY)]
        [cluster_id] = replace(tx, (None, [one]))
        tokens.append(revision(tx, REGISTRY))
        clusters.rename(tx, REGISTRY, cluster_id, "Law", by="ann")
        tokens.append(revision(tx, REGISTRY))
        replace(tx, (cluster_id, [one]))
        tokens.append(revision(tx, REGISTRY))
    assert len(set(tokens)) == 4
