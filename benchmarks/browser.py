"""Chromium on this machine, as benchmarks, pictures and end-to-end tests drive it."""

from __future__ import annotations

import os
import shutil

from playwright.sync_api import Browser, Playwright

_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def launch(playwright: Playwright) -> Browser:
    """Start the browser that `CHROMIUM` names, or that is on the path.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    names = (os.environ.get("CHROMIUM", "chromium"), "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise FileNotFoundError("no Chromium: `make browser` installs it")
    return playwright.chromium.launch(executable_path=found, args=_FLAGS, env=dict(os.environ))
