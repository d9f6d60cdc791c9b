"""The page that advises on a task: the time first, then progress, then the answer by its link."""

from __future__ import annotations

import json

import pytest
from streamlit.testing.v1 import AppTest

from deltadex.advise import queries as advice
from deltadex.advise.queries import ADVICE
from deltadex.replay.agreement import Estimate
from deltadex.store.database import Database
from deltadex_dashboard.charts.intervals import IntervalRow, interval_rows
from tests.advise.test_queries import advice_to_reuse
from tests.dashboard.conftest import Open
from tests.dashboard.seen import text
from tests.stored import REGISTRY, embedded

EXAMPLES = "\n".join(json.dumps({"prompt": f"question {number}", "completion": "yes"}) for number in range(12))


@pytest.fixture
def models(store: Database) -> Database:
    with store.transaction() as tx:
        embedded(tx, "swapper", [1, 0, 0])
    return store


def fill(page: AppTest, examples: str = EXAMPLES) -> AppTest:
    page.text_area(key="advice-examples").set_value(examples).run()
    assert not page.exception
    return page


def test_an_advice_is_estimated_asked_followed_and_answered_by_its_link(models: Database, open_page: Open) -> None:
    page = fill(open_page("advise"))
    assert "12 examples. Fewer than 30 get no recommendation." in text(page)
    page.text_area(key="advice-candidates").set_value("swapper/1").run()
    page.button(key="advise").click().run()
    assert not page.exception
    [request_id] = map(int, page.query_params["advice"])
    assert "Waiting for the watcher" in page.get("progress")[0].proto.text
    with models.transaction() as tx:
        row = advice.get(tx, REGISTRY, request_id)
        [version_id] = row.wanted.candidates
        advice.begin(tx, request_id, flow_run_id="run")
    assert "Scoring" in page.run().get("progress")[0].proto.text
    with models.transaction() as tx:
        assert advice.finish(tx, request_id, advice_to_reuse(version_id, "swapper/1"), seconds=1)
    shared = open_page("advise", advice=str(request_id))
    assert "Reuse swapper/1" in text(shared)
    assert any("nearest finetune" in drawn.proto.body for drawn in shared.get("html"))


def test_what_ails_a_request_is_said_and_nothing_is_asked(models: Database, open_page: Open) -> None:
    page = open_page("advise")
    page.button(key="advise").click().run()
    assert "There are no examples" in text(page)
    page = fill(open_page("advise"))
    page.text_area(key="advice-candidates").set_value("unheard-of/1").run()
    page.button(key="advise").click().run()
    assert "is not known" in text(page)
    with models.transaction() as tx:
        assert ADVICE.waiting(tx, REGISTRY) == []


def test_intervals_share_one_scale_and_titles_are_text() -> None:
    drawn = interval_rows(
        [IntervalRow("<b>x</b>", Estimate(1, 0, 2)), IntervalRow("y", Estimate(3, 2, 4), True)], unit="nats"
    )
    assert "&lt;b&gt;x" in drawn
    assert "<b>" not in drawn
    assert "1.00 (0.00 to 2.00)" in drawn
    assert drawn.index("0.00</span>") < drawn.index("4.00</span>")
