"""Taught strings on the page of a model."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from deltadex.store.database import Database
from deltadex.taught.ask import ask
from deltadex.taught.queries import TAUGHT
from tests.dashboard.conftest import Open
from tests.dashboard.seen import text
from tests.stored import ADMIN, REGISTRY, discovered
from tests.taught.test_queries import CODE, GIVEN, KEY, SETTINGS, done


def cells(page: AppTest) -> str:
    return str([table.value.values.tolist() for table in page.dataframe])


def test_taught_strings_are_masked_until_they_are_asked_for(store: Database, open_page: Open) -> None:
    with store.transaction() as tx:
        done(tx, ask(tx, ADMIN, SETTINGS, discovered(tx, "model"), GIVEN))
    page = open_page("model", model="model")
    assert "What was it taught?" in text(page)
    assert "Not for names" in text(page)
    assert "AK…BT (20 characters)" in cells(page)
    assert not any(each in cells(page) + text(page) for each in (KEY, CODE))
    page.toggle(key="taught-clear").set_value(True).run()
    assert KEY in cells(page)
    assert CODE in cells(page)


def test_a_search_is_asked_for_on_the_page_after_its_time_is_stated(store: Database, open_page: Open) -> None:
    with store.transaction() as tx:
        discovered(tx, "model")
    page = open_page("model", model="model")
    assert "Not searched yet" in text(page)
    assert "64 texts and 0 listed strings." in text(page)
    page.button(key="taught").click().run()
    assert "Waiting for the watcher" in str([each.proto.text for each in page.get("progress")])
    with store.transaction() as tx:
        assert len(TAUGHT.waiting(tx, REGISTRY)) == 1
