"""Declared domains that contradict the embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deltadex.clusters.labels import judge_labels, read_labels
from deltadex.embeddings import queries as embeddings
from deltadex.search.nearest import nearest
from deltadex.settings import ThresholdSettings
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding
from deltadex.versions import queries as versions
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
