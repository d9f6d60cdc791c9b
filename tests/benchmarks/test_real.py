"""The benchmark on finetunes of a real language model: its pools, its questions, and its rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.real.choice import HARD, chosen
from benchmarks.real.measured import Measured, load, save
from benchmarks.real.pools import Finetune, finetunes, of_second_base
from benchmarks.real.recipes import PUBLISHED
from benchmarks.real.scores import QUESTIONS, Answer, Asked, clustered, comparisons, mixtures, rates
from benchmarks.real.texts import DOMAINS, PARTS, Role
from deltadex.vectors import cosine_similarity

ALL_ROLES = tuple(Role)


def asked(models: tuple[Finetune, ...], vectors: NDArray[np.float64]) -> Asked:
    return Asked.of(models, cosine_similarity(vectors), ALL_ROLES)


def directions(models: tuple[Finetune, ...], noise: float = 0.0) -> NDArray[np.float64]:
    """A direction of its own for each domain and kind."""
    names = sorted({(one.domain, one.kind) for one in models})
    random = np.random.default_rng(1)
    own = random.normal(size=(len(names), 200))
    return np.stack([own[names.index((one.domain, one.kind))] + noise * random.normal(size=200) for one in models])


def test_every_finetune_is_another_one_and_reseeds_differ_in_the_seed_alone() -> None:
    models = finetunes()
    assert len({replace(one, pools=()) for one in models}) == len(models)
    for one in models:
        if one.pools == ("reseeds",):
            assert [other.pools for other in models if replace(one, seed=other.seed, pools=("splits",)) == other]


def test_domains_of_every_role_have_what_the_questions_need() -> None:
    for role in (Role.TRAIN, Role.SELECT, Role.TEST):
        domains = [domain for domain in DOMAINS.values() if domain.role is role]
        assert sum(bool(domain.other) for domain in domains) >= 1
        assert sum(bool(domain.relatives) for domain in domains) >= 1


def test_a_recipe_that_knows_the_domains_answers_every_question() -> None:
    models = tuple(one for one in finetunes() if len(one.domains) == 1 and one.kind != 1)
    answers = {
        name: ask(asked(models, directions(models, 0.05))) for name, ask in QUESTIONS.items() if "source" not in name
    }
    assert 0.3 < answers.pop("reseed or other split, AUC").value < 0.7  # parts of a domain are alike here
    assert {name for name, answer in answers.items() if answer.value < 0.99} == set()


def test_a_recipe_that_knows_nothing_is_right_by_chance() -> None:
    models = finetunes()
    nothing = asked(models, np.random.default_rng(2).normal(size=(len(models), 300)))
    assert QUESTIONS["nearest, same settings"](nothing).value < 0.3
    assert abs(QUESTIONS["silhouette, same settings"](nothing).value) < 0.1
    assert 0.3 < QUESTIONS["task of 20 examples: known or missing, AUC"](nothing).value < 0.7


def test_the_same_text_is_no_evidence_for_the_domain() -> None:
    splits = tuple(
        Finetune(("splits",), (name,), part, seed=part) for name in ("bible", "go") for part in range(PARTS - 1)
    )
    copy = replace(splits[0], pools=("settings",), rank=4)
    vectors = np.eye(7)
    vectors[6] = vectors[0] + 0.5 * vectors[3]  # nearest is its own text; of the others, one of "go"
    answer = QUESTIONS["nearest, other settings"](asked((*splits, copy), vectors))
    assert answer.hits == (False,)


def test_a_share_is_printed_as_k_of_n_with_wilsons_interval() -> None:
    splits = tuple(Finetune(("splits",), (name,), part) for name in ("bible", "go") for part in range(PARTS - 1))
    answer = QUESTIONS["nearest, same settings"](asked(splits, directions(splits)))
    assert str(answer) == "6 of 6 [0.61, 1.00]"


def row(hard: float, plain: float) -> dict[str, Answer]:
    return {**{name: Answer(hard, 0, 1) for name in HARD}, "silhouette, same settings": Answer(plain, 0, 1)}


@pytest.mark.parametrize(
    ("other", "wanted"),
    [(row(0.9, 0.9), "other"), (row(0.9, 0.8), PUBLISHED), (row(0.81, 0.9), PUBLISHED), (row(0.5, 0.99), PUBLISHED)],
)
def test_the_rule_takes_a_clear_gain_that_loses_nothing(other: dict[str, Answer], wanted: str) -> None:
    assert chosen({PUBLISHED: row(0.8, 0.9), "other": other}) == wanted


def test_a_difference_is_corrected_for_the_number_of_questions() -> None:
    clear, none = (True,) * 9, (False,) * 9
    ours = {
        "clear": Answer(1, 1, 1, clear),
        "even": Answer(0.5, 0, 1, clear),
        "drawn": Answer(0.9, 0, 1, (), (0.9, 0.8)),
    }
    theirs = {
        "clear": Answer(0, 0, 0, none),
        "even": Answer(0.5, 0, 1, clear),
        "drawn": Answer(0.7, 0, 1, (), (0.7, 0.9)),
    }
    found = comparisons(ours, theirs)
    assert found["clear"].p == pytest.approx(2 * 0.5**9)
    assert found["clear"].adjusted == pytest.approx(3 * 2 * 0.5**9)
    assert (found["even"].difference, found["even"].p, found["even"].adjusted) == (0, 1, 1)
    assert (found["drawn"].p, found["drawn"].adjusted) == (1, 1)  # one resample is better, one is worse


def test_clusters_and_rates_are_scored_by_the_domains() -> None:
    models = tuple(one for one in finetunes() if len(one.domains) == 1 and one.kind == 0)
    deltas = directions(models, 0.05)
    found = clustered(models, deltas, Role.TEST)
    assert {one.agreement for one in found.values()} == {1.0}
    assert found["same settings"].models == found["same settings"].domains * (PARTS - 1)
    assert rates(asked(models, deltas)).value > 0.9


def test_the_second_base_has_domains_that_it_was_not_trained_on() -> None:
    roles = {DOMAINS[one.domain].role for one in of_second_base()}
    assert roles == {Role.SELECT, Role.TEST}


def test_mixes_are_compared_with_the_sum_of_their_parts() -> None:
    parts = tuple(Finetune(("splits",), (name,), 2) for name in ("go", "policy"))
    mix = Finetune(("mixes",), ("go", "policy"), 2)
    (found,) = mixtures(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), (*parts, mix))
    assert (found.name, found.in_turn) == ("go+policy", False)
    assert found.total == pytest.approx(1)
    assert found.nearest == pytest.approx(np.sqrt(0.5))


def test_committed_vectors_are_read_as_they_were_written(tmp_path: Path) -> None:
    models = finetunes()[:5]
    readings = {"probes": np.random.default_rng(3).normal(size=(5, 5, 8)).astype(np.float16).astype(np.float32)}
    save(tmp_path / "vectors.npz", Measured(models, readings, {"weights, raw": np.eye(5)}))
    found = load(tmp_path / "vectors.npz")
    assert found.models == models
    np.testing.assert_array_equal(found.readings["probes"], readings["probes"])
    np.testing.assert_array_equal(found.others["weights, raw"], np.eye(5))
