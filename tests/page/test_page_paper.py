"""What is taken out of the page: tables as text, charts as files."""

from __future__ import annotations

import csv
import io

import pytest

from calib_harness import metrics_frame
from tests.page.conftest import RESAMPLES
from tests.page.tab import address, drawn

pytestmark = pytest.mark.slow

CHOSEN = {"task": "texts", "method": "continuation-sum"}


@pytest.fixture
def reading(visit, site):
    """Return a function that opens a view in a tab that may read the clipboard."""

    def opened(view, page=site, **options):
        tab = visit(page, view, accept_downloads=True, **options)
        tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
        return tab

    return opened


def taken(tab, place, action):
    tab.locator(f"{place} .menu summary").first.click()
    tab.locator(f"{place} .menu-list").first.get_by_role("button", name=action).click()
    tab.wait_for_selector("#announcement:not(:empty)")


def copied(tab, place, form):
    taken(tab, place, f"Copy as {form}")
    return tab.evaluate("navigator.clipboard.readText()")


def test_a_table_copies_as_csv_with_errors_and_intervals(reading, predictions):
    tab = reading(address("leaderboard", **CHOSEN))
    rows = list(csv.DictReader(io.StringIO(copied(tab, "#leaderboard-table", "CSV"))))
    frame = metrics_frame(predictions, metrics=["ece"], n_resamples=RESAMPLES)
    frame = frame.query("task == 'texts' & method == 'continuation-sum' & metric == 'ece'")
    assert [row["Model"] for row in rows] == frame["model"].tolist()
    for row, expected in zip(rows, frame.itertuples(), strict=True):
        for name, value in (("", expected.value), (" low", expected.low), (" high", expected.high)):
            assert float(row[f"ece{name}"]) == pytest.approx(value, abs=1e-6)


def test_a_table_copies_as_markdown_and_latex(reading):
    tab = reading(address("leaderboard", **CHOSEN))
    markdown = copied(tab, "#leaderboard-table", "Markdown").splitlines()
    assert len({line.count("|") for line in markdown[2:]}) == 1
    latex = copied(tab, "#leaderboard-table", "LaTeX")
    body = latex.partition("\\midrule")[2].partition("\\bottomrule")[0].strip().splitlines()
    assert len(body) == 6
    assert all(line.endswith("\\\\") for line in body)
    head = latex.partition("\\toprule")[2].strip().splitlines()[0]
    assert {line.count(" & ") for line in body} == {head.count(" & ")}
    assert "brier\\_score" in latex
    assert "$\\pm$" in latex
    assert latex.isascii()


def test_no_sign_of_a_name_means_anything_to_latex(reading, hostile_site):
    tab = reading("leaderboard", page=hostile_site)
    latex = copied(tab, "#leaderboard-table", "LaTeX")
    assert (
        r"\%\{x\} \textless{}b\textgreater{}bold\textless{}/b\textgreater{} \&lt; "
        r"\$x\textasciicircum{}2\$ \{\{template\}\} "
        r"a\_b\#c\textasciitilde{}d\textbackslash{}e-{}-f\texttt{U+0001}"
    ) in latex
    assert latex.replace("\n", "").isprintable()
    assert latex.isascii()


def test_charts_are_saved_in_light_colours_under_names_that_say_what_they_are(reading):
    tab = reading(address("compare", metric="ece", **CHOSEN), color_scheme="dark")
    drawn(tab, "forest")
    drawn(tab, "heat")
    names = []
    for card in ("forest", "heat"):
        with tab.expect_download() as download:
            taken(tab, f"#{card}", "Save as SVG")
        names.append(download.value.suggested_filename)
        with open(download.value.path(), encoding="utf-8") as file:
            picture = file.read()
        assert picture.startswith("<svg")
        assert "rgb(255, 255, 255)" in picture or "#ffffff" in picture
        assert "230, 233, 238" not in picture  # the text of the dark theme
    assert names == [
        "calibration_forest_ece_texts_continuation-sum.svg",
        "calibration_heat_ece_continuation-sum.svg",
    ]
    assert tab.locator("html").get_attribute("data-theme") == "dark"
    with tab.expect_download() as download:
        taken(tab, "#forest", "Save as PNG")
    with open(download.value.path(), "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_a_model_card_has_every_run_of_the_model(reading, predictions):
    tab = reading(address("model", model="org/ash"))
    tab.get_by_role("button", name="Copy model card").click()
    tab.wait_for_selector("#announcement:not(:empty)")
    card = tab.evaluate("navigator.clipboard.readText()")
    own = [p for p in predictions if p.header.model == "org/ash"]
    assert card.startswith("## Calibration of org/ash")
    assert sum(line.startswith(("| letters", "| texts", "| phrases")) for line in card.splitlines())
    rows = [line for line in card.splitlines() if line.startswith("| ") and "org" not in line]
    assert len(rows) - 1 == len(own)
