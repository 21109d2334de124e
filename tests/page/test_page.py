"""The page in a real browser: what it shows, and that its parts do what they say."""

from __future__ import annotations

import re

import numpy as np
import pytest

from calib_harness import compare, metrics_frame, smece, wide_frame
from calib_harness.analysis.reliability import reliability
from calib_harness.cli.readable import metrics_for_reading
from calib_harness.core.metrics import METRICS
from calib_harness.core.smece import smooth_curve
from tests.page.conftest import RESAMPLES
from tests.page.tab import address, chart_numbers, column, drawn, sort_by, texts

pytestmark = pytest.mark.slow

VIEWS = (*("leaderboard", "model?model=org%2Fash-chat", "two", "questions", "compare", "measured"),)


def test_page_opens_from_disk_without_asking_for_anything_else(visit, site):
    tab = visit(site)
    assert tab.title() == "Calibration report"
    for view in VIEWS:
        tab.evaluate(f"location.hash = '#/{view}'")
    drawn(tab, "forest")
    assert {url.partition("#")[0] for url in tab.requested if url.startswith(("http", "file"))} == {
        site.as_uri()
    }


def test_numbers_equal_those_of_the_metrics_command(visit, site, predictions):
    expected = metrics_for_reading(wide_frame(metrics_frame(predictions, n_resamples=RESAMPLES)))
    metrics = [name for name in expected.columns if name in {*METRICS, "ece_null"}]
    assert len(metrics) == 8
    tab = visit(site)
    compared = 0
    for (task, method), rows in expected.groupby(["task", "method"]):
        tab.get_by_label("Task", exact=True).select_option(task)
        tab.get_by_label("Method", exact=True).select_option(method)
        names = column(tab, "name")
        for metric in metrics:
            shown = dict(zip(names, column(tab, metric), strict=True))
            assert shown == dict(zip(rows["model"], rows[metric], strict=True)), metric
        compared += len(rows)
    assert compared == len(predictions) == 30


def test_sorting_orders_rows_and_turns_around(visit, site):
    tab = visit(site)
    values = [float(cell.split()[0]) for cell in column(tab, "nll")]
    assert values != sorted(values)
    sort_by(tab, "nll")
    assert [float(cell.split()[0]) for cell in column(tab, "nll")] == sorted(values)
    sort_by(tab, "nll")
    assert [float(cell.split()[0]) for cell in column(tab, "nll")] == sorted(values)[::-1]


def test_filters_and_search_leave_the_rows_they_name(visit, site):
    tab = visit(site)
    assert len(column(tab, "name")) == 6
    tab.get_by_label("Family", exact=True).select_option("Birch")
    assert column(tab, "name") == ["org/birch", "org/birch-chat"]
    tab.get_by_label("Stage").select_option("rl")
    assert column(tab, "name") == ["org/birch-chat"]
    tab.get_by_label("Family", exact=True).select_option("All families")
    assert column(tab, "name") == ["org/ash-chat", "org/birch-chat", "org/c-chat"]
    tab.get_by_label("Search models").fill("ASH")
    assert column(tab, "name") == ["org/ash-chat"]
    tab.get_by_label("Search models").fill("no such model")
    assert "Nothing matches" in tab.locator("#leaderboard-table").inner_text()


def test_another_task_and_method_bring_other_numbers(visit, site):
    tab = visit(site)
    tab.get_by_label("Task", exact=True).select_option("texts")
    tab.get_by_label("Method", exact=True).select_option("continuation-sum")
    by_sum = column(tab, "ece")
    tab.get_by_label("Method", exact=True).select_option("continuation-min")
    by_min = column(tab, "ece")
    assert len(by_sum) == len(by_min) == 6
    assert by_sum != by_min


def test_metrics_can_be_left_out(visit, site):
    tab = visit(site)
    assert column(tab, "nll")
    tab.locator(".many summary").click()
    tab.get_by_label("nll", exact=True).uncheck()
    assert column(tab, "nll") == []
    assert len(column(tab, "ece")) == 6


