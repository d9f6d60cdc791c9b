"""Loading times of the dashboard's pages in a real Chromium, with 10,000 synthetic versions and 2,000 findings.

A *first view* opens the page's address in a new browser after a change of the data, so that nothing is cached; *again*
is the same without a change; an *interaction* is the page's main action. Each ends two frames after the script has run,
no element is stale and the charts are drawn. No GPU: WebGL runs on the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.browser import launch
from benchmarks.dashboard_company import fill
from benchmarks.store_company import REGISTRY, Company, load, scratch_database
from benchmarks.synthetic_vectors import SyntheticVectors
from deltadex.setting_groups import DatabaseSettings, PortSettings
from deltadex.settings import Settings
from deltadex.stack import specs
from deltadex.stack.ports import free_port
from deltadex.stack.process import Service

_DRAWN = """() => {
  const app = document.querySelector('[data-testid="stApp"]');
  const charts = [...document.querySelectorAll('[data-testid="stPlotlyChart"], [data-testid="stVegaLiteChart"]')];
  return app && app.dataset.testScriptState === 'notRunning' && document.querySelector('[data-testid="stHeading"]')
    && !document.querySelector('[data-stale="true"], [data-testid="stSkeleton"]')
    && charts.every(chart => chart.querySelector('.main-svg, .marks'));
}"""
_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
_ROUNDS = 3


@dataclass(frozen=True)
class Visit:
    """A page, an action of a person on it, and the limits in seconds for view and action."""

    name: str
    path: str
    act: Callable[[Page, int], None]
    view_limit: float = 2.0
    act_limit: float = 1.0


@dataclass(frozen=True)
class WaitTimes:
    """Median waiting times in seconds, and the MB sent for the page's first view.

    Attributes
    ----------
    first_cpu, interaction_cpu
        CPU seconds of server, database and browser together. They work in parallel, so on an idle machine the waiting
        time is shorter than this. It does not depend on the machine's load.
    """

    page: str
    first: float
    again: float
    interaction: float
    first_cpu: float
    interaction_cpu: float
    megabytes: float
    first_limit: float
    interaction_limit: float

    @property
    def is_met(self) -> bool:
        """True if both times are within their limits."""
        return self.first <= self.first_limit and self.interaction <= self.interaction_limit


def _choose(page: Page, label: str, round_: int) -> None:
    """Choose another option of a select box."""
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option").nth(round_ + 1).click()


def _box(page: Page, round_: int) -> None:
    area = page.locator(".nsewdrag").first.bounding_box() or {}
    page.mouse.move(area["x"] + area["width"] * 0.3, area["y"] + area["height"] * 0.3)
    page.mouse.down()
    far = 0.6 + 0.05 * round_
    page.mouse.move(area["x"] + area["width"] * far, area["y"] + area["height"] * far, steps=4)
    page.mouse.up()


def _slide(page: Page, _: int) -> None:
    slider = page.get_by_role("slider").first
    slider.focus()
    slider.press("ArrowLeft")


def _to_inbox(page: Page, round_: int) -> None:
    page.get_by_role("link", name="Overview" if round_ % 2 else "Inbox", exact=True).first.click()


def _open_one(page: Page, round_: int) -> None:
    page.get_by_role("link", name="← All findings" if round_ % 2 else "Review", exact=True).first.click()


_COMPARISON = "compare?a=model-0000001/1&b=model-0000002/1"
VISITS = (
    Visit("overview: to inbox", "", _to_inbox),
    Visit("inbox: filter", "inbox", lambda page, round_: _choose(page, "Kind", round_)),
    Visit("inbox: one", "inbox", _open_one),
    Visit("map: box", "map", _box, 4.0, 2.0),
    Visit("map: colour", "map", lambda page, round_: _choose(page, "Colour by", round_), 4.0, 2.0),
    Visit("models: team", "models", lambda page, round_: _choose(page, "Team or owner", round_), 1.5, 0.5),
    Visit("compare", _COMPARISON, lambda page, round_: _choose(page, "Other version", round_), 1.5, 0.5),
    Visit("model", "model?model=model-0000001", lambda page, round_: _choose(page, "Version", round_)),
    Visit("duplicates: page", "duplicates", lambda page, _: page.get_by_role("button", name="Increment").click()),
    Visit("duplicates: threshold", "duplicates", _slide),
    Visit("drift", "drift", lambda page, round_: _choose(page, "Registered model", round_)),
    Visit("domains", "domains", lambda page, round_: _choose(page, "Domain", round_)),
    Visit("audit", "audit", lambda page, _: page.get_by_role("link", name="System", exact=True).first.click()),
    Visit("system", "system", lambda page, _: page.get_by_role("link", name="Audit", exact=True).first.click()),
)


def measure(company: Company, browser: Browser, url: str, visit: Visit) -> WaitTimes:
    firsts, agains, acts, sent = [], [], [], 0.0
    for _ in range(_ROUNDS):
        _touch(company)
        with _opened(browser, url, visit) as (_, taken, megabytes):
            firsts.append(taken)
            sent = megabytes
        with _opened(browser, url, visit) as (page, taken, _):
            agains.append(taken)
            if len(agains) == _ROUNDS:
                acts = [_timed(page, lambda number=number: visit.act(page, number)) for number in range(_ROUNDS)]
    (first, first_cpu), (again, _), (act, act_cpu) = (
        np.median(timings, axis=0).tolist() for timings in (firsts, agains, acts)
    )
    return WaitTimes(visit.name, first, again, act, first_cpu, act_cpu, sent, visit.view_limit, visit.act_limit)


class _Stopwatch:
    """Wall-clock seconds, and CPU seconds of all child processes, since construction."""

    def __init__(self) -> None:
        self._started = self._now()

    def __call__(self) -> tuple[float, float]:
        wall, cpu = self._now()
        return wall - self._started[0], cpu - self._started[1]

    def _now(self) -> tuple[float, float]:
        cpu = 0.0
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                cpu += used.user + used.system
        return time.perf_counter(), cpu


def _touch(company: Company) -> None:
    """Change one version, so that the cache is out of date."""
    with company.database.transaction() as tx:
        tx.execute("update model_versions set description = %s where id = %s", [str(time.time()), int(company.ids[0])])


@contextmanager
def _opened(browser: Browser, url: str, visit: Visit) -> Iterator[tuple[Page, tuple[float, float], float]]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, received = context.new_page(), [0]

    def count(frame: str | bytes) -> None:
        received[0] += len(frame)

    page.on("websocket", lambda socket: socket.on("framereceived", count))
    watch = _Stopwatch()
    page.goto(f"{url}/{visit.path}", wait_until="commit")
    _wait(page)
    try:
        yield page, watch(), received[0] / 1e6
    finally:
        context.close()


def _timed(page: Page, act: Callable[[], None]) -> tuple[float, float]:
    page.wait_for_timeout(300)
    watch = _Stopwatch()
    act()
    # The click must reach the server before the script's state is checked.
    page.wait_for_timeout(50)
    _wait(page)
    return watch()


def _wait(page: Page) -> None:
    page.wait_for_function(_DRAWN, timeout=120_000, polling=20)
    page.evaluate(_FRAMES)


@contextmanager
def _dashboard(company: Company, folder: Path) -> Iterator[str]:
    settings = Settings(
        data_dir=folder,
        registry=REGISTRY,
        database=DatabaseSettings(url=company.database.url),
        ports=PortSettings(dashboard=free_port(0)),
    )
    spec = specs.dashboard(settings)
    service = Service(spec, folder / "dashboard.log")
    service.start()
    try:
        service.wait_up(60)
        yield str(spec.url)
    finally:
        service.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 versions and 200 findings")
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    count = 1_000 if options.quick else 10_000
    with tempfile.TemporaryDirectory() as scratch, scratch_database(Path(scratch)) as database:
        company = load(database, SyntheticVectors(count, options.dimension), Path(scratch))
        filled = fill(company, count // 5)
        with _dashboard(company, Path(scratch)) as url, sync_playwright() as playwright:
            browser = launch(playwright)
            # A warm-up: the server imports its libraries only once.
            measure(company, browser, url, VISITS[1])
            times = []
            for visit in VISITS:
                times.append(measure(company, browser, url, visit))
                print(times[-1], flush=True)
            browser.close()
    print(
        f"{count:,} versions in {options.dimension:,} dimensions, {filled:,} findings; seconds, median of {_ROUNDS}\n"
    )
    print(f"load of the machine: {os.getloadavg()[0]:.1f}\n")
    print(f"{'page':<24}{'first (CPU)':>15}{'again':>8}{'interaction (CPU)':>19}{'MB sent':>9}{'of its limits':>16}")
    for one in times:
        shares = f"{one.first / one.first_limit:.2f} / {one.interaction / one.interaction_limit:.2f}"
        first, act = f"{one.first:.2f} ({one.first_cpu:.2f})", f"{one.interaction:.2f} ({one.interaction_cpu:.2f})"
        print(
            f"{one.page:<24}{first:>15}{one.again:>8.2f}{act:>19}{one.megabytes:>9.2f}"
            f"{shares:>16}{'' if one.is_met else '  missed'}"
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in times], indent=2))


if __name__ == "__main__":
    main()
