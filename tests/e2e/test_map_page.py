"""The map in a real browser: a click on a point, search, links and Back, and a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from deltadex.store.database import Transaction
from tests.e2e.dashboards import dashboard

#: Where a version's point is on the screen.
_PLACE = """label => {
  const graph = document.querySelector('.js-plotly-plot')
  const trace = graph._fullData.find(trace => trace.customdata && trace.text.includes(label))
  const row = trace.text.indexOf(label), area = graph.querySelector('.nsewdrag').getBoundingClientRect()
  const {xaxis, yaxis} = graph._fullLayout
  return [area.left + xaxis.c2p(trace.x[row]), area.top + yaxis.c2p(trace.y[row])]
}"""
#: Opacity of the points of each label.
_OPACITIES = """() => Object.fromEntries(document.querySelector('.js-plotly-plot')._fullData
  .filter(trace => trace.customdata)
  .flatMap(trace => trace.text.map((label, row) => [label, trace.marker.opacity[row] ?? trace.marker.opacity])))"""


def prepare(tx: Transaction) -> None:
    """Let one version lie elsewhere than its tag says."""
    tx.execute("update model_versions set tags = tags || '{\"domain\": \"sql\"}' where name = 'code-copilot'")


@pytest.fixture(scope="module")
def address(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a dashboard listens on a filled store, in which one version lies elsewhere than its tag says."""
    with dashboard(postgres_url, tmp_path_factory.mktemp("map"), prepare=prepare) as at:
        yield at


@pytest.fixture
def page(address: str, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def open_map(page: Page, address: str, query: str = "") -> None:
    page.goto(f"{address}/map{query}")
    expect(page.locator(".nsewdrag").first).to_be_visible(timeout=60_000)


def click_point(page: Page, label: str) -> None:
    x, y = page.evaluate(_PLACE, label)
    page.mouse.move(x, y)
    expect(page.locator(".hoverlayer")).to_contain_text("registered:")
    page.mouse.click(x, y)
    page.wait_for_url(re.compile("selected="))


def test_a_click_on_a_point_shows_its_details_and_back_returns_to_them(page: Page, address: str) -> None:
    open_map(page, address)
    for label in ("medical-writer/1", "storefront-localizer/3"):
        click_point(page, label)
        expect(page.get_by_test_id("stPageLink").get_by_text(label)).to_be_visible()
        expect(page.get_by_role("combobox", name=re.compile("Selected version"))).to_have_value(label)
    expect(page.get_by_text("Path on the map: v1 → v2 → v3 → v4")).to_be_visible()
    expect(page.get_by_text("Its neighbours, by cosine similarity")).to_be_visible()
    page.get_by_test_id("stPageLink").get_by_text("storefront-localizer/3").click()
    page.wait_for_url(re.compile("/model"))
    expect(page.locator(".js-plotly-plot")).to_have_count(0)
    page.go_back()
    if "selected=" not in page.url:  # Streamlit 1.67 adds an entry without parameters when such a page is left
        page.go_back()
    page.wait_for_url(re.compile(r"/map\?.*selected=storefront-localizer"))
    expect(page.get_by_text("Path on the map: v1 → v2 → v3 → v4")).to_be_visible()


def test_a_search_emphasises_what_it_matches_and_is_in_the_link(page: Page, address: str) -> None:
    open_map(page, address)
    page.get_by_label("Search").fill("Medical")
    page.get_by_label("Search").press("Enter")
    expect(page.get_by_text("5 of 35 versions match.")).to_be_visible()
    page.wait_for_url(re.compile("search=Medical"))
    page.wait_for_function(f"() => ({_OPACITIES})()['sql-writer/1'] < 0.5")
    opacities = page.evaluate(_OPACITIES)
    assert {label for label, opacity in opacities.items() if opacity == 1} == {
        f"medical-{one}/1" for one in ("writer", "reviewer", "copilot", "classifier", "extractor")
    }
    page.reload()
    expect(page.get_by_text("5 of 35 versions match.")).to_be_visible()


def test_versions_that_lie_elsewhere_than_their_tag_says_have_a_ring(page: Page, address: str) -> None:
    open_map(page, address)
    expect(page.get_by_text("1 with a ring")).to_be_visible()
    expect(page.locator(".legend").get_by_text("lies elsewhere")).to_be_visible()


@pytest.mark.parametrize("path", ["map?selected=storefront-localizer/3", "domains"])
def test_the_map_and_its_pages_fit_a_phone_in_the_dark(page: Page, address: str, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    page.goto(f"{address}/{path}")
    expect(page.get_by_test_id("stHeading").first).to_be_visible(timeout=60_000)
    page.wait_for_load_state("networkidle")
    expect(page.get_by_test_id("stException")).to_have_count(0)
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, "nothing makes the page wider than the phone"
