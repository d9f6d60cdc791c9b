"""The list of registered models."""

from __future__ import annotations

from datetime import UTC, datetime

from streamlit.testing.v1 import AppTest

from deltadex.store.database import Database
from tests.dashboard.conftest import Open
from tests.dashboard.seen import links, text
from tests.stored import HOUR_MS, discovered


def shown(page: AppTest) -> list[str]:
    return [link.removeprefix("model=") for link in links(page)]


def test_the_list_has_each_model_with_its_newest_version(company: None, open_page: Open) -> None:
    page = open_page("models")
    assert "37 registered models with 42 versions, page 1 of 2" in text(page)
    assert len(shown(page)) == 25
    assert shown(page)[0] == "queued-now&version=1"
    assert "storefront-localizer&version=4" in shown(page)
    assert "owner research · domain support · 4 versions" in text(page)
    page.selectbox(key="order").select_index(1).run()
    assert shown(page)[0] == "barely-trained&version=1"
    page.number_input(key="page").set_value(2).run()
    assert len(shown(page)) == 12


def test_conditions_of_a_link_go_together(company: None, open_page: Open) -> None:
    page = open_page("models", text="writer domain:legal", team="analytics", state="embedded")
    assert shown(page) == ["legal-writer&version=1"]
    today = datetime.now(UTC).date().isoformat()
    assert not shown(open_page("models", until="2020-01-01"))
    assert "queued-now&version=1" in shown(open_page("models", **{"from": today, "state": "queued"}))


def test_conditions_can_all_be_removed(company: None, open_page: Open) -> None:
    page = open_page("models", text="no such model", team="analytics")
    assert "No registered model meets all conditions." in text(page)
    [remove] = [button for button in page.button if button.label == "Remove all conditions"]
    remove.click().run()
    assert "37 registered models" in text(page)
    assert not page.query_params


def test_values_of_a_link_that_nothing_has_are_said(company: None, open_page: Open) -> None:
    page = open_page(
        "models", team="nobody [x]", domain="x", state="lost", **{"from": "yesterday", "until": "1066-10-14"}
    )
    for expected in (
        "No version has the team or owner 'nobody [x]'.",
        "No version has the domain tag 'x'",
        "There is no state 'lost'",
        "'yesterday' in the link is no date",
        "'1066-10-14' in the link is no date",
    ):
        assert expected in text(page)


def test_a_registration_counts_from_the_first_day_to_the_end_of_the_last(store: Database, open_page: Open) -> None:
    noon_ms = int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp() * 1000)
    with store.transaction() as tx:
        for day in (1, 2, 3):
            discovered(tx, f"model-{day}", created_ms=noon_ms + day * 24 * HOUR_MS + 11 * HOUR_MS)
    page = open_page("models", **{"from": "2026-01-03", "until": "2026-01-03"})
    assert shown(page) == ["model-2&version=1"]
