"""Clustering runs on a real store: due runs, continuity from run to run, and mixtures."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex import access
from deltadex.access import Person
from deltadex.clusters import queries as clusters
from deltadex.clusters import runs as cluster_runs
from deltadex.clusters.runs import Domains, recluster
from deltadex.embeddings import queries as embeddings
from deltadex.errors import AccessDenied, StoreError
from deltadex.ingest.round import recompute_where_due
from deltadex.setting_groups import DatabaseSettings, ThresholdSettings
from deltadex.settings import Settings
from deltadex.store import locks
from deltadex.store.database import Database, Transaction
from deltadex.store.roles import DatabaseRole
from deltadex.types import State
from deltadex.versions import transitions
from tests.stored import ADMIN, REGISTRY, embedded

DIMENSION = 48
DOMAINS = {"sql": 0, "legal": 1, "medical": 2}


@pytest.fixture
def settings(database: Database) -> Settings:
    return Settings(registry=REGISTRY, database=DatabaseSettings(url=database.url))


def like(domain: str, seed: int, *, and_also: str | None = None) -> np.ndarray:
    row = 0.1 * np.random.default_rng(seed).normal(size=DIMENSION)
    row[DOMAINS[domain]] += 2
    if and_also:
        row[DOMAINS[and_also]] += 1
    return row


def add(tx: Transaction, domain: str, numbers: range) -> list[int]:
    return [
        embedded(tx, f"{domain}-{number}", like(domain, 100 * DOMAINS[domain] + number), tags={"domain": domain})
        for number in numbers
    ]


def read(database: Database) -> Domains:
    with database.transaction() as tx:
        [recipe] = embeddings.recipes(tx, REGISTRY)
        return cluster_runs.domains(tx, ADMIN, REGISTRY, recipe)


def ids(domains: Domains) -> dict[str, int]:
    return {one.cluster.name: one.cluster.id for one in domains.domains}


def test_domains_are_named_and_hold_every_version(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        add(tx, "sql", range(5))
        add(tx, "legal", range(3))
        embedded(tx, "odd", np.eye(DIMENSION)[40])
        embedded(tx, "weak", like("sql", 9), is_weak=True)
    before = read(database)
    assert (before.run, before.domains, len(before.unplaced)) == (None, (), 9)
    [done] = recompute_where_due(database, settings)
    assert (done.versions, done.clusters, done.continued) == (9, 2, 0)
    found = read(database)
    assert [one.cluster.name for one in found.domains] == ["sql", "legal"]
    assert [len(one.members) for one in found.domains] == [5, 3]
    strengths = [member.strength for member in found.domains[0].members]
    assert strengths == sorted(strengths, reverse=True)
    assert 0.8 < strengths[-1] < 1
    assert [row.label for row in found.alone] == ["odd/1"]
    assert found.run is not None
    assert found.run.method["vectors"] == "full"
    assert found.run.silhouette is not None


def test_ids_and_given_names_survive_arrivals_and_departures(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        sql, legal = add(tx, "sql", range(4)), add(tx, "legal", range(5))
    recompute_where_due(database, settings)
    before = ids(read(database))
    with database.transaction() as tx:
        clusters.rename(tx, REGISTRY, before["legal"], "Contracts", by="ann")
        add(tx, "sql", range(10, 16))
        add(tx, "medical", range(3))
        for gone in (sql[0], legal[1]):
            transitions.mark_ended(tx, gone, state=State.DELETED, reason="", hint="")
    stale = read(database)
    assert ids(stale) == {"sql": before["sql"], "Contracts": before["legal"]}
    assert [len(one.members) for one in stale.domains] == [4, 3]
    assert len(stale.unplaced) == 9
    [done] = recompute_where_due(database, settings)
    assert (done.versions, done.clusters, done.continued) == (16, 3, 2)
    after = read(database)
    assert ids(after).items() > {("sql", before["sql"]), ("Contracts", before["legal"])}
    assert [len(one.members) for one in after.domains] == [9, 4, 3]
    assert after.unplaced == ()


def test_a_run_is_due_when_something_has_changed_and_only_then(settings: Settings, database: Database) -> None:
    assert recompute_where_due(database, settings) == []
    with database.transaction() as tx:
        add(tx, "sql", range(4))
    assert len(recompute_where_due(database, settings)) == 1
    assert recompute_where_due(database, settings) == []
    other = settings.model_copy(update={"thresholds": ThresholdSettings(cluster_similarity=0.3)})
    assert len(recompute_where_due(database, other)) == 1
    with database.transaction() as tx:
        add(tx, "sql", range(10, 12))
    assert len(recompute_where_due(database, other)) == 1


def test_names_outlive_a_time_in_which_nothing_can_be_compared(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        add(tx, "sql", range(4))
    recompute_where_due(database, settings)
    before = ids(read(database))
    for is_weak in (True, False):
        with database.transaction() as tx:
            tx.execute("update embeddings set is_weak = %s", [is_weak])
        assert recompute_where_due(database, settings) == []
        assert ids(read(database)) == ({} if is_weak else before)


def test_a_worker_needs_only_a_writers_rights(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        add(tx, "sql", range(4))
    with Database(database.url, role=DatabaseRole.WRITER) as writer:
        assert [done.clusters for done in recompute_where_due(writer, settings)] == [1]
        cluster_id = ids(read(writer))["sql"]
        with writer.transaction() as tx:
            clusters.rename(tx, REGISTRY, cluster_id, "Queries", by="ann")
            embedded(tx, "late", like("sql", 77))
        assert [done.continued for done in recompute_where_due(writer, settings)] == [1]


def test_only_those_who_decide_and_see_a_member_rename(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        add(tx, "sql", range(4))
    recompute_where_due(database, settings)
    cluster_id = ids(read(database))["sql"]
    refused = (Person("eve", access.Role.VIEWER), Person("bob", access.Role.ADMIN, ("legal-*",)))
    for person in refused:
        with pytest.raises(AccessDenied), database.transaction() as tx:
            cluster_runs.rename(tx, person, REGISTRY, cluster_id, "Mine")
    with database.transaction() as tx:
        cluster_runs.rename(tx, Person("ann", access.Role.REVIEWER, ("sql-*",)), REGISTRY, cluster_id, "Queries")
    assert ids(read(database)) == {"Queries": cluster_id}


def test_few_changes_of_many_wait_for_a_day(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        add(tx, "sql", range(250))
    recompute_where_due(database, settings)
    with database.transaction() as tx:
        add(tx, "legal", range(2))
    assert recompute_where_due(database, settings) == []
    with database.transaction() as tx:
        tx.execute("update cluster_runs set found_at = found_at - interval '25 hours'")
    assert len(recompute_where_due(database, settings)) == 1


def test_two_never_recompute_the_same(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        add(tx, "sql", range(4))
        [recipe] = embeddings.recipes(tx, REGISTRY)
    with database.transaction() as tx:
        assert locks.lock(tx, f"clusters:{REGISTRY}:{recipe.id}")
        with pytest.raises(StoreError, match="Another process") as caught:
            recluster(database, settings, recipe)
        assert caught.value.retryable
        assert recompute_where_due(database, settings) == []
    assert len(recompute_where_due(database, settings)) == 1


def test_a_version_is_explained_by_the_domains_it_is_made_of(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        for domain in DOMAINS:
            add(tx, domain, range(4))
        mixed = embedded(tx, "mixed", like("sql", 50, and_also="legal"))
        weak = embedded(tx, "weak", like("sql", 51), is_weak=True)
        [before] = cluster_runs.explain(tx, ADMIN, REGISTRY, mixed)
        assert (before.unexplained, before.parts) == (None, ())
        assert "no clusters yet" in before.note
    recompute_where_due(database, settings)
    with database.transaction() as tx:
        [found] = cluster_runs.explain(tx, ADMIN, REGISTRY, mixed)
        assert [part.cluster.name for part in found.parts] == ["sql", "legal"]
        assert [part.share for part in found.parts] == pytest.approx([2 / 3, 1 / 3], abs=0.06)
        assert found.unexplained is not None
        assert found.unexplained < 0.15
        [none] = cluster_runs.explain(tx, ADMIN, REGISTRY, weak)
        assert (none.unexplained, "too little" in none.note) == (None, True)


def test_a_version_never_explains_itself(settings: Settings, database: Database) -> None:
    corner = np.zeros(DIMENSION)
    with database.transaction() as tx:
        # A pair at a right angle to nothing but itself: each has a direction of its own beside the common one.
        one, other = corner.copy(), corner.copy()
        one[[0, 1]], other[[0, 2]] = (2, 1), (2, 1)
        first = embedded(tx, "one", one)
        embedded(tx, "other", other)
        add(tx, "medical", range(4))
    recompute_where_due(database, settings)
    with database.transaction() as tx:
        [found] = cluster_runs.explain(tx, ADMIN, REGISTRY, first)
    # By the other alone, whose similarity is .8.
    assert found.unexplained == pytest.approx(1 - 0.8**2, abs=0.02)