def test_best_is_bold_only_where_its_interval_overlaps_no_other(visit, site, predictions):
    tab = visit(site)
    tab.get_by_label("Task", exact=True).select_option("letters")
    tab.get_by_label("Method", exact=True).select_option("choice")
    frame = metrics_frame(predictions, n_resamples=RESAMPLES).query("task == 'letters'")
    expected = set()
    golds = {p.header.model: p.gold.tobytes() for p in predictions if p.header.task == "letters"}
    for (metric, _), group in frame.groupby(["metric", frame["model"].map(golds)]):
        if metric == "ece_null":
            continue
        direction = METRICS[metric].direction
        cost = {"lower": group.value, "higher": -group.value, "zero": group.value.abs()}[direction]
        best = group.loc[cost.idxmin()]
        others = group.drop(cost.idxmin())
        if ((best.low > others.high) | (best.high < others.low)).all():
            expected.add((best.model, metric))
    found = set()
    rows = tab.locator("#leaderboard-table .tabulator-row")
    for row in rows.all():
        bold = row.locator(".tabulator-cell:has(strong)")
        model = row.locator('[tabulator-field="name"]').inner_text()
        found |= {(model, cell.get_attribute("tabulator-field")) for cell in bold.all()}
    assert found == expected
    # Else this would say nothing: one model is sharply better, but not by every metric.
    assert 0 < len(expected) < frame["metric"].nunique() - 1


def test_pairs_show_both_sides_and_colour_the_change_by_direction(visit, site, predictions, runs):
    changes = compare(
        predictions, runs / "pairs.csv", metrics=["acc", "ece"], n_resamples=RESAMPLES
    ).changes
    changes = changes[(changes.task == "letters") & (changes.method == "choice")]
    values = metrics_frame(predictions, metrics=["ece"], n_resamples=RESAMPLES)
    nulls = values.query("task == 'letters' & metric == 'ece_null'").set_index("model")["value"]
    tab = visit(site)
    tab.get_by_label("Task", exact=True).select_option("letters")
    tab.get_by_label("Method", exact=True).select_option("choice")
    tab.get_by_label("Rows", exact=True).select_option("Base → aligned")
    names = column(tab, "name")
    for metric in ("acc", "ece"):
        cells = tab.locator(f'.tabulator-cell[tabulator-field="{metric} change"] .change')
        for row in changes[changes.metric == metric].itertuples():
            at = names.index(f"{row.base} → {row.aligned}")
            for side in ("base", "aligned"):
                value = f"{getattr(row, f'{side}_value'):.3f}"
                null = f" null {nulls[getattr(row, side)]:.3f}" if metric == "ece" else ""
                assert column(tab, f"{metric} {side}")[at] == value + null
            text = column(tab, f"{metric} change")[at]
            assert text == f"{row.change:+.3f} ±{row.stderr:.3f}".replace("+0.000", "0.000")
            classes = cells.nth(at).get_attribute("class").split()
            assert {1: "worse", -1: "better", 0: "same"}[int(row.harm)] in classes
            assert ("clear" if row.clear else "faded") in classes


def test_a_row_opens_its_model(visit, site):
    tab = visit(site)
    tab.locator('#leaderboard-table .tabulator-cell[tabulator-field="n"]').nth(3).click()
    assert tab.locator("#model-title").inner_text() == column_name(tab, 3)
    drawn(tab, "reliability")


def column_name(tab, place):
    return ["org/ash", "org/ash-chat", "org/birch", "org/birch-chat", "org/c", "org/c-chat"][place]


