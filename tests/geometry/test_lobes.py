"""Tags that match the behaviour of models are found, and others are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score

from deltadex.geometry.chance import Refusal
from deltadex.geometry.lobes import ALL_ITEMS, FEWEST_MODELS, Item, Lobes, _agreement, lobes
from tests.synthetic import families


def company(count: int, *, domains: int = 5, seed: int = 0) -> tuple[NDArray[np.float32], list[set[Item]]]:
    """Return models of several domains, tagged with their domain and with an unrelated stage and team."""
    random = np.random.default_rng(seed)
    sizes = [len(range(domain, count, domains)) for domain in range(domains)]
    vectors = families(sizes, seed=seed, spread=0.7, dimension=64)
    names = np.repeat(np.arange(domains), sizes)
    items = [
        {("domain", f"{name}"), ("stage", f"{random.integers(2)}"), ("team", f"{random.integers(count // 5)}")}
        for name in names
    ]
    return vectors, items


def by_name(vectors: NDArray[np.float32], items: list[set[Item]]) -> dict[str, Lobes]:
    return {one.name: one for one in lobes(vectors, items) if isinstance(one, Lobes)}


@pytest.mark.parametrize("count", [FEWEST_MODELS, 40])
def test_the_tag_that_says_what_models_do_is_found_and_others_are_not(count: int) -> None:
    found = by_name(*company(count))
    assert found["domain"].is_found
    assert found["domain"].agreement.value > 0.6
    assert found["domain"].groups == 5
    assert "Groups by domain closely match" in found["domain"].meaning
    assert not found["stage"].is_found
    assert "Groups by stage do not match" in found["stage"].meaning


def test_models_that_share_many_things_form_lobes_together() -> None:
    vectors, items = company(45, domains=3)
    random = np.random.default_rng(1)
    for each in items:
        [domain] = [value for key, value in each if key == "domain"]
        each |= {
            (f"used in {place}", "yes") for place in range(12) if (place % 3 == int(domain)) ^ (random.random() < 0.1)
        }
    together = by_name(vectors, items)[ALL_ITEMS]
    assert together.groups == 3
    assert together.agreement.value > 0.6
    assert together.is_found


def test_tags_that_say_nothing_are_found_as_rarely_as_the_level_says() -> None:
    p_values = []
    for seed in range(100):
        vectors, items = company(24, domains=3, seed=seed)
        shuffled = [items[row] for row in np.random.default_rng(seed).permutation(len(items))]
        p_values += [one.agreement.p_value for one in by_name(vectors, shuffled).values() if one.name != "team"]
    assert len(p_values) == 300
    # Of 300 draws at a level of .05, 99.9 % have 4 to 29; p-values of a discrete measure are never too small.
    assert np.sum(np.array(p_values) <= 0.05) <= 29


def test_the_order_of_rows_changes_nothing() -> None:
    vectors, items = company(20)
    order = np.random.default_rng(0).permutation(20)
    assert lobes(vectors[order], [items[row] for row in order]) == lobes(vectors, items)


def test_the_agreement_is_the_adjusted_mutual_information() -> None:
    random = np.random.default_rng(0)
    one, other = random.integers(3, size=40), random.integers(4, size=40)
    found = _agreement(one, other)
    assert found.value == pytest.approx(adjusted_mutual_info_score(one, other))
    assert found.chance.low < 0 < found.chance.high
    assert _agreement(one, one).value == pytest.approx(1)


def test_too_few_models_are_refused_with_the_number_it_takes() -> None:
    vectors, items = company(FEWEST_MODELS - 1)
    found = lobes(vectors, items)
    assert all(isinstance(one, Refusal) for one in found)
    assert found[0] == Refusal(ALL_ITEMS, "models that share one", FEWEST_MODELS - 1, FEWEST_MODELS)


def test_a_tag_with_a_value_for_every_other_model_is_refused() -> None:
    vectors, items = company(20)
    for number, each in enumerate(items):
        each.add(("owner", f"{number // 2}"))
    [owner] = [one for one in lobes(vectors, items) if isinstance(one, Refusal)]
    assert (owner.question, owner.count, owner.needed) == ("owner", 20, 30)


def test_what_all_models_or_only_one_carry_is_not_asked_about() -> None:
    vectors, items = company(20)
    for number, each in enumerate(items):
        each |= {("licence", "ours"), ("ticket", f"{number}")}
    assert {"licence", "ticket"}.isdisjoint(by_name(vectors, items))


def test_models_without_tags_are_refused() -> None:
    [refusal] = lobes(families([20]), [set()] * 20)
    assert isinstance(refusal, Refusal)
    assert refusal.count == 0
