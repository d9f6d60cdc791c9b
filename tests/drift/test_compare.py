"""Comparison of two versions on a real store."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.drift.compare import compare
from deltadex.embeddings import queries as embeddings
from deltadex.store.database import Database
from tests.stored import ADMIN, REGISTRY, embedded


def test_two_versions_are_compared_in_direction_in_strength_and_probe_by_probe(database: Database) -> None:
    with database.transaction() as tx:
        one, other = embedded(tx, "one", np.array([1.0, 0.0])), embedded(tx, "other", np.array([1.0, 1.0]))
        [recipe] = embeddings.recipes(tx, REGISTRY)
        found = compare(tx, ADMIN, recipe, one, other)
    assert found is not None
    assert found.strengths == pytest.approx((0.1, 0.1 * 2**0.5))
    assert found.move.distance == pytest.approx(1 - 0.5**0.5)
    assert found.move.probe_distances == pytest.approx([1 - 0.5**0.5] * 5, rel=1e-3)


def test_without_probes_or_a_place_less_is_said(database: Database) -> None:
    with database.transaction() as tx:
        one = embedded(tx, "one", np.array([1.0, 0.0]))
        weak = embedded(tx, "weak", np.array([0.0, 1.0]), is_weak=True)
        other = embedded(tx, "other", np.array([0.0, 1.0]))
        tx.execute("alter table embeddings disable trigger user")
        tx.execute("update embeddings set probe_deltas = null where model_version_id = %s", [other])
        [recipe] = embeddings.recipes(tx, REGISTRY)
        assert compare(tx, ADMIN, recipe, one, weak) is None
        found = compare(tx, ADMIN, recipe, one, other)
        tx.rollback()
    assert found is not None
    assert found.move.probe_distances is None
