"""Safety drift on the page of a model."""

from __future__ import annotations

from deltadex.safety.ask import ask
from deltadex.safety.queries import SAFETY, SafetyBase
from deltadex.store.database import Database
from tests.dashboard.conftest import Open
from tests.dashboard.seen import text
from tests.safety.test_queries import SETTINGS, measured
from tests.safety.test_queries import base as base
from tests.stored import ADMIN, REGISTRY, discovered


def test_a_measurement_is_shown_with_its_verdict_and_beside_a_failed_one_after_it(
    store: Database, open_page: Open, base: SafetyBase
) -> None:
    with store.transaction() as tx:
        version_id = discovered(tx, "model")
        measured(tx, base, version_id)
    page = open_page("model", model="model")
    assert "Does it still refuse?" in text(page)
    assert "AUROC along the direction" in str([table.value.values.tolist() for table in page.dataframe])
    with store.transaction() as tx:
        request_id = ask(tx, ADMIN, SETTINGS, version_id)
        SAFETY.fail(tx, request_id, reason="The base is away", hint="Look for it.")
    page = open_page("model", model="model")
    assert "The base is away" in text(page)
    assert "AUROC along the direction" in str([table.value.values.tolist() for table in page.dataframe])


def test_a_measurement_is_asked_for_on_the_page_after_its_cost_is_stated(store: Database, open_page: Open) -> None:
    with store.transaction() as tx:
        discovered(tx, "model")
    page = open_page("model", model="model")
    assert "Not measured yet: whether it tells harmful from harmless" in text(page)
    assert "short prompts, and the base" in text(page)
    page.button(key="safety").click().run()
    assert "Waiting for the watcher" in str([each.proto.text for each in page.get("progress")])
    with store.transaction() as tx:
        assert len(SAFETY.waiting(tx, REGISTRY)) == 1
