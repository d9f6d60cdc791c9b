"""The pictures of README and docs, of the company of a running `make demo`. They are written into docs/.

python -m benchmarks.pictures [http://127.0.0.1:8501]
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.browser import launch

FOLDER = Path(__file__).parents[1] / "docs"
#: Picture, page, and a text that is there once the page is. One of the demo's two people looks.
PICTURES = (
    ("overview", "?as=ben", "For you, ben"),
    ("map", "map", "Selected"),
    ("models", "models", "registered models with"),
    ("model", "model?model=storefront-localizer&version=3", "has drifted"),
    ("compare", "compare?a=firmware-copilot/1&b=robotics-copilot/1", "Similarity"),
    ("drift", "drift?model=storefront-localizer", "storefront-localizer"),
    ("inbox", "inbox", "Mark all"),
    ("domains", "domains", "Domains"),
    ("system", "system", "Machines"),
)
#: The group that waits for this person's approval.
_GROUP = ("group", "inbox?kind=Same weights&as=ben", "asks to")


def main(dashboard: str = "http://127.0.0.1:8501") -> None:
    """Take every picture."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for name, path, text in PICTURES:
            page.goto(f"{dashboard}/{path}")
            _take(page, name, text)
        name, path, text = _GROUP
        page.goto(f"{dashboard}/{path}")
        page.get_by_role("link", name="Review", exact=True).first.click()
        _take(page, name, text)
        browser.close()


def _take(page: Page, name: str, text: str) -> None:
    _settle(page, text)
    page.screenshot(path=FOLDER / f"{name}.png")


def _settle(page: Page, text: str) -> None:
    """Wait until the page shows a text and has drawn its charts."""
    page.get_by_text(text).filter(visible=True).first.wait_for(timeout=60_000)
    page.wait_for_selector("[data-testid=stStatusWidget]", state="detached", timeout=60_000)
    page.wait_for_timeout(3_000)


if __name__ == "__main__":
    main(*sys.argv[1:])