def test_bins_can_be_switched_among_those_computed(visit, site, predictions):
    tab = visit(site, "model?model=org/ash")
    drawn(tab, "reliability")
    tab.get_by_label("Together with").select_option("Nothing")
    (run,) = [p for p in predictions if (p.header.model, p.header.method) == ("org/ash", "choice")]
    tab.get_by_label("Run", exact=True).select_option("letters, choice")
    for choice, n_bins, binning in (
        ("10 bins, uniform", 10, "uniform"),
        ("20 bins, uniform", 20, "uniform"),
        ("15 bins, equal mass", 15, "equal_mass"),
    ):
        tab.get_by_label("Bins", exact=True).select_option(choice)
        tab.wait_for_timeout(150)
        bins = reliability(run.probs, run.gold, n_bins=n_bins, binning=binning, n_resamples=0)
        shown = chart_numbers(tab, "reliability") if n_bins == 10 else opened_numbers(tab)
        assert [row[1] for row in shown] == [str(n) for n in bins.n]
        assert [row[3] for row in shown] == [f"{a:.3f}" for a in bins.accuracy]
        ends = zip(bins.accuracy_low, bins.accuracy_high, strict=True)
        assert [row[4] for row in shown] == [f"[{low:.3f}, {high:.3f}]" for low, high in ends]
        ends = zip(bins.null_low, bins.null_high, strict=True)
        assert [row[5] for row in shown] == [f"[{low:.3f}, {high:.3f}]" for low, high in ends]
        assert f"ECE {bins.ece.value:.3f}" in tab.locator("#reliability .facts").inner_text()


def opened_numbers(tab):
    rows = tab.locator("#reliability tbody tr")
    return [texts(rows.nth(i).locator("td")) for i in range(rows.count())]


def test_choice_positions_have_diagrams_of_their_own(visit, site):
    tab = visit(site, "model?model=org/ash")
    drawn(tab, "reliability")
    tab.get_by_label("Run", exact=True).select_option("letters, choice")
    tab.get_by_label("Of", exact=True).select_option("Choice 5")
    tab.wait_for_timeout(150)
    # Every other question has a fifth choice.
    assert "n = 30" in tab.locator("#reliability .facts").inner_text()
    assert "probability of choice 5" in tab.locator("#reliability .plot").inner_text()


def test_base_and_aligned_are_overlaid_and_can_be_taken_apart(visit, site):
    tab = visit(site, "model?model=org/ash")
    drawn(tab, "reliability")
    assert texts(tab.locator("#reliability .facts p strong")) == ["org/ash", "org/ash-chat"]
    tab.get_by_label("Together with").select_option("Nothing")
    tab.wait_for_timeout(150)
    assert texts(tab.locator("#reliability .facts p strong")) == ["org/ash"]


def test_risk_curve_of_a_model_is_that_of_the_chosen_run(visit, site):
    tab = visit(site, "model?model=org/ash")
    drawn(tab, "model-risk")
    tab.get_by_label("Run", exact=True).select_option("letters, choice")
    tab.wait_for_timeout(300)
    letters = chart_numbers(tab, "model-risk")
    assert [row[0] for row in letters] == ["org/ash", "org/ash-chat"]
    tab.get_by_label("Run", exact=True).select_option("texts, continuation-sum")
    tab.wait_for_timeout(300)
    tab.get_by_label("Together with").select_option("Nothing")
    tab.wait_for_timeout(300)
    rows = tab.locator("#model-risk tbody tr")
    assert [texts(row.locator("td"))[0] for row in rows.all()] == ["org/ash"]
    assert texts(rows.first.locator("td"))[1:] != letters[0][1:]


def test_smooth_curve_and_its_width_are_the_ones_behind_smece(visit, site, predictions):
    run = next(
        p for p in predictions if (p.header.model, p.header.task) == ("org/ash-chat", "letters")
    )
    tab = visit(site, address("model", model="org/ash-chat", task="letters", together=""))
    drawn(tab, "curve")
    smooth = smooth_curve(run.confidence, run.correct)
    found = tab.evaluate(
        """() => document.querySelector("#curve .js-plotly-plot").data
            .filter((trace) => (trace.hovertemplate ?? "").includes(", smooth"))
            .map((trace) => [Array.from(trace.x), Array.from(trace.y)])"""
    )
    ((x, y),) = found
    assert x == pytest.approx(smooth.confidence.tolist())
    known = [value is not None for value in y]
    assert known == (~np.isnan(smooth.accuracy)).tolist()
    assert [v for v in y if v is not None] == pytest.approx(
        smooth.accuracy[known].tolist(), abs=1e-4
    )
    said = tab.locator("#curve .facts p").last.inner_text()
    assert f"smECE, {smece(run.probs, run.gold):.3f}, which is its width" in said


