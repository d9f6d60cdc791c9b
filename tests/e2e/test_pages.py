"""Pages in a real browser on a filled store: a finding's review by two people, links, a lasso, an export."""

from __future__ import annotations

import csv
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from deltadex.embeddings import queries as embeddings
from deltadex.find import queries as task_searches
from deltadex.find.queries import TaskDelta
from deltadex.store.database import Database
from tests.conftest import unused_port
from tests.e2e.dashboards import Visit, dashboard, database_url, visitors
from tests.stored import REGISTRY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def address(postgres_url: str, folder: Path) -> Iterator[str]:
    """Where a dashboard on a filled store listens."""
    with dashboard(postgres_url, folder) as at:
        yield at


@pytest.fixture
def store(postgres_url: str, address: str, folder: Path) -> Iterator[Database]:
    """The store behind the dashboard."""
    with Database(database_url(postgres_url, folder)) as store:
        yield store


@pytest.fixture
def visit(address: str, browser: Browser) -> Iterator[Visit]:
    with visitors(address, browser) as visit:
        yield visit


def comment(page: Page, text: str, button: str) -> None:
    page.get_by_label("Comment").fill(text)
    page.get_by_label("Comment").press("Control+Enter")
    page.get_by_role("button", name=button, exact=True).click()


def test_a_finding_lives_with_two_people(visit: Visit, address: str) -> None:
    ann = visit("inbox?as=ann&kind=Same weights")
    ann.get_by_role("link", name="Review", exact=True).click()
    ann.wait_for_url(re.compile("finding="))
    [shared] = re.findall(r"finding=\d+", ann.url)
    ann.get_by_text("Accept: it needs action").click()
    comment(ann, "One of the two is enough.", "Ask for approval")
    expect(ann.get_by_text("waiting for a second person")).to_be_visible(timeout=60_000)
    expect(ann.get_by_role("button", name="Withdraw")).to_be_visible()
    expect(ann.get_by_role("button", name="Approve")).to_have_count(0)

    bob = visit(f"inbox?as=bob&{shared}")
    expect(bob.get_by_text("One of the two is enough.")).to_be_visible(timeout=60_000)
    expect(bob.get_by_text(re.compile("asks to keep .+, retire "))).to_be_visible()
    comment(bob, "Agreed: the older one stays.", "Approve")
    expect(bob.get_by_text("The decision is recorded.")).to_be_visible(timeout=60_000)
    # Her page follows by itself.
    expect(ann.get_by_text("Agreed: the older one stays.")).to_be_visible(timeout=60_000)
    expect(visit("audit").get_by_text("The hash chain of 2 entries is intact")).to_be_visible(timeout=60_000)


def test_whoever_comes_through_a_proxy_on_this_machine_is_no_admin(address: str, browser: Browser) -> None:
    """The browser itself sends `Host: 127.0.0.1`, as a proxy would that rewrites it."""
    port = unused_port()
    argv = [sys.executable, str(Path(__file__).parent / "plain_proxy.py"), str(port), address.rsplit(":", 1)[1]]
    proxy = subprocess.Popen(argv)
    shown = {}
    try:
        while True:
            with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        for name, url in (("proxied", f"http://127.0.0.1:{port}"), ("direct", address)):
            page = browser.new_context().new_page()
            page.set_default_timeout(60_000)
            page.goto(f"{url}/inbox?as=ann")
            page.get_by_role("link", name="Review", exact=True).first.click()
            expect(page.get_by_role("heading", name="Decision")).to_be_visible(timeout=60_000)
            expect(
                page.get_by_text(re.compile("Only reviewers decide|Accept: it needs action|Reopen")).first
            ).to_be_visible()
            shown[name] = page.get_by_text("anonymous is a viewer. Only reviewers decide.").count()
            page.context.close()
    finally:
        proxy.kill()
        proxy.wait()
    assert shown == {"proxied": 1, "direct": 0}


def test_a_lasso_is_a_table_that_can_be_shared_and_saved(visit: Visit, tmp_path: Path) -> None:
    page = visit("map")
    area = page.locator(".nsewdrag").first
    area.hover()
    page.locator('[data-attr="dragmode"][data-val="lasso"]').click()
    box = area.bounding_box()
    assert box is not None
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.04)]
    for number, (x, y) in enumerate(corners):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
        if number == 0:
            page.mouse.down()
    page.mouse.up()
    expect(page.get_by_text("35 chosen")).to_be_visible(timeout=60_000)
    page.wait_for_url(re.compile("chosen="))
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    file = tmp_path / "chosen.csv"
    download.value.save_as(file)
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert len(rows) == 35
    assert {row["cluster"] for row in rows} == {"sql", "legal", "medical", "code", "support"}
    other = visit(page.url.partition("/map")[2].join(("map", "")))
    expect(other.get_by_text("35 chosen")).to_be_visible(timeout=60_000)


