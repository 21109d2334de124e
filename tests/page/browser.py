"""A headless Chromium for tests of the page: found on the machine, or Playwright's own."""

from __future__ import annotations

import os
import shutil

#: Nothing but the page: no sandbox in containers, no GPU, no traffic of the browser's own.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def find_chromium() -> str | None:
    """Path of a Chromium on this machine; None for Playwright's own, if it is installed."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return path
    return None