def test_every_metric_is_defined_one_click_away(visit, site):
    tab = visit(site)
    tab.get_by_role("button", name="Metrics explained").click()
    text = tab.locator("#definitions").inner_text()
    for name in ("ece", "sce", "nll", "auroc"):
        assert METRICS[name].formula in text
    assert "SCE has two readings" in text
    tab.keyboard.press("Escape")
    assert not tab.locator("#definitions").is_visible()


def test_foot_says_what_was_measured_and_how_to_make_the_page_again(visit, site):
    tab = visit(site, "measured")
    text = tab.locator("#measured").inner_text()
    for part in (
        *("org/ash", "letters", "2.5", "2025-03-01", "transformers 5.0.1", "lm_eval 0.4.13"),
        *("calib-harness report 'logs of <mine>' -o page.html", "M = 15, uniform", "60"),
    ):
        assert part in text, part
    tab.get_by_text("Prompt of letters").click()
    assert "Q: {{question}}" in tab.locator("#measured").inner_text()


def test_page_can_be_used_with_the_keyboard_alone(visit, site):
    tab = visit(site)
    reached = []
    for _ in range(60):
        tab.keyboard.press("Tab")
        reached.append(
            tab.evaluate("document.activeElement.innerText || document.activeElement.id")
        )
        if reached[-1] == "nll ↓":
            tab.keyboard.press("Enter")
            break
    assert "Skip to the tables" in reached[0]
    values = [float(cell.split()[0]) for cell in column(tab, "nll")]
    assert values == sorted(values)
    for _ in range(60):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.tagName") == "A":
            break
    name = tab.evaluate("document.activeElement.innerText")
    tab.keyboard.press("Enter")
    drawn(tab, "reliability")
    assert tab.locator("#model-title").inner_text() == name


# Themes differ in nothing but their colours.
@pytest.mark.parametrize(("scheme", "rules"), [("light", None), ("dark", ["color-contrast"])])
def test_accessibility_check_finds_no_serious_fault(visit, site, scheme, rules):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs axe-playwright-python (pip)"
    ).Axe()
    options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
    tab = visit(site, color_scheme=scheme, reduced_motion="reduce")
    serious = []
    for view in (*VIEWS, "pairs", "definitions"):
        if view == "pairs":
            tab.evaluate("location.hash = '#/leaderboard'")
            tab.get_by_label("Rows", exact=True).select_option("pairs")
        elif view == "definitions":
            tab.get_by_role("button", name="Metrics explained").click()
        else:
            tab.evaluate(f"location.hash = '#/{view}'")
        tab.wait_for_timeout(500)
        for fault in axe.run(tab, options=options).response["violations"]:
            if fault["impact"] in ("serious", "critical"):
                where = [node["target"] for node in fault["nodes"]][:3]
                serious.append(f"{view}: {fault['id']} {where}")
    assert serious == []


def test_choice_of_metrics_is_whole_on_a_phone(visit, site):
    # Where its button came last in a line, it lay beyond the right edge.
    tab = visit(site, viewport={"width": 390, "height": 844})
    tab.locator("#leaderboard .many summary").click()
    for width in range(320, 700, 20):
        tab.set_viewport_size({"width": width, "height": 844})
        box = tab.locator("#leaderboard .many fieldset").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_wider_than_a_phone(visit, site, view):
    tab = visit(site, view, viewport={"width": 390, "height": 844})
    tab.wait_for_timeout(500)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_theme_follows_the_system_and_can_be_switched(visit, site):
    tab = visit(site, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = tab.evaluate(background)
    tab.get_by_role("button", name="Dark").click()
    light = tab.evaluate(background)
    assert dark != light
    assert sum(map(int, re.findall(r"\d+", light))) > sum(map(int, re.findall(r"\d+", dark)))
