"""The card of docs/extending.md is drawn, with the numbers of the library."""

from __future__ import annotations

import re

import pytest

from calib_harness import metrics_frame
from calib_harness.page import html, make_report
from tests.page.runs import METHODS
from tests.page.tab import address, chart_numbers, chosen_in_address, drawn
from tests.test_extending import PAGE

pytestmark = pytest.mark.slow

CHOSEN = {"task": "texts", "method": "continuation-sum"}


@pytest.fixture
def page_with_card(runs, tmp_path, monkeypatch):
    section = PAGE.split("## A card of the page\n")[1]
    script, line = re.findall(r"^```js\n(.*?)^```", section, re.M | re.S)
    read = html._read

    def read_with_card(name):
        if name == "overconfidence.js":
            return script
        first = '    card("Change by family"'
        text = read(name)
        assert name != "compare.js" or text.count(first) == 1
        return text.replace(first, f"    {line}{first}") if name == "compare.js" else text

    monkeypatch.setattr(html, "_read", read_with_card)
    monkeypatch.setattr(html, "_SCRIPTS", ("overconfidence.js", *html._SCRIPTS))
    return make_report(
        runs / "logs",
        tmp_path / "page.html",
        tasks=["texts"],
        methods=METHODS,
        n_resamples=20,
        questions=0,
        cache=False,
    )


def test_own_card_shows_the_numbers_of_the_library(visit, page_with_card, predictions):
    chosen = [run for run in predictions if run.header.task == "texts"]
    frame = metrics_frame(chosen, metrics=["overconfidence"], n_resamples=20)
    frame = frame[frame["method"] == CHOSEN["method"]]
    tab = visit(page_with_card, address("compare", **CHOSEN))
    drawn(tab, "over")
    shown = {
        row[0]: [cell.replace("\u2212", "-") for cell in row[1:]]
        for row in chart_numbers(tab, "over")
    }
    expected = {
        row.model: [f"{row.value:+.3f}", f"[{row.low:.3f}, {row.high:.3f}]"]
        for row in frame.itertuples()
    }
    assert shown == expected
    tab.locator("#over .notes a").first.click()
    view, opened = chosen_in_address(tab)
    assert (view, opened["method"]) == ("model", CHOSEN["method"])
