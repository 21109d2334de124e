"""The comparison of base and aligned models, in a real browser: charts and the table of pairs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from calib_harness import compare
from calib_harness.core.inference import bootstrap_draws
from calib_harness.page import make_report
from calib_harness.page.drawn import resampled_metrics
from tests.page.conftest import RESAMPLES
from tests.page.runs import write_model
from tests.page.tab import address, chart_numbers, column, drawn

pytestmark = pytest.mark.slow


def page_of_pairs(folder, pairs, *, n_resamples=20):
    """Make a page of the models written into a folder, all pairs of one family."""
    table = folder / "pairs.csv"
    table.write_text("family,base,aligned\n" + "".join(f"f,{b},{a}\n" for b, a in pairs))
    return make_report(
        folder,
        folder / "p.html",
        pairs=table,
        tasks=["letters"],
        n_resamples=n_resamples,
        cache=False,
    )


def test_comparison_draws_every_chart_with_its_numbers(visit, site, predictions, runs):
    result = compare(predictions, runs / "pairs.csv", metrics=["ece"], n_resamples=RESAMPLES)
    tab = visit(site, "compare")
    for card in ("forest", "heat", "bump", "arrows", "risk", "trajectories"):
        if card == "bump":
            tab.locator("#compare").get_by_label("Task", exact=True).select_option("texts")
            tab.locator("#compare").get_by_label("Method", exact=True).select_option(
                "continuation-sum"
            )
            tab.wait_for_timeout(300)
        drawn(tab, card)
        assert chart_numbers(tab, card), card
    (w,) = result.over_tasks.query("method == 'continuation-sum' & metric == 'ece'").kendalls_w
    assert f"Kendall's W {w:.3f}" in tab.locator("#bump .notes").inner_text()


def test_forest_shows_the_changes_of_the_chosen_metric(visit, site, predictions, runs):
    changes = compare(
        predictions, runs / "pairs.csv", metrics=["acc", "ece", "sce"], n_resamples=RESAMPLES
    ).changes
    expected = changes.query("task == 'letters' & method == 'choice' & metric == 'sce'")
    tab = visit(site, "compare")
    tab.locator("#compare").get_by_label("Task", exact=True).select_option("letters")
    tab.locator("#compare").get_by_label("Method", exact=True).select_option("choice")
    tab.locator("#compare").get_by_label("Metric", exact=True).select_option("sce")
    tab.wait_for_timeout(300)
    shown = {row[0]: row[5].replace("−", "-") for row in chart_numbers(tab, "forest")}
    assert shown == {row.family: f"{row.change:+.3f}" for row in expected.itertuples()}


def test_heat_map_is_coloured_by_harm_where_zero_is_best(visit, site, predictions, runs):
    # A rise of overconfidence from -.14 to .11 used to be coloured as worse.
    changes = compare(
        predictions, runs / "pairs.csv", metrics=["overconfidence"], n_resamples=RESAMPLES
    ).changes.query("method == 'continuation-sum'")
    harm = changes.aligned_value.abs() - changes.base_value.abs()
    clear = changes.clear
    expected = {
        (row.aligned, row.task): (abs(row.change), h > 0, c)
        for row, h, c in zip(changes.itertuples(), harm, clear, strict=True)
    }
    assert ((harm > 0) != (changes.change > 0)).any()
    tab = visit(site, "compare")
    compared = tab.locator("#compare")
    compared.get_by_label("Task", exact=True).select_option("texts")
    compared.get_by_label("Method", exact=True).select_option("continuation-sum")
    compared.get_by_label("Metric", exact=True).select_option("overconfidence")
    tab.wait_for_timeout(300)
    plot = tab.evaluate(
        """() => {
            const {data, layout} = document.querySelector('#heat .js-plotly-plot');
            const z = data.map((trace) => trace.z.map((row) => [...row]));
            const clear = data.map(({text}) => text.flat().every((t) => !t.startsWith("(")));
            return [layout.yaxis.ticktext, layout.xaxis.ticktext, z, clear];
        }"""
    )
    models, tasks, z, told_apart = plot
    shown = {
        (model, task): (pytest.approx(abs(each[i][k]), abs=1e-6), each[i][k] > 0, told)
        for each, told in zip(z, told_apart, strict=True)
        for i, model in enumerate(models)
        for k, task in enumerate(tasks)
        if each[i][k] is not None
    }
    assert expected == shown
    assert tab.locator("#heat .cbtitle").count() == 1


def test_overconfidence_that_changes_sides_is_clear_only_if_nearer_to_zero_or_farther(
    visit, tmp_path
):
    # From -.13 to .13 is a clear change, but neither for better nor for worse.
    for name, sharpness in (("org/base", 0.5), ("org/far", 1.5), ("org/farther", 2.5)):
        write_model(tmp_path, name, seed=0, sharpness=sharpness)
    pairs = [("org/base", "org/far"), ("org/base", "org/farther")]
    page = page_of_pairs(tmp_path, pairs, n_resamples=200)
    tab = visit(page)
    tab.get_by_label("Rows", exact=True).select_option("Base → aligned")
    field = "overconfidence change"
    cells = tab.locator(f'.tabulator-cell[tabulator-field="{field}"] .change')
    classes = [cells.nth(i).get_attribute("class").split()[-1] for i in range(2)]
    assert dict(zip(column(tab, "name"), classes, strict=True)) == {
        "org/base → org/far": "faded",
        "org/base → org/farther": "clear",
    }
    assert all(cell.startswith(("+0.2", "+0.3")) for cell in column(tab, field))


def test_long_names_in_charts_keep_their_end(visit, tmp_path):
    # allenai/Llama-3.1-Tulu-3-8B-SFT and -DPO used to have one label.
    names = [f"allenai/Llama-3.1-Tulu-3-8B-{stage}" for stage in ("SFT", "DPO")]
    for name in ("org/base", *names):
        write_model(tmp_path, name, seed=0, sharpness=1.0 + len(name) % 5)
    page = page_of_pairs(tmp_path, [("org/base", name) for name in names])
    tab = visit(page, "compare")
    drawn(tab, "heat")
    labels = tab.locator("#heat .ytick text").all_text_contents()
    assert len(set(labels)) == 2
    assert {label[-3:] for label in labels} == {"SFT", "DPO"}


def test_pairs_under_two_chat_templates_are_told_apart(visit, tmp_path):
    # Rows of one pair, task and method used to overwrite each other.
    for chat in (False, True):
        for i, model in enumerate(("org/base", "org/chat")):
            write_model(
                tmp_path / str(chat),
                model,
                seed=0,
                sharpness=1.0 + i + 3 * chat,
                chat_template="x" * chat,
            )
    page = page_of_pairs(tmp_path, [("org/base", "org/chat")])
    tab = visit(page)
    tab.get_by_label("Rows", exact=True).select_option("Base → aligned")
    assert sorted(column(tab, "setting")) == ["chat template", "no chat template"]
    assert len(set(column(tab, "ece change"))) == 2
    tab.evaluate("location.hash = '#/compare'")
    drawn(tab, "heat")
    assert len(set(tab.locator("#heat .ytick text").all_text_contents())) == 2


def test_tasks_and_pairs_are_named_on_a_phone(visit, site, tmp_path):
    page = tmp_path / "page.html"
    names = {f'"{name}"': f'"{name}_of_some_length"' for name in ("phrases", "texts")}
    markup = site.read_text()
    for name, longer in names.items():
        markup = markup.replace(name, longer)
    page.write_text(markup)
    tab = visit(page, "compare", viewport={"width": 390, "height": 844})
    tab.locator("#compare").get_by_label("Task", exact=True).select_option(names['"texts"'][1:-1])
    tab.locator("#compare").get_by_label("Method", exact=True).select_option("continuation-sum")
    drawn(tab, "bump")
    tab.wait_for_timeout(300)
    for card in ("heat", "bump"):
        ticks = [tick for tick in tab.locator(f"#{card} .xtick text").all() if tick.is_visible()]
        assert {f'"{tick.text_content()}"' for tick in ticks} == set(names.values())
        boxes = [tick.bounding_box() for tick in ticks]
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    ends = [tick.bounding_box() for tick in tab.locator("#bump .y2tick text").all()]
    assert len(ends) == 3
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in ends)


@pytest.fixture(scope="module")
def page_with_a_shorter_run(tmp_path_factory):
    """A pair whose aligned side lacks ten questions, and a model of no family."""
    folder = tmp_path_factory.mktemp("shorter")
    for i, model in enumerate(("org/base", "org/chat", "org/other")):
        write_model(folder, model, seed=0, sharpness=1.0 + i)
    for log in folder.rglob("samples_*.jsonl"):
        if "chat" in str(log):
            lines = log.read_text().splitlines(keepends=True)
            log.write_text("".join(lines[: len(lines) * 5 // 6]))
    return page_of_pairs(folder, [("org/base", "org/chat")])


def test_changes_on_shared_questions_say_so_where_a_run_has_more(visit, page_with_a_shorter_run):
    # The note gave both runs' numbers, 60 and 50, for changes on 50.
    tab = visit(page_with_a_shorter_run, address("two", model="org/base", model2="org/chat"))
    note = tab.locator("#two-note")
    note.wait_for()
    assert "(n = 60 and 50), the changes those of the 50 shared questions" in note.inner_text()


def test_a_single_family_is_a_choice_and_not_what_is_shown(visit, page_with_a_shorter_run):
    # "Family" said the one family's name above rows of all models, and could not be chosen.
    tab = visit(page_with_a_shorter_run)
    family = tab.get_by_label("Family", exact=True)
    assert family.locator("option:checked").inner_text() == "All families"
    assert "org/other" in column(tab, "name")
    family.select_option(index=1)
    assert sorted(column(tab, "name")) == ["org/base", "org/chat"]


def test_an_address_of_no_view_is_said_whatever_it_is_called(visit, page_with_a_shorter_run):
    # Every object of JavaScript has a constructor: the page stayed empty.
    tab = visit(page_with_a_shorter_run, "constructor")
    assert "no view “constructor”" in tab.locator("#notice").inner_text()
    assert tab.locator("#leaderboard-table .tabulator-row").count() > 0


def test_resamples_tell_nothing_of_the_change_of_a_metric_without_an_interval():
    # Two runs showed an interval and p of smece's change, which compare does not give.
    rng = np.random.default_rng(0)
    probs, gold = rng.dirichlet(np.ones(4), size=50), rng.integers(4, size=50)
    draws = bootstrap_draws(["acc", "smece"], probs, gold, n_resamples=20, rng=0)
    entry = SimpleNamespace(side=SimpleNamespace(draws=draws))
    assert resampled_metrics(["acc", "smece", "nll"], [entry]) == ["acc"]
