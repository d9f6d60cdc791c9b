"""The page that finds models by examples: starting, following and sharing a search."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from deltadex.embeddings import queries as embeddings
from deltadex.engine.examples import read_examples
from deltadex.find import queries as task_searches
from deltadex.find.queries import SEARCHES, TaskDelta
from deltadex.store.database import Database, Transaction
from deltadex_dashboard import visitor
from tests.dashboard.conftest import Open
from tests.dashboard.test_screens import links, text
from tests.stored import REGISTRY, embedded

EXAMPLES = '{"prompt": "Which invoices are overdue?", "completion": "SELECT 1"}\n'


@pytest.fixture
def models(store: Database) -> Database:
    with store.transaction() as tx:
        for name, vector in (("sql-writer", [1, 0, 0]), ("contract-drafter", [0, 1, 0]), ("secret-sql", [1, 0.1, 0])):
            embedded(tx, name, np.array(vector, dtype=np.float32), tags={"team": f"team-{name}"})
    return store


def delta(tx: Transaction, *, weakness: str = "") -> TaskDelta:
    [recipe] = embeddings.recipes(tx, REGISTRY)
    return TaskDelta(recipe.digest, np.array([1, 0.02, 0], dtype=np.float32), 0.2, 0.9, weakness)


def ask(page: AppTest, examples: str = EXAMPLES) -> AppTest:
    page.text_area(key="find-examples").set_value(examples)
    page.button(key="find").click().run()
    assert not page.exception
    return page


def test_a_search_is_asked_followed_and_answered_by_its_link(models: Database, open_page: Open) -> None:
    page = ask(open_page("find"))
    [search_id] = map(int, page.query_params["search"])
    assert "Waiting for the watcher" in page.get("progress")[0].proto.text
    with models.transaction() as tx:
        [waiting] = SEARCHES.waiting(tx, REGISTRY)
        row = task_searches.get(tx, REGISTRY, waiting.id)
        assert (row.id, row.base_name, row.examples_count) == (search_id, "base", 1)
        task_searches.begin(tx, search_id, flow_run_id="run")
    assert "Training" in page.run().get("progress")[0].proto.text
    with models.transaction() as tx:
        assert task_searches.finish(tx, search_id, delta(tx), seconds=1)

    shared = open_page("find", search=str(search_id))
    assert links(shared) == [
        "model=sql-writer&version=1", "model=secret-sql&version=1", "model=contract-drafter&version=1",
    ]  # fmt: skip
    assert "team-sql-writer" in text(shared)
    with models.transaction() as tx:
        embedded(tx, "sql-newer", np.array([1, 0.02, 0], dtype=np.float32))
    assert "sql-newer/1" in text(shared.run()), "the vector is searched as the registry is now"


def test_what_ails_the_examples_is_said_and_nothing_is_asked(models: Database, open_page: Open) -> None:
    assert "There are no examples" in text(ask(open_page("find"), ""))
    page = ask(open_page("find"), EXAMPLES + "{oops")
    assert "Line 2 is not an example" in text(page)
    assert '"completion": "4"' in text(page)
    with models.transaction() as tx:
        assert SEARCHES.waiting(tx, REGISTRY) == []


def test_a_person_has_at_most_three_searches_under_way(models: Database, open_page: Open) -> None:
    page = open_page("find")
    for _ in range(3):
        ask(page)
    assert "3 of your searches are under way" in text(ask(page))


def test_a_search_that_failed_is_weak_or_is_not_there_says_so(models: Database, open_page: Open) -> None:
    example = read_examples(EXAMPLES)
    with models.transaction() as tx:
        failed, weak, other = (task_searches.ask(tx, REGISTRY, "base", example, by=who) for who in "abc")
        for search_id in (failed, weak, other):
            task_searches.begin(tx, search_id, flow_run_id="run")
        SEARCHES.fail(tx, failed, reason="The base [x] is away.", hint="Bring it back.")
        task_searches.finish(tx, weak, delta(tx, weakness="They change the base too little."), seconds=1)
        task_searches.finish(tx, other, replace(delta(tx), recipe_digest="unknown"), seconds=1)
    for search_id, expected in (
        (failed, "The base [x] is away. Bring it back."),
        (weak, "They change the base too little."),
        (other, "no version that was embedded against this base"),
        (999, "There is no search with id 999"),
    ):
        page = open_page("find", search=str(search_id))
        assert expected in text(page).replace("**", "")
        assert links(page) == []


def test_models_that_one_may_not_see_are_masked(
    models: Database, environment: pytest.MonkeyPatch, open_page: Open, tmp_path: Path
) -> None:
    file = tmp_path / "people.toml"
    file.write_text('[people."ann@acme.com"]\nrole = "viewer"\nmodels = ["sql-*"]\n')
    with models.transaction() as tx:
        search_id = task_searches.ask(tx, REGISTRY, "base", read_examples(EXAMPLES), by="ben")
        task_searches.begin(tx, search_id, flow_run_id="run")
        task_searches.finish(tx, search_id, delta(tx), seconds=1)
    environment.setenv("DELTADEX_ACCESS__FILE", str(file))
    verified = {"iss": "https://id.acme", "sub": "17", "email": "ann@acme.com", "email_verified": True}
    claims = {**verified, "exp": time.time() + 60}
    environment.setattr(visitor, "_claims", lambda: claims)
    page = open_page("find", search=str(search_id))
    assert links(page) == ["model=sql-writer&version=1"]
    assert text(page).count("a model that you may not see") == 2
    assert "secret" not in text(page)
    [asked] = map(int, ask(page).query_params["search"])
    with models.transaction() as tx:
        assert task_searches.get(tx, REGISTRY, asked).asked_by == "ann@acme.com", "viewers may search"


def test_an_answer_says_what_is_close_or_that_nothing_is_and_how_certain_it_is(
    models: Database, open_page: Open
) -> None:
    example = read_examples(EXAMPLES)
    with models.transaction() as tx:
        close, far = (task_searches.ask(tx, REGISTRY, "base", example, by="ada") for _ in range(2))
        of_close = replace(delta(tx), halves_planned=2)
        for search_id, found in ((close, of_close), (far, replace(of_close, vector=np.array([0.3, 0.3, 0.9])))):
            task_searches.begin(tx, search_id, flow_run_id="run")
            assert task_searches.finish(tx, search_id, found, seconds=1)
    page = open_page("find", search=str(close))
    assert "The closest model is sql-writer/1: similarity 1.00." in page.success[0].value.replace("\\", "")
    assert "0 of 2 halves are trained" in page.get("progress")[0].proto.text
    with models.transaction() as tx:
        task_searches.add_half(tx, close, np.array([1.0, 0.03, 0.0]))
        task_searches.add_half(tx, close, np.array([0.0, 1.0, 0.0]))
        task_searches.stop_halves(tx, far)
    assert "1 of 2 trainings on halves of the examples find the same domain" in text(page.run())
    page = open_page("find", search=str(far))
    assert "No model is close" in page.warning[0].value
    assert links(page), "the closest are shown nevertheless"


def test_conditions_hold_for_every_answer(models: Database, open_page: Open) -> None:
    with models.transaction() as tx:
        search_id = task_searches.ask(tx, REGISTRY, "base", read_examples(EXAMPLES), by="ada")
        task_searches.begin(tx, search_id, flow_run_id="run")
        assert task_searches.finish(tx, search_id, delta(tx), seconds=1)
    given = {"search": str(search_id), "words": "contract sql", "like": "sql-writer"}
    page = open_page("find", **given, **{"find-tag": "team=team-contract-drafter"})
    assert set(links(page)) == {"model=contract-drafter&version=1"}
    assert len(links(page)) == 3
    assert "is not a tag and its value" in text(open_page("find", **{"find-tag": "team"}))


def test_a_mixture_finds_models_at_once(models: Database, open_page: Open) -> None:
    page = open_page("find", like="0.9 sql-writer + 0.1 contract-drafter")
    assert "The closest model is secret-sql/1" in page.success[0].value.replace("\\", "")
    page.text_input(key="like").set_value("0.5 nothing").run()
    assert "No domain, model or NAME/VERSION with an embedding is called 'nothing'" in text(page).replace("\\", "")


def test_examples_may_be_pasted_as_csv(models: Database, open_page: Open) -> None:
    page = ask(open_page("find"), "question,answer\nWhich invoices are overdue?,SELECT 1\nAnd paid?,SELECT 2")
    [search_id] = map(int, page.query_params["search"])
    with models.transaction() as tx:
        assert task_searches.get(tx, REGISTRY, search_id).examples_count == 2


def test_words_find_models_at_once(models: Database, open_page: Open) -> None:
    page = open_page("find")
    page.text_input(key="words").set_value("contract").run()
    assert "contract-drafter/1" in text(page)
    assert "matches in name" in text(page)
    assert "sql-writer/1" not in text(page)
    page.text_input(key="words").set_value("nothing-like-it").run()
    assert "No model has any of these words" in text(page)
