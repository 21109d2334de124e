"""Pages made from small logs, and a browser without a network to open them in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from calib_harness import Predictions, load_predictions
from calib_harness.page import make_report
from tests.page.browser import ARGUMENTS, find_chromium
from tests.page.runs import FAMILIES, HOSTILE, METHODS, write_hostile_runs, write_runs

RESAMPLES = 1000  # with 200, no corrected p of 15 changes could be below .05


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that holds ``logs`` and ``pairs.csv``."""
    folder = tmp_path_factory.mktemp("runs")
    write_runs(folder)
    return folder


@pytest.fixture(scope="session")
def site(runs: Path) -> Path:
    """Page of the ordinary runs, with pairs and a chain."""
    chain = runs / "chain.csv"
    rows = [
        (f, f"org/{m}", s) for f, (b, a) in FAMILIES.items() for m, s in ((b, "base"), (a, "rl"))
    ]
    pd.DataFrame(rows, columns=["family", "model", "stage"]).to_csv(chain, index=False)
    return make_report(
        runs / "logs",
        runs / "page.html",
        pairs=runs / "pairs.csv",
        chain=chain,
        methods=METHODS,
        n_resamples=RESAMPLES,
        cache=False,
        command="calib-harness report 'logs of <mine>' -o page.html",
    )


@pytest.fixture(scope="session")
def predictions(runs: Path) -> list[Predictions]:
    """What the logs of `site` hold."""
    return load_predictions(runs / "logs", methods=METHODS, cache=False)


@pytest.fixture(scope="session")
def hostile_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Page whose names, title and prompts mean harm."""
    folder = tmp_path_factory.mktemp("hostile")
    logs = write_hostile_runs(folder)
    pairs = folder / "pairs.csv"
    rows = [(HOSTILE[0], HOSTILE[i], HOSTILE[i + 1]) for i in range(len(HOSTILE) - 1)]
    pd.DataFrame(rows, columns=["family", "base", "aligned"]).to_csv(pairs, index=False)
    return make_report(
        logs,
        folder / "page.html",
        pairs=pairs,
        methods=METHODS[:2],
        n_resamples=20,
        cache=False,
        title="</title><script>window.hacked=4</script>\u202e",
        command="rm </script><script>window.hacked=5</script>",
    )


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless browser, or a skip that says how to get one."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip)")
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        except sync_api.Error as error:
            pytest.skip(
                f"needs Chromium: scripts/browser installs it ({str(error).splitlines()[0]})"
            )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page, network off; a tab's errors fail the test."""
    contexts, problems = [], []

    def opened(path: Path, view: str = "leaderboard", **options: Any) -> Any:
        context = chromium.new_context(
            offline=True, **{"viewport": {"width": 1440, "height": 900}} | options
        )
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(10_000)
        tab.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("request", lambda request: tab.requested.append(request.url))
        tab.requested = []
        tab.goto(f"{path.as_uri()}#/{view}")
        tab.wait_for_selector("html[data-ready]")
        if view == "leaderboard":
            tab.wait_for_selector("#leaderboard-table .tabulator-row")
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert problems == []
