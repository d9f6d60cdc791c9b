"""Declared domains that contradict the embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from deltadex.clusters.labels import judge_every_label, judge_labels, read_labels
from deltadex.embeddings import queries as embeddings
from deltadex.findings import queries as findings
from deltadex.ingest.analyses import are_due
from deltadex.ingest.round import judge_relabelled, recompute_where_due
from deltadex.search.nearest import nearest
from deltadex.setting_groups import ThresholdSettings
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.stored import REGISTRY, embedded

LEGAL, CODE = np.array([1, 0, 0, 0]), np.array([0, 1, 0, 0])


def add(tx: Transaction, name: str, vector: np.ndarray, domain: str | None, **values: object) -> int:
    noise = np.random.default_rng(len(name)).normal(size=4) * 0.05
    return embedded(tx, name, vector + noise, tags={"domain": domain} if domain else {}, **values)


def fill(tx: Transaction, *, legal: int = 3, code: int = 3) -> None:
    for number in range(legal):
        add(tx, f"legal-{'x' * number}", LEGAL, "legal")
    for number in range(code):
        add(tx, f"code-{'y' * number}", CODE, "code")


def judged(tx: Transaction, version_id: int) -> dict[int, Sequence[Finding]]:
    row, [recipe] = versions.get(tx, version_id), embeddings.recipes(tx, REGISTRY)
    labelled = read_labels(tx, row, nearest(tx, row), recipe_id=recipe.id, thresholds=ThresholdSettings())
    found = judge_labels(labelled, thresholds=ThresholdSettings())
    return {each: findings for each, findings in found.items() if findings}


def test_only_the_version_that_moves_like_another_domain_is_found(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx)
        wrong, right = add(tx, "wrong", CODE, "legal"), add(tx, "right", CODE, "code")
        [finding] = judged(tx, wrong)[wrong]
        assert (finding.version_id, finding.evidence["moves_like"]) == (wrong, "code")
        assert judged(tx, right).keys() == {wrong}
        assert judged(tx, add(tx, "silent", CODE, None)).keys() == {wrong}


def test_copies_of_the_same_weights_are_one_witness(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx, code=0)
        for number in range(4):
            add(tx, f"copy-{number}", CODE, "code", weights="same")
        assert judged(tx, add(tx, "wrong", CODE, "legal")) == {}


def test_a_version_is_judged_again_when_the_last_witness_arrives(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx, code=2)
        wrong = add(tx, "wrong", CODE, "legal")
        assert judged(tx, wrong) == {}
        assert judged(tx, add(tx, "last", CODE, "code")).keys() == {wrong}


def test_a_version_too_weak_to_place_is_not_judged(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx)
        assert judged(tx, add(tx, "weak", CODE, "legal", is_weak=True)) == {}


def judged_together(tx: Transaction) -> dict[int, list[Finding]]:
    [recipe] = embeddings.recipes(tx, REGISTRY)
    table = embeddings.table(tx, recipe.id)
    found = judge_every_label(table.rows, table.vectors, thresholds=ThresholdSettings())
    assert found.keys() == {row.id for row in table.rows}
    return {each: findings for each, findings in found.items() if findings}


def test_all_labels_together_are_judged_as_each_is_on_arrival(database: Database) -> None:
    with database.transaction() as tx:
        wrong = add(tx, "wrong", CODE, "legal")
        for number in range(4):
            add(tx, f"copy-{number}", CODE, "german", weights="same")
        add(tx, "silent", CODE, None)
        fill(tx, code=2)
        assert judged_together(tx) == {}, "two witnesses are too few, and copies are one"
        add(tx, "code-third", CODE, "code")
        [finding], [alone] = judged_together(tx)[wrong], judged(tx, wrong)[wrong]
        assert judged_together(tx).keys() == {wrong}
        assert (finding.measure, finding.evidence) == (pytest.approx(alone.measure), pytest.approx(alone.evidence))


def test_a_changed_label_is_judged_again(database: Database) -> None:
    settings = Settings(registry=REGISTRY)
    with database.transaction() as tx:
        fill(tx)
        version_id = add(tx, "mended", CODE, "legal")
        labels = {row.id: row.registered for row in versions.by_ids(tx, [version_id]).values()}
    recompute_where_due(database, settings)

    def found() -> list[int]:
        with database.transaction() as tx:
            kinds = [FindingKind.LABEL_CONTRADICTED]
            return [one.finding.version_id for one in findings.listing(tx, REGISTRY, kinds=kinds)]

    assert found() == [version_id]
    assert judge_relabelled(database, settings) == 0
    for tags, expected in (({"domain": "code"}, []), ({"domain": "legal"}, [version_id])):
        with database.transaction() as tx:
            transitions.discover(tx, [replace(labels[version_id], tags=tags)], fresh_since_ms=0)
            assert are_due(tx, settings)
        assert judge_relabelled(database, settings) == 1
        assert judge_relabelled(database, settings) == 0
        assert found() == expected
    with database.transaction() as tx:
        tags = {"domain": "legal", "note": "new"}
        transitions.discover(tx, [replace(labels[version_id], tags=tags)], fresh_since_ms=0)
    assert judge_relabelled(database, settings) == 0
