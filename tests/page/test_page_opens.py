"""Whatever stands for a run or a pair opens exactly that; the address says what is shown."""

from __future__ import annotations

import pytest

from tests.page.tab import address, chosen_in_address, column, drawn, open_view, texts

pytestmark = pytest.mark.slow


def rows_of(tab, table="#leaderboard-table"):
    return tab.locator(f"{table} .tabulator-row")


def test_a_row_opens_its_own_task_and_method_not_the_first_of_its_model(visit, site):
    # "org/birch-chat, texts, continuation-min" used to open letters by choice.
    tab = visit(site, address("leaderboard", task="texts", method="continuation-min"))
    place = column(tab, "name").index("org/birch-chat")
    rows_of(tab).nth(place).locator('[tabulator-field="n"]').click()
    drawn(tab, "reliability")
    expected = {"model": "org/birch-chat", "task": "texts", "method": "continuation-min"}
    assert chosen_in_address(tab) == ["model", expected]
    shown = tab.get_by_label("Run", exact=True).evaluate("(s) => s.selectedOptions[0].text")
    assert shown == "texts, continuation-min"


def test_a_name_in_the_leaderboard_leads_where_its_row_does(visit, site):
    tab = visit(site, address("leaderboard", task="texts", method="continuation-min"))
    rows_of(tab).nth(4).locator("a").click()
    assert chosen_in_address(tab)[1]["method"] == "continuation-min"


def test_a_row_of_a_models_table_chooses_that_run(visit, site):
    tab = visit(site, address("model", model="org/ash"))
    drawn(tab, "reliability")
    row = rows_of(tab, "#model-body").filter(has_text="phrases").filter(has_text="min").first
    row.locator('[tabulator-field="n"]').click()
    expected = {"model": "org/ash", "task": "phrases", "method": "continuation-min"}
    assert chosen_in_address(tab) == ["model", expected]
    assert "chosen" in row_named(tab, "phrases", "continuation-min").get_attribute("class")


def row_named(tab, *words):
    rows = rows_of(tab, "#model-body")
    for word in words:
        rows = rows.filter(has_text=word)
    return rows.first


PAIR = {"task": "texts", "method": "continuation-sum", "model": "org/birch"}
OTHER = {"model2": "org/birch-chat", "method2": "continuation-sum"}


def test_a_row_of_pairs_opens_the_two_runs(visit, site):
    chosen = {"rows": "pairs", "task": "texts", "method": "continuation-sum"}
    tab = visit(site, address("leaderboard", **chosen))
    place = column(tab, "name").index("org/birch → org/birch-chat")
    rows_of(tab).nth(place).locator('[tabulator-field="n"]').click()
    assert chosen_in_address(tab) == ["two", PAIR | OTHER]


PLOT = "document.querySelector('#%s .js-plotly-plot')"


def click_mark(tab, card, curve, point):
    """Click a mark of a chart where it is drawn."""
    place = tab.evaluate(
        """([card, curve, point]) => {
            const plot = document.querySelector(`#${card} .js-plotly-plot`);
            const {_fullLayout: layout, _fullData: data} = plot;
            const axis = (name) => layout[name.replace(/^([xy])(\\d*)$/, "$1axis$2")];
            const [x, y] = [axis(data[curve].xaxis), axis(data[curve].yaxis)];
            const box = plot.getBoundingClientRect();
            const {x: xs, y: ys} = data[curve];
            const [px, py] = Array.isArray(point) ? point : [xs[point], ys[point]];
            return [box.x + x._offset + x.d2p(px), box.y + y._offset + y.d2p(py)];
        }""",
        [card, curve, point],
    )
    tab.mouse.move(*place)
    tab.wait_for_timeout(150)
    tab.mouse.click(*place)


def compared(visit, site):
    tab = visit(site, address("compare", task="texts", method="continuation-sum", metric="ece"))
    drawn(tab, "arrows")
    drawn(tab, "trajectories")
    tab.wait_for_timeout(300)
    return tab


def scroll_to(tab, card):
    tab.locator(f"#{card}").scroll_into_view_if_needed()
    tab.wait_for_timeout(100)


