"""The Models place in a real browser: search by team and date, any two versions compared, Back, a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from deltadex.store.database import Transaction
from tests.dashboard.company import DIMENSION
from tests.e2e.dashboards import Visit, dashboard, visitors
from tests.lineage.made import beginning, linear, trained_on
from tests.stored import embedded, sketched

LONG = "extractor-of-clauses-" * 6
#: Registered three weeks before everything else.
EARLY = "early-bird"


def prepare(tx: Transaction) -> None:
    early_ms = int((datetime.now(UTC) - timedelta(weeks=3)).timestamp() * 1000)
    for place, name in enumerate((LONG, EARLY), start=10):
        embedded(tx, name, np.eye(DIMENSION)[place], tags={"team": "analytics"}, created_ms=early_ms + place)
    relatives(tx)


def relatives(tx: Transaction) -> None:
    """A model that was trained on, and a merge of it with another one, known by their weights alone."""
    one, other = beginning(1), beginning(2)
    child = trained_on(one, 3)
    made = {"root-writer": one, "grown-writer": child, "graft": other, "grafted-writer": linear(child, other)}
    for place, (name, sketch) in enumerate(made.items(), start=20):
        sketched(tx, embedded(tx, name, np.eye(DIMENSION)[place]), sketch)


@pytest.fixture(scope="module")
def address(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a dashboard on a filled store listens."""
    with dashboard(postgres_url, tmp_path_factory.mktemp("models_page"), prepare=prepare) as at:
        yield at


@pytest.fixture
def visit(address: str, browser: Browser) -> Iterator[Visit]:
    with visitors(address, browser) as visit:
        yield visit


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label).fill(option)
    page.get_by_role("option", name=option, exact=True).click()


def test_models_are_searched_by_team_and_date(visit: Visit) -> None:
    page = visit("models")
    choose(page, "Team or owner", "analytics")
    page.wait_for_url(re.compile("team=analytics"))
    expect(page.get_by_role("link", name="queued-now/1")).to_have_count(0)
    expect(page.get_by_role("link", name="legal-writer/1")).to_be_visible()
    expect(page.get_by_role("link", name=f"{EARLY}/1")).to_be_visible()
    a_week_ago = (datetime.now(UTC) - timedelta(weeks=1)).date().isoformat()
    shared = visit(f"models?team=analytics&until={a_week_ago}")
    expect(shared.get_by_text("2 registered models with 2 versions")).to_be_visible()
    expect(shared.get_by_role("link", name=f"{EARLY}/1")).to_be_visible()
    expect(shared.get_by_role("link", name=LONG[:20])).to_be_visible()
    shared.get_by_role("textbox", name="Name or tag").fill("bird")
    shared.get_by_role("textbox", name="Name or tag").press("Enter")
    expect(shared.get_by_text("1 registered model with 1 version")).to_be_visible()
    expect(shared.get_by_role("link", name=f"{EARLY}/1")).to_be_visible()
    expect(shared.get_by_role("link", name=LONG[:20])).to_have_count(0)


def test_any_two_versions_are_compared(visit: Visit) -> None:
    page = visit("compare")
    choose(page, "One version", "vendor-agreements/1")
    choose(page, "Other version", "contract-drafter/1")
    expect(page.get_by_text("They have the same weights.")).to_be_visible()
    page.wait_for_url(re.compile("a=vendor-agreements.*b=contract-drafter"))
    choose(page, "Other version", "legacy-queries/1")
    expect(page.get_by_text("They have different base models")).to_be_visible()


def test_back_undoes_one_step_at_a_press_and_conditions_survive(visit: Visit) -> None:
    page = visit("models?text=sql&team=analytics")
    page.get_by_role("link", name="sql-reviewer/1").click()
    expect(page.get_by_role("heading", name="sql-reviewer/1")).to_be_visible()
    page.get_by_role("button", name="sql-classifier/1").first.click()
    expect(page.get_by_role("heading", name="sql-classifier/1")).to_be_visible()
    page.get_by_role("link", name=re.compile("^Compare with sql-")).first.click()
    expect(page.get_by_text(re.compile("^Similarity"))).to_be_visible()
    for heading in ("sql-classifier/1", "sql-reviewer/1"):
        page.go_back()
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
    page.go_back()
    expect(page.get_by_text("1 registered model with 1 version")).to_be_visible()
    expect(page.get_by_role("textbox", name="Name or tag")).to_have_value("sql")
    assert page.url.endswith("/models?text=sql&team=analytics")


def test_lineage_is_drawn_with_declared_and_measured_lines(visit: Visit) -> None:
    graph = visit("model?model=vendor-agreements").get_by_test_id("stGraphVizChart")
    for relation, dashed in (("same weights", 1), ("base of", 0)):
        line = graph.locator("g.edge").filter(has_text=relation)
        expect(line).to_be_visible()
        expect(line.locator("path[stroke-dasharray]")).to_have_count(dashed)


def test_measured_parents_are_drawn_with_an_arrow_and_their_p_value(visit: Visit) -> None:
    page = visit("model?model=grown-writer")
    graph = page.get_by_test_id("stGraphVizChart")
    for relation, other in (("trained on as", "root-writer/1"), ("merged into", "grafted-writer/1")):
        line = graph.locator("g.edge").filter(has_text=relation)
        expect(line).to_be_visible()
        expect(line).to_contain_text("p ")
        expect(line.locator("polygon")).to_have_count(1)
        expect(line.locator("path[stroke-dasharray]")).to_have_count(1)
        expect(graph.locator("g.node").filter(has_text=other)).to_be_visible()
    expect(page.get_by_text("Base by the weights: undetermined.")).to_be_visible()


@pytest.mark.parametrize(
    "path",
    ["models", "models?team=nobody", f"model?model={LONG}", "compare?a=help-centre/1&b=sql-writer/1", "drift"],
)
def test_a_phone_shows_every_page_without_scrolling_sideways(visit: Visit, path: str) -> None:
    page = visit(path, width=390)
    page.emulate_media(color_scheme="dark")
    expect(page.get_by_test_id("stException")).to_have_count(0)
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
