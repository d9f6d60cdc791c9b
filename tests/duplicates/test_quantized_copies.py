"""Quantized copies are duplicates of their originals, and no drift, in whatever order the two come."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.checkpoints.merge_check import Imprint
from deltadex.drift.model_drift import lines, model_drift
from deltadex.duplicates.group import Redundancy
from deltadex.duplicates.overview import redundancies
from deltadex.embeddings import imprints
from deltadex.embeddings import queries as embeddings
from deltadex.findings import queries as findings
from deltadex.ingest.record import find
from deltadex.setting_groups import ThresholdSettings
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import FindingKind
from deltadex.versions import queries as versions
from tests.stored import ADMIN, REGISTRY, embedded, embedding

THRESHOLDS = ThresholdSettings(near_duplicate_similarity=0.95, same_task_similarity=0.9, calibrate=False)
SETTINGS = Settings(registry=REGISTRY, thresholds=THRESHOLDS)

RANDOM = np.random.default_rng(0)
BASE, STEP, OTHER = (RANDOM.normal(size=1000).astype(np.float32) * size for size in (1, 0.2, 0.2))
ROUNDED = (np.round((BASE + STEP) * 4) / 4).astype(np.float32)

MODEL, UNRELATED = Imprint(BASE + STEP, None), Imprint(BASE + OTHER, None)
COPY = Imprint(ROUNDED, None, bits=4, base=BASE)
#: Directions of embeddings: rounding turned the copy's by 90 degrees.
FAR = dict(zip("abc", np.eye(8, dtype=np.float32), strict=False))


def arrive(tx: Transaction, name: str, version: int, imprint: Imprint, vector: np.ndarray) -> None:
    weights = f"{name}/{version}"
    version_id = embedded(tx, name, vector, version=version, weights=weights)
    [recipe] = embeddings.recipes(tx, REGISTRY)
    imprints.save(tx, version_id, recipe.id, embedding(vector, weights=weights), imprint)
    find(tx, versions.get(tx, version_id), recipe.id, thresholds=THRESHOLDS)


def found(tx: Transaction, kind: FindingKind) -> set[tuple[str, str]]:
    rows = findings.listing(tx, REGISTRY, kinds=[kind])
    return {(row.version.label, row.other.label) for row in rows if row.other}


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)], ids=str)
def test_a_copy_of_the_version_before_is_a_duplicate_and_no_drift(database: Database, order: tuple[int, ...]) -> None:
    arrivals = [(1, MODEL, FAR["a"]), (2, COPY, FAR["b"]), (3, UNRELATED, FAR["c"])]
    with database.transaction() as tx:
        for place in order:
            version, imprint, vector = arrivals[place]
            arrive(tx, "support", version, imprint, vector)
        assert found(tx, FindingKind.EXACT_DUPLICATE) == {("support/2", "support/1")}
        assert found(tx, FindingKind.DRIFT) == {("support/3", "support/1")}
        [finding] = findings.listing(tx, REGISTRY, kinds=[FindingKind.EXACT_DUPLICATE])
        drift = model_drift(tx, ADMIN, REGISTRY, "support", thresholds=THRESHOLDS)
        [line] = lines(tx, ADMIN, REGISTRY)
    evidence = finding.finding.evidence
    assert "the same model, quantized to 4 bits" in str(evidence["reason"])
    assert evidence["bits"] == 4
    expected = np.linalg.norm(ROUNDED - BASE - STEP) / np.linalg.norm(BASE + STEP)
    assert evidence["relative_error"] == pytest.approx(expected, rel=1e-4)
    assert drift is not None
    assert [row.label for row in drift.versions] == ["support/1", "support/3"]
    assert (line.versions, line.changes) == (2, 1)


def test_a_copy_under_another_name_is_in_the_group_of_equal_weights(database: Database) -> None:
    with database.transaction() as tx:
        arrive(tx, "support", 1, MODEL, FAR["a"])
        arrive(tx, "other", 1, UNRELATED, FAR["a"] + FAR["b"])
        arrive(tx, "tiny", 1, COPY, FAR["a"] + 0.9 * FAR["b"])
        assert found(tx, FindingKind.EXACT_DUPLICATE) == {("tiny/1", "support/1")}
        [group] = redundancies(tx, ADMIN, SETTINGS)[0].of_kind(Redundancy.EXACT)
    assert sorted(row.label for row in group.versions) == ["support/1", "tiny/1"]


def test_an_imprint_comes_back_as_it_was_stored(database: Database) -> None:
    with database.transaction() as tx:
        arrive(tx, "served", 1, COPY, FAR["a"])
        [recipe] = embeddings.recipes(tx, REGISTRY)
        [row] = versions.listing(tx, REGISTRY)
        stored = imprints.of_versions(tx, recipe.id, [row.id])[row.id]
    assert stored.bits == 4
    np.testing.assert_array_equal(stored.values, ROUNDED)
    np.testing.assert_array_equal(stored.base, BASE)
