"""The pictures of README and docs, of the company of a running `make demo`. They are written into docs/.

python -m benchmarks.pictures [http://127.0.0.1:8501]
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.browser import launch

FOLDER = Path(__file__).parents[1] / "docs"
#: Picture, page, and a text that is there once the page is.
PICTURES = (
    ("map", "map", "Selected"),
    ("overview", "", "Overview"),
    ("model", "model?model=storefront-localizer&version=3", "Drift"),
    ("duplicates", "duplicates", "Keep"),
    ("drift", "drift?model=storefront-localizer", "storefront-localizer"),
    ("inbox", "inbox", "Inbox"),
    ("domains", "domains", "Domains"),
    ("system", "system", "Machines"),
)


def main(dashboard: str = "http://127.0.0.1:8501") -> None:
    """Take every picture."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for name, path, text in PICTURES:
            page.goto(f"{dashboard}/{path}")
            _settle(page, text)
            page.screenshot(path=FOLDER / f"{name}.png")
        browser.close()


def _settle(page: Page, text: str) -> None:
    """Wait until the page shows a text and has drawn its charts."""
    page.get_by_text(text).filter(visible=True).first.wait_for(timeout=60_000)
    page.wait_for_selector("[data-testid=stStatusWidget]", state="detached", timeout=60_000)
    page.wait_for_timeout(3_000)


if __name__ == "__main__":
    main(*sys.argv[1:])
