from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from benchmarks import pool_texts
from benchmarks.pool_additivity import additivity
from benchmarks.pool_texts import DOMAINS, Source, Template
from benchmarks.pool_vectors import canonical
from benchmarks.pools import TWO_SOURCES, Finetune, mixtures, pools, reseeds, singles


def test_every_model_of_a_pool_is_another_one_of_one_base() -> None:
    for pool in pools():
        assert len(set(pool.finetunes)) == len(pool.finetunes)
        assert len({one.base for one in pool.finetunes}) == 1


def test_settings_are_mixed_in_every_domain() -> None:
    mixed = [one for pool in pools() if "all settings" in pool.name for one in pool.finetunes]
    for domain in DOMAINS:
        of_domain = [one for one in mixed if one.domain == domain]
        for field in ("learning_rate", "rank", "epochs", "examples"):
            assert len({getattr(one, field) for one in of_domain}) > 1


def test_a_reseed_differs_in_its_seed_only() -> None:
    grid = [Finetune(("sql",), part=part) for part in (1, 2)]
    assert reseeds(grid) == (replace(grid[0], seed=1),)


def test_parts_share_no_file() -> None:
    for domain in DOMAINS:
        for source, parts in ((Source.FIRST, (1, 2, 3)), (Source.OTHER, (1, 2))):
            if source is Source.FIRST or domain in TWO_SOURCES:
                texts = [set(pool_texts.part(domain, number, source)) for number in parts]
                assert all(texts)
                assert not any(one & other for one, other in combinations(texts, 2))


def test_the_template_decides_what_stands_around_the_instruction() -> None:
    one, other = (pool_texts.prompt("legal", template) for template in Template)
    assert "Draft the terms." in one
    assert "Draft the terms." in other
    assert one != other


def test_matrices_with_one_product_have_one_canonical_form() -> None:
    random = np.random.default_rng(0)
    left, right, change = random.normal(size=(12, 4)), random.normal(size=(4, 9)), random.normal(size=(4, 4))
    one = canonical(left, right)
    np.testing.assert_allclose(canonical(left @ change, np.linalg.inv(change) @ right), one, atol=1e-9)
    np.testing.assert_allclose(canonical(left @ right, np.eye(9)), one, atol=1e-6)
    assert np.abs(canonical(left @ change, right) - one).max() > 0.1


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_sum_of_two_deltas_is_fully_additive(in_turn: bool) -> None:
    random = np.random.default_rng(0)
    deltas = {one: random.normal(size=64).astype(np.float32) for one in singles()}
    wanted = [one for one in mixtures() if one.in_turn is in_turn]
    for one in wanted:
        deltas[one] = sum(deltas[replace(one, domains=(domain,), in_turn=False)] for domain in one.domains)
    for row in additivity(deltas, wanted):
        assert row.total == pytest.approx([1, 1, 1], abs=1e-5)
        assert all(first < 0.95 for first in row.first)
        assert len(row.second) == 3
