"""Findings on the pages: filtered lists, decisions by role, and the log."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from deltadex.access import Person, Role
from deltadex.ingest.round import recompute_where_due
from deltadex.replay import queries as replays
from deltadex.replay.agreement import Agreement, Estimate
from deltadex.replay.ask import ask
from deltadex.reviews import actions as reviews
from deltadex.reviews.lifecycle import Status
from deltadex.reviews.queries import ReviewRow
from deltadex.settings import load_settings
from deltadex.store.database import Database
from deltadex.types import FindingKind
from deltadex.versions import queries as versions
from tests.dashboard.company import DIMENSION, DOMAINS, fill
from tests.dashboard.conftest import Open
from tests.dashboard.seen import links, text
from tests.stored import REGISTRY, embedded

ANYBODY = Person("anybody", Role.VIEWER)


@pytest.fixture
def filled(store: Database) -> Database:
    """Fill a store of its own, since the tests write decisions."""
    with store.transaction() as tx:
        fill(tx)
    recompute_where_due(store, load_settings())
    return store


def found(store: Database, kind: FindingKind) -> ReviewRow:
    with store.transaction() as tx:
        return reviews.listing(tx, ANYBODY, load_settings(), kinds=[kind])[0]


def login(name: str) -> dict[str, object]:
    return {"iss": "https://id", "sub": name, "email": name, "email_verified": True, "exp": 2**40}


def lines(page: AppTest) -> list[str]:
    return [link for link in links(page) if "finding=" in link]


def decide(page: AppTest, decision: str, comment: str) -> AppTest:
    page.radio(key="decision").set_value(decision).run()
    page.text_area(key="comment").set_value(comment).run()
    return page.button(key="decide").click().run()


def test_without_findings_the_page_says_so(store: Database, open_page: Open) -> None:
    assert "There are no findings" in text(open_page("inbox"))
    assert "There are no decisions yet" in text(open_page("audit"))


def test_a_link_narrows_the_list(filled: Database, open_page: Open) -> None:
    page = open_page("inbox")
    assert len(lines(page)) == len(page.dataframe[-1].value) == 12
    assert len(lines(open_page("inbox", kind="Drift"))) == 1
    assert len(lines(open_page("inbox", kind="Near duplicates", severity="low"))) == 1
    assert "No finding matches the filters" in text(open_page("inbox", status="accepted"))


def test_a_finding_shows_what_it_rests_on(filled: Database, open_page: Open) -> None:
    drifted = found(filled, FindingKind.DRIFT)
    page = open_page("inbox", finding=str(drifted.id))
    assert "storefront-localizer/3 has drifted from storefront-localizer/2" in text(page)
    assert "threshold 0.5" in text(page)
    facts = dict(page.dataframe[0].value.values.tolist())
    assert float(facts["strength ratio"]) > 0
    assert "This finding does not exist" in text(open_page("inbox", finding="999"))


def test_a_finding_is_dismissed_with_a_reason_and_reopened(filled: Database, open_page: Open) -> None:
    near = found(filled, FindingKind.NEAR_DUPLICATE)
    page = decide(open_page("inbox", finding=str(near.id)), "dismissed", "Another market.")
    assert "1 finding is dismissed" in page.success[0].value
    with filled.transaction() as tx:
        assert reviews.get(tx, ANYBODY, load_settings(), near.id).review.status is Status.DISMISSED
    assert "Another market" in text(page)
    page.text_area(key="comment").set_value("It is the same market.").run()
    page.button(key="reopen").click().run()
    with filled.transaction() as tx:
        assert reviews.get(tx, ANYBODY, load_settings(), near.id).review.status is Status.OPEN
    log = open_page("audit").dataframe[0].value
    assert list(log["did"]) == ["reopened", "dismissed"]
    of_model = text(open_page("model", model=near.version.registered.ref.name))
    assert "Another market." in of_model
    assert "It is the same market." in of_model


def test_a_decision_without_a_comment_is_refused(filled: Database, open_page: Open) -> None:
    near = found(filled, FindingKind.NEAR_DUPLICATE)
    page = open_page("inbox", finding=str(near.id))
    page.button(key="decide").click().run()
    assert "needs a comment" in page.error[0].value


def test_a_person_cannot_approve_their_own_request(filled: Database, open_page: Open) -> None:
    exact = str(found(filled, FindingKind.EXACT_DUPLICATE).id)
    page = decide(open_page("inbox", finding=exact, **{"as": "ann"}), "accepted", "One is enough.")
    assert "waiting for a second person" in page.success[0].value
    assert "ann asks to keep" in text(page).replace("*", "")
    assert "approve" not in [button.key for button in page.button], "not one's own request"
    other = open_page("inbox", finding=exact, **{"as": "bob"})
    other.text_area(key="comment").set_value("Agreed.").run()
    other.button(key="approve").click().run()
    with filled.transaction() as tx:
        assert reviews.get(tx, ANYBODY, load_settings(), int(exact)).review.status is Status.ACCEPTED


def test_a_finding_that_changed_since_it_was_shown_is_not_decided(filled: Database, open_page: Open) -> None:
    near = found(filled, FindingKind.NEAR_DUPLICATE)
    page = open_page("inbox", finding=str(near.id))
    page.text_area(key="comment").set_value("As I saw it.").run()
    with filled.transaction() as tx:
        someone = Person("someone", Role.ADMIN)
        reviews.assign(tx, someone, load_settings(), {near.id: near.revision}, assignee="someone")
    page.button(key="decide").click().run()
    assert "not what you saw" in page.error[0].value


def test_several_are_decided_at_once(filled: Database, open_page: Open) -> None:
    page = open_page("inbox", severity="low")
    page.button(key="mark-all").click().run()
    count = sum(box.value for box in page.checkbox)
    assert count > 1
    decide(page, "dismissed", "Kept on purpose.")
    assert f"{count} findings are dismissed" in page.success[0].value
    assert "No finding matches the filters" in text(page)


def test_people_need_a_login_where_people_are_listed(
    filled: Database, environment: pytest.MonkeyPatch, open_page: Open, tmp_path: Path
) -> None:
    file = tmp_path / "people.toml"
    file.write_text('[people.ann]\nrole = "viewer"\n')
    environment.setenv("DELTADEX_ACCESS__FILE", str(file))
    page = open_page("inbox")
    assert [title.value for title in page.title] == ["You have no access"]


def test_a_viewer_decides_nothing_and_other_teams_models_are_masked(
    filled: Database, environment: pytest.MonkeyPatch, open_page: Open, tmp_path: Path
) -> None:
    file = tmp_path / "people.toml"
    file.write_text('[people.ann]\nrole = "viewer"\nmodels = ["sql-*", "barely-*"]\n')
    environment.setenv("DELTADEX_ACCESS__FILE", str(file))
    environment.setattr("deltadex_dashboard.visitor._claims", lambda: login("ann"))
    page = open_page("inbox")
    assert len(page.dataframe[-1].value) == 12, "masked, and not silently missing"
    assert "storefront" not in text(page) + str(page.dataframe[-1].value.values.tolist())
    assert "barely-trained/1" in text(open_page("inbox", kind="Too weak to place"))
    drifted = open_page("inbox", finding=str(found(filled, FindingKind.DRIFT).id))
    assert "reviewers decide" in text(drifted)
    assert "storefront" not in text(drifted)
    for name in ("overview", "map", "duplicates", "drift", "domains", "system"):
        page = open_page(name)
        shown = text(page) + "".join(str(table.value.values.tolist()) for table in page.dataframe)
        assert "storefront" not in shown
        assert "contract-drafter" not in shown
    for name in ("storefront-localizer", "never-registered"):
        assert f"{name} is not known." in text(open_page("model", model=name)), "no name is told apart by its rights"


def test_a_domain_of_models_that_a_person_may_not_see_has_no_name(
    filled: Database, environment: pytest.MonkeyPatch, open_page: Open, tmp_path: Path
) -> None:
    recompute_where_due(filled, load_settings())
    file = tmp_path / "people.toml"
    file.write_text('[people.ann]\nrole = "viewer"\nmodels = ["storefront-*"]\n')
    with filled.transaction() as tx:
        direction = np.zeros(DIMENSION, dtype=np.float32)
        direction[[DOMAINS.index("sql"), DOMAINS.index("support")]] = 2, 1
        embedded(tx, "storefront-mixed", direction)
        embedded(tx, "storefront-mixed", np.eye(DIMENSION)[DOMAINS.index("medical")], version=2)
    shown = text(open_page("model", model="storefront-mixed", version="1"))
    assert re.search(r"Made of\*\* 0\.7 sql \+ 0\.3 support", shown)
    environment.setenv("DELTADEX_ACCESS__FILE", str(file))
    environment.setattr("deltadex_dashboard.visitor._claims", lambda: login("ann"))
    shown = text(open_page("model", model="storefront-mixed", version="1"))
    assert re.search(r"Made of\*\* 0\.7 ••• \+ 0\.3 support", shown)
    shown = set(open_page("domains").dataframe[0].value["domain"])
    assert "support" in shown
    assert not {"sql", "medical", "code"} & shown
    assert "nearest •••" in text(open_page("drift", model="storefront-mixed"))


def test_a_domain_is_renamed_by_who_may_and_stays_chosen(
    filled: Database, environment: pytest.MonkeyPatch, open_page: Open, tmp_path: Path
) -> None:
    recompute_where_due(filled, load_settings())
    environment.setenv("DELTADEX_DATABASE__ROLE", "deltadex_reader")
    page = open_page("domains", domain="sql", **{"as": "ann"})
    [name] = page.text_input
    name.set_value("Queries")
    page.button[0].click().run()
    assert "Renamed to Queries" in page.success[0].value
    assert page.selectbox(key="domain").value == "Queries"
    assert "Named by: ann" in text(page)
    other = open_page("domains", domain="legal")
    other.text_input[0].set_value("Queries")
    other.button[0].click().run()
    assert "Another cluster is named" in other.error[0].value
    file = tmp_path / "people.toml"
    file.write_text('[people.eve]\nrole = "viewer"\n')
    environment.setenv("DELTADEX_ACCESS__FILE", str(file))
    environment.setattr("deltadex_dashboard.visitor._claims", lambda: login("eve"))
    assert not open_page("domains", domain="Queries").text_input


def test_a_failed_version_is_retried_from_the_page(
    filled: Database, environment: pytest.MonkeyPatch, open_page: Open
) -> None:
    environment.setenv("DELTADEX_DATABASE__ROLE", "deltadex_reader")
    page = open_page("system")
    with filled.transaction() as tx:
        [failed] = versions.find(tx, REGISTRY, "invoice-extractor", 1)
    page.button(key=f"retry-{failed.id}").click().run()
    assert "queued again, as attempt 2" in page.success[0].value
    with filled.transaction() as tx:
        [row] = versions.find(tx, REGISTRY, "invoice-extractor", 1)
    assert row.attempt == 2


def test_what_a_replay_has_shown_is_on_the_page_and_in_the_decision(filled: Database, open_page: Open) -> None:
    row = found(filled, FindingKind.EXACT_DUPLICATE)
    keeper, [target, *_] = row.plan.keeper, row.plan.targets
    page = open_page("inbox", finding=str(row.id), **{"as": "ann"})
    assert "Do they answer alike?" in text(page)
    assert f"{target.version}: never replayed" in text(page)
    with filled.transaction() as tx:
        replay_id = ask(tx, ANYBODY, load_settings(), keeper.id, target.id, ["x"])
        replays.begin(tx, replay_id, flow_run_id="run")
        half = Estimate(0.5, 0.4, 0.6)
        assert replays.finish(tx, replay_id, Agreement(100, half, half, half), digests=("a", "b"), seconds=1)
    shown = "Both give the same answer to 50 of 100 prompts"
    page = decide(open_page("inbox", finding=str(row.id), **{"as": "ann"}), "accepted", "They answer alike.")
    assert text(page).count(shown) == 2, "beside the evidence, and with the request"