def test_a_cell_of_the_heat_map_opens_its_pair_on_its_task(visit, site):
    tab = compared(visit, site)
    scroll_to(tab, "heat")
    layout = tab.evaluate(
        "(() => { const l = document.querySelector('#heat .js-plotly-plot').layout;"
        " return [l.xaxis.ticktext, l.yaxis.ticktext]; })()"
    )
    tab.locator("#heat").scroll_into_view_if_needed()
    click_mark(tab, "heat", 0, [layout[0].index("phrases"), layout[1].index("org/birch-chat")])
    assert chosen_in_address(tab) == ["two", PAIR | OTHER | {"task": "phrases"}]


@pytest.mark.parametrize("card", ["forest", "heat", "bump"])
def test_the_name_of_a_row_of_a_chart_opens_it(visit, site, card):
    tab = compared(visit, site)
    scroll_to(tab, card)
    label = tab.locator(f"#{card} .main-svg text").filter(has_text="org/birch-chat").first
    label.dispatch_event("click")
    assert chosen_in_address(tab) == ["two", PAIR | OTHER]


def test_a_mark_of_the_forest_opens_its_pair(visit, site):
    tab = compared(visit, site)
    scroll_to(tab, "forest")
    labels = tab.evaluate("document.querySelector('#forest .js-plotly-plot').layout.yaxis.ticktext")
    row = next(i for i, label in enumerate(labels) if "org/birch-chat" in label)
    places = tab.evaluate("document.querySelector('#forest .js-plotly-plot').data.map((t) => t.y)")
    curve = next(k for k, rows in enumerate(places) if row in rows)
    click_mark(tab, "forest", curve, places[curve].index(row))
    assert chosen_in_address(tab) == ["two", PAIR | OTHER]


def test_a_mark_of_accuracy_against_calibration_opens_its_run(visit, site):
    tab = compared(visit, site)
    scroll_to(tab, "arrows")
    told = tab.evaluate(
        "document.querySelector('#arrows .js-plotly-plot').data[0].customdata.map((c) => c.told)"
    )
    click_mark(tab, "arrows", 0, next(i for i, t in enumerate(told) if t.startswith("org/birch")))
    assert chosen_in_address(tab) == ["model", PAIR]


def test_a_stage_of_a_trajectory_opens_its_run(visit, site):
    tab = compared(visit, site)
    scroll_to(tab, "trajectories")
    names = tab.evaluate(
        "document.querySelector('#trajectories .js-plotly-plot').data.map((t) => t.name)"
    )
    click_mark(tab, "trajectories", names.index("Birch"), 1)
    assert chosen_in_address(tab) == ["model", PAIR | {"model": "org/birch-chat"}]


def test_a_bin_opens_its_questions(visit, site, predictions):
    run = next(p for p in predictions if p.header.model == "org/ash" and p.header.task == "texts")
    chosen = {"model": "org/ash", "task": "texts", "method": "continuation-sum"}
    tab = visit(site, address("model", **chosen))
    drawn(tab, "reliability")
    tab.get_by_label("Together with").select_option("Nothing")
    tab.wait_for_timeout(300)
    bins = tab.evaluate(f"{PLOT % 'reliability'}.data[2].customdata.map((c) => c.bin)")
    fullest = max(range(len(bins)), key=lambda i: bins[i]["size"])
    scroll_to(tab, "reliability")
    click_mark(tab, "reliability", 2, fullest)
    tab.wait_for_selector(".question")
    assert tab.locator(".question").count() == bins[fullest]["size"]
    view, kept = chosen_in_address(tab)
    assert view == "questions"
    assert {key: kept[key] for key in chosen} == chosen
    inside = (run.confidence > float(kept["from"])) & (run.confidence <= float(kept["to"]))
    assert abs(int(inside.sum()) - bins[fullest]["size"]) <= 0


def test_rows_behind_charts_lead_where_their_marks_do(visit, site):
    tab = compared(visit, site)
    tab.locator("#heat .notes summary").click()
    tab.locator("#heat .notes a").first.click()
    assert chosen_in_address(tab)[0] == "two"


# The address


STATES = {
    "leaderboard": {
        "rows": "pairs",
        "task": "texts",
        "method": "continuation-min",
        "family": "Birch",
        "search": "chat",
        "metrics": "ece,nll",
        "sort": "nll change,asc",
        "spread": "interval",
    },
    "model": {
        "model": "org/ash",
        "task": "letters",
        "method": "choice",
        "bins": "10 bins, equal mass",
        "of": "2",
        "together": "",
    },
    "compare": {"metric": "nll", "task": "texts", "method": "continuation-min", "family": "Ash"},
    "two": {"task": "texts", "model": "org/ash", "method": "choice"} | OTHER,
    "questions": PAIR | OTHER | {"order": "flipped", "find": "option"},
}
STATES["two"]["method"] = "continuation-min"