def test_a_chart_tells_its_numbers_under_the_pointer(visit: Visit) -> None:
    page = visit("drift")
    chart = page.get_by_test_id("stVegaLiteChart").first.locator("svg.marks")
    expect(chart.get_by_text("threshold 0.5")).to_be_visible()
    below = chart.get_by_text("v2", exact=True).bounding_box()
    assert below is not None
    page.mouse.move(below["x"] + below["width"] / 2, below["y"] - 40)
    expect(page.locator("#vg-tooltip-element")).to_contain_text("from the version before")


@pytest.mark.parametrize(
    "path", ["", "inbox", "model?model=help-centre", "duplicates", "drift", "domains", "find", "system"]
)
def test_every_page_can_be_read_in_the_dark_and_on_a_phone(visit: Visit, path: str) -> None:
    page = visit(path)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.get_by_test_id("stException")).to_have_count(0)
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, "nothing makes the page wider than the phone"


#: Contrast of the first caption with the page (WCAG 2.1), its opacity included.
_CONTRAST = """() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number)
  const box = document.querySelector('[data-testid=stCaptionContainer]')
  const page = numbers(getComputedStyle(document.querySelector('.stApp')).backgroundColor)
  const text = numbers(getComputedStyle(box.querySelector('p')).color), alpha = Number(getComputedStyle(box).opacity)
  const shown = text.slice(0, 3).map((value, place) => value * alpha + page[place] * (1 - alpha))
  const linear = value => value / 255 <= .03928 ? value / 255 / 12.92 : ((value / 255 + .055) / 1.055) ** 2.4
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b)
  const [dim, bright] = [light(shown), light(page)].sort((a, b) => a - b)
  return (bright + .05) / (dim + .05)
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_captions_can_be_read_in_both_themes(visit: Visit, scheme: str) -> None:
    page = visit("")
    page.emulate_media(color_scheme=scheme)
    page.reload()
    expect(page.get_by_test_id("stCaptionContainer").first).to_be_visible(timeout=60_000)
    assert page.evaluate(_CONTRAST) >= 4.5


def test_find_takes_words_and_answers_at_once(visit: Visit) -> None:
    page = visit("find")
    words = page.get_by_role("textbox", name=re.compile("words", re.IGNORECASE)).first
    words.fill("sql writer")
    words.press("Enter")
    expect(page.get_by_role("link", name=re.compile("sql-writer")).first).to_be_visible(timeout=60_000)


def test_find_takes_a_mixture_and_says_what_it_was_taken_for(visit: Visit) -> None:
    page = visit("find")
    like = page.get_by_role("textbox", name=re.compile("like these", re.IGNORECASE))
    like.fill("0.7 sql + 0.3 legal-writer/1")
    like.press("Enter")
    expect(page.get_by_text(re.compile(r"0\.7 × domain sql \+ 0\.3 × legal-writer/1"))).to_be_visible(timeout=60_000)
    expect(page.get_by_text(re.compile("The closest model is .+: similarity")).first).to_be_visible()
    page.wait_for_url(re.compile("like="))


def test_find_takes_a_file_of_examples_and_shows_the_answer_and_its_certainty(
    store: Database, visit: Visit, tmp_path: Path
) -> None:
    """A person uploads; the library's own functions store what a flow would."""
    file = tmp_path / "task.csv"
    file.write_text("question,answer\n" + "Which invoices are overdue?,SELECT 1\n" * 5)
    page = visit("find")
    page.locator("input[type=file]").set_input_files(file)
    expect(page.get_by_text("task.csv").first).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Find models").click()
    expect(page.get_by_text("Waiting for the watcher, which starts it within seconds.")).to_be_visible(timeout=60_000)
    [search_id] = map(int, re.findall(r"search=(\d+)", page.url))
    with store.transaction() as tx:
        given = task_searches.begin(tx, search_id, flow_run_id="run")
        assert given is not None
        assert len(given) == 5
        recipe = embeddings.recipes(tx, REGISTRY)[0]
        vector = np.eye(1, recipe.dimension, dtype=np.float32)[0]
        delta = TaskDelta(recipe.digest, vector, 0.2, 0.9, "", halves_planned=2)
        assert task_searches.finish(tx, search_id, delta, seconds=20)
    # The page follows by itself.
    expect(page.get_by_text(re.compile("The closest model is .+ of the domain sql")).first).to_be_visible(
        timeout=60_000
    )
    expect(page.get_by_text("0 of 2 halves are trained")).to_be_visible(timeout=60_000)
    with store.transaction() as tx:
        for _ in range(2):
            task_searches.add_half(tx, search_id, vector)
    expect(page.get_by_text("2 of 2 trainings on halves of the examples find the same domain")).to_be_visible(
        timeout=60_000
    )
