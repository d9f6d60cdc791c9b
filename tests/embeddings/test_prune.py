"""Pruned embeddings, and the rows that are kept."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.prune import Pruned, prune
from deltadex.findings import queries as findings
from deltadex.search import neighbors as search
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind, State
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.stored import REGISTRY, embedded, embedding

RIGHT = np.array([1.0, 0.0, 0.0])


@pytest.fixture
def ids(database: Database) -> dict[str, int]:
    """Store versions that were deleted, embedded with other weights, or unchanged, all a hundred days ago."""
    with database.transaction() as tx:
        ids = {name: embedded(tx, name, RIGHT) for name in ("kept", "changed", "gone", "just gone")}
        embeddings.save(
            tx, ids["changed"], embedding(RIGHT, weights="later"), base_name="base", artifact_uri="u", is_weak=False
        )
        [recipe] = embeddings.recipes(tx, REGISTRY)
        pair = Finding(FindingKind.NEAR_DUPLICATE, ids["gone"], ids["kept"], measure=1.0)
        findings.replace(tx, [pair], version_id=ids["gone"], recipe_id=recipe.id, kinds=[FindingKind.NEAR_DUPLICATE])
        for name in ("gone", "just gone"):
            transitions.mark_ended(tx, ids[name], state=State.DELETED, reason="gone")
    with database.transaction() as tx:
        tx.execute("alter table model_versions disable trigger model_versions_change")
        tx.execute("update model_versions set state_since = now() - interval '100 days' where name <> 'just gone'")
        tx.execute("alter table model_versions enable trigger model_versions_change")
        tx.execute("update embeddings set current_since = current_since - interval '100 days'")
    return ids


def left(tx: Transaction, table: str) -> set[tuple[str, str]]:
    found = tx.execute(
        "select name, coalesce(to_jsonb(each) ->> 'weights_digest', '') from "  # noqa: S608
        f"(select to_jsonb({table}) ->> 'weights_digest' as weights_digest, model_version_id from {table}) each"
        " join model_versions on id = model_version_id"
    )
    return {(name, weights) for name, weights in found}


def test_vectors_go_and_what_was_found_stays(database: Database, ids: dict[str, int]) -> None:
    with database.transaction() as tx:
        assert prune(tx, days=90) == Pruned(deleted=1, superseded=1, vector_bytes=2 * 17)
        assert left(tx, "embeddings") == {("kept", "kept/1"), ("changed", "later"), ("just gone", "just gone/1")}
        assert {name for name, _ in left(tx, "codes")} == {"kept", "changed", "just gone"}
        assert left(tx, "findings") == {("gone", "")}
        assert len(versions.listing(tx, REGISTRY)) == 4
        assert len(versions.history(tx, ids["gone"])) == 3
        assert [one.version.label for one in search.neighbors(tx, ids["kept"]).neighbors] == ["changed/1"]
        assert prune(tx, days=90) == Pruned(0, 0, 0)


def test_nothing_goes_before_its_time(database: Database, ids: dict[str, int]) -> None:
    with database.transaction() as tx:
        assert prune(tx, days=101) == Pruned(0, 0, 0)
        assert prune(tx, days=0).deleted == 2


def test_a_version_that_comes_back_is_embedded_again(database: Database, ids: dict[str, int]) -> None:
    with database.transaction() as tx:
        prune(tx, days=90)
        transitions.requeue(tx, ids["gone"], reason="in the registry again")
        embeddings.save(
            tx, ids["gone"], embedding(RIGHT, weights="gone/1"), base_name="base", artifact_uri="u", is_weak=False
        )
        assert len(search.neighbors(tx, ids["gone"]).neighbors) == 2


def test_findings_about_a_deleted_version_outlive_the_next_look_at_the_other(
    database: Database, ids: dict[str, int]
) -> None:
    with database.transaction() as tx:
        findings.replace(tx, [], version_id=ids["kept"], recipe_id=None, kinds=list(FindingKind))
        assert left(tx, "findings") == {("gone", "")}