LAST = {
    "leaderboard": "#leaderboard-table .tabulator-row",
    "model": "#model-risk .main-svg",
    "compare": "#trajectories .main-svg",
    "two": "#two-risk .main-svg",
    "questions": "#questions-note",
}


def settled(tab, view):
    """Wait for what a view draws last."""
    tab.wait_for_selector(LAST[view])
    tab.wait_for_timeout(200)


@pytest.mark.parametrize("view", STATES)
def test_the_whole_state_survives_a_reload(visit, site, view):
    tab = visit(site, "compare")
    open_view(tab, view, **STATES[view], theme="dark")
    settled(tab, view)
    before = tab.locator(f"#{view}").inner_text()
    tab.reload()
    tab.wait_for_selector("html[data-ready]")
    settled(tab, view)
    assert chosen_in_address(tab) == [view, STATES[view] | {"theme": "dark"}]
    assert tab.locator(f"#{view}").inner_text() == before
    assert tab.locator("html").get_attribute("data-theme") == "dark"
    assert not tab.locator("#notice").is_visible()


def test_every_control_of_the_leaderboard_is_kept_in_the_address(visit, site):
    tab = visit(site)
    tab.get_by_label("Rows", exact=True).select_option("Base → aligned")
    tab.get_by_label("Task", exact=True).select_option("texts")
    tab.get_by_label("Method", exact=True).select_option("continuation-min")
    tab.get_by_label("Family", exact=True).select_option("Ash")
    tab.get_by_label("Search models").fill("ash")
    tab.locator('[tabulator-field="nll change"] .sort').click()
    tab.get_by_label("Show changes", exact=True).select_option("Not told apart")
    _, kept = chosen_in_address(tab)
    assert kept == {
        "rows": "pairs",
        "task": "texts",
        "method": "continuation-min",
        "family": "Ash",
        "search": "ash",
        "changes": "neither",
        "sort": "nll change,desc",
    }


def test_typing_a_search_keeps_the_caret_where_it_is(visit, site):
    tab = visit(site)
    tab.get_by_label("Search models").press_sequentially("birch")
    assert tab.get_by_label("Search models").input_value() == "birch"
    assert column(tab, "name") == ["org/birch", "org/birch-chat"]


def test_an_address_that_names_what_is_not_here_says_so(visit, site):
    tab = visit(site, address("model", model="org/gone", task="letters"))
    assert "no model “org/gone”" in tab.locator("#notice").inner_text()
    open_view(tab, "leaderboard", task="no such task")
    assert "no task “no such task”" in tab.locator("#notice").inner_text()
    open_view(tab, "nowhere")
    assert "no view “nowhere”" in tab.locator("#notice").inner_text()
    open_view(tab, "leaderboard", task="letters")
    assert not tab.locator("#notice").is_visible()


def test_the_link_is_copied_whole(visit, site):
    tab = visit(site, address("compare", metric="nll"))
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.get_by_role("button", name="Copy link").click()
    tab.wait_for_selector("#announcement:not(:empty)")
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied == tab.url
    assert copied.endswith("#/compare?metric=nll")


def test_views_keep_what_was_chosen_in_them(visit, site):
    tab = visit(site)
    tab.get_by_label("Task", exact=True).select_option("texts")
    tab.get_by_role("link", name="Compare").click()
    tab.get_by_role("link", name="Leaderboard").click()
    assert chosen_in_address(tab)[1]["task"] == "texts"


@pytest.mark.parametrize("view", ["leaderboard", "compare"])
def test_methods_follow_the_task(visit, site, view):
    # Every packaged benchmark has a cloze and a choice task: the page used to be empty.
    tab = visit(site, view)
    controls = tab.locator(f"#{view}-controls")
    for task, methods in (
        ("letters", ["choice"]),
        ("texts", ["continuation-min", "continuation-sum"]),
    ):
        controls.get_by_label("Task", exact=True).select_option(task)
        options = controls.get_by_label("Method", exact=True).locator("option")
        assert sorted(text for text in texts(options) if text != "All methods") == methods
    if view == "leaderboard":
        assert len(column(tab, "name")) == 6
    else:
        drawn(tab, "forest")
