"""The page asks nothing of anybody, whatever is clicked; and all of it is within reach."""

from __future__ import annotations

import re

import pytest

from tests.page.tab import address, drawn, open_view

pytestmark = pytest.mark.slow

VIEWS = {
    "leaderboard": ("leaderboard", {}),
    "pairs": ("leaderboard", {"rows": "pairs"}),
    "model": ("model", {"model": "org/ash"}),
    "compare": ("compare", {"task": "texts"}),
    "two": ("two", {}),
    "questions": ("questions", {}),
}
LAST = {
    "leaderboard": "#leaderboard-table .tabulator-row",
    "model": "#model-risk .main-svg",
    "compare": "#trajectories .main-svg",
    "two": "#two-risk .main-svg",
    "questions": "#questions-note",
}


@pytest.fixture
def watched(visit, site):
    """A tab whose requests, new windows and downloads are kept."""
    tab = visit(site, accept_downloads=True)
    tab.opened = []
    tab.context.on("page", lambda page: tab.opened.append(page))
    return tab


@pytest.mark.parametrize("name", VIEWS)
def test_nothing_that_can_be_clicked_reaches_outside(watched, site, name):
    # The chart library's tool bar offered to upload, past the content policy.
    view, chosen = VIEWS[name]
    tab = watched
    open_view(tab, view, **chosen)
    tab.wait_for_selector(LAST[view])
    tab.wait_for_timeout(200)
    assert tab.locator(".modebar-btn").count() == 0
    clicked = tab.evaluate(
        """async (view) => {
            const wait = (ms) => new Promise((done) => setTimeout(done, ms));
            const seen = "button, summary, a, select, input, .ytick text, .points path";
            const hash = location.hash;
            window.tried = [];
            window.open = (...given) => { window.tried.push(String(given[0])); return null; };
            // Asked for anew each time: a control may draw all others again.
            const all = () => document.querySelectorAll(`:is(header, #${view}) :is(${seen})`);
            const named = [];
            for (let i = 0; i < all().length; i += 1) {
                const each = all()[i];
                const to = each.getAttribute("href") ?? each.getAttribute("xlink:href");
                if (to && !/^#|^blob:/.test(to)) window.tried.push(to);
                named.push((each.getAttribute("aria-label") ?? each.textContent).trim());
                if (each.tagName === "A") continue; // where it leads has just been looked at
                each.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
                for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
                if (location.hash !== hash) { history.replaceState(null, "", hash); }
                if (named.length % 40 === 0) await wait(10);
            }
            await wait(300);
            return named;
        }""",
        view,
    )
    assert len(clicked) > 10
    outside = re.compile(r"upload|cloud|share|plotly|https?:", re.IGNORECASE)
    assert not [text for text in clicked if outside.search(text)]
    assert tab.evaluate("window.tried") == []
    assert tab.opened == []
    assert {url.partition("#")[0].split(":")[0] for url in tab.requested} <= {
        "file",
        "blob",
        "data",
    }
    assert {url.partition("#")[0] for url in tab.requested if url.startswith("file")} == {
        site.as_uri()
    }


def test_charts_have_no_stops_for_the_tab_key_of_the_librarys_own(visit, site):
    tab = visit(site, address("compare", task="texts"))
    drawn(tab, "forest")
    reached = tab.evaluate(
        """[...document.querySelectorAll('#forest :is(a, button, summary, [tabindex])')]
            .filter((e) => e.tabIndex >= 0 && e.checkVisibility({contentVisibilityAuto: true}))
            .map((e) => e.tagName)"""
    )
    assert reached == ["SUMMARY", "SUMMARY"]  # Copy or save, and Numbers


@pytest.mark.parametrize("name", VIEWS)
def test_targets_are_large_enough_for_a_finger(visit, site, name):
    view, chosen = VIEWS[name]
    tab = visit(site, address(view, **chosen))
    tab.wait_for_selector(LAST[view])
    small = tab.evaluate(
        """(view) => [...document.querySelectorAll(
                `#${view} :is(button, summary, select, a.button, label.check), header button`)]
            .filter((e) => e.checkVisibility())
            .map((e) => [e.textContent.trim().slice(0, 30), e.getBoundingClientRect()])
            .filter(([, box]) => box.width < 24 || box.height < 24)
            .map(([text, box]) => `${text} ${box.width} x ${box.height}`)""",
        view,
    )
    assert small == []


def test_intervals_and_formulae_are_text_not_tooltips_only(visit, site):
    tab = visit(site)
    tab.get_by_label("Beside values").select_option("95 % interval")
    cell = tab.locator('#leaderboard-table [tabulator-field="ece"] .number').first
    assert re.search(r"\[\d\.\d{3}, \d\.\d{3}\]", cell.inner_text())
    tab.get_by_role("button", name="What nll means").focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#definition-nll .formula").is_visible()
    tab.keyboard.press("Escape")
    titled = "[...document.querySelectorAll('main [title]')]"
    assert tab.evaluate(f"{titled}.filter((e) => e.title !== e.textContent).length") == 0


def test_an_ece_that_calibration_explains_is_said_to_in_words(visit, site, predictions):
    tab = visit(site, address("leaderboard", task="letters", method="choice"))
    values = tab.evaluate(
        """[...document.querySelectorAll('#leaderboard-table .tabulator-row')].map((row) => {
            const text = (field) => row.querySelector(`[tabulator-field="${field}"]`).innerText;
            return [text("name"), text("ece").includes("not told from calibrated")];
        })"""
    )
    from calib_harness import metrics_frame

    letters = [p for p in predictions if p.header.task == "letters"]
    frame = metrics_frame(letters, metrics=["ece"], n_resamples=200)
    wide = frame.pivot_table(index="model", columns="metric", values=["value", "high"])
    inside = wide["value"]["ece"] <= wide["high"]["ece_null"]
    assert dict(values) == inside.to_dict()
    assert 0 < inside.sum() < len(inside)
    assert "above the truth on average" in tab.locator("#leaderboard-note").inner_text()
    tab.get_by_role("button", name="why").click()
    assert "Why a value may stand at the end" in tab.locator("#definition-bias-note").inner_text()


def test_long_names_keep_the_end_that_tells_them_apart(visit, tmp_path):
    from calib_harness.page import make_report
    from tests.page.runs import write_model

    stem = "organisation/a-model-with-a-rather-long-name-of-seventy-billion-parameters"
    for end, sharpness in (("base", 1.0), ("instruct", 2.0)):
        write_model(tmp_path, f"{stem}-{end}", seed=0, sharpness=sharpness, folder=end)
    page = make_report(
        tmp_path, tmp_path / "p.html", tasks=["letters"], n_resamples=20, cache=False
    )
    for width in (1440, 390):
        tab = visit(page, viewport={"width": width, "height": 844})
        for end in ("base", "instruct"):
            cell = tab.locator('#leaderboard-table [tabulator-field="name"]', has_text=end).first
            tail = cell.locator(".tail")
            assert tail.inner_text().endswith(end)
            outer, inner = cell.bounding_box(), tail.bounding_box()
            assert inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 1
            assert cell.locator("bdi").get_attribute("title").endswith(f"parameters-{end}")


def test_forest_shows_zero_however_far_the_changes_are(visit, tmp_path):
    from calib_harness.page import make_report
    from tests.page.runs import write_model

    for name, sharpness in (("base", 0.2), ("a", 6.0), ("b", 7.0)):
        write_model(tmp_path, f"org/{name}", seed=0, sharpness=sharpness, folder=name)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("family,base,aligned\nf,org/base,org/a\nf,org/base,org/b\n")
    page = make_report(
        tmp_path, tmp_path / "p.html", pairs=pairs, tasks=["letters"], n_resamples=50, cache=False
    )
    tab = visit(page, "compare")
    drawn(tab, "forest")
    low, high = tab.evaluate("document.querySelector('#forest .js-plotly-plot').layout.xaxis.range")
    assert low < 0 < high
    changes = tab.evaluate(
        "document.querySelector('#forest .js-plotly-plot').data.flatMap((t) => t.x)"
    )
    assert min(map(abs, changes)) > 0.1  # else zero would be shown anyway
    # A base with two partners shows both.
    open_view(tab, "model", model="org/base")
    drawn(tab, "reliability")
    tab.wait_for_timeout(300)
    names = tab.locator("#reliability .facts strong").all_inner_texts()
    assert [name.strip() for name in names] == ["org/base", "org/a", "org/b"]


def test_points_of_few_questions_are_small_and_hollow(visit, site):
    tab = visit(site, address("model", model="org/ash"))
    drawn(tab, "reliability")
    points = tab.evaluate(
        """document.querySelector('#reliability .js-plotly-plot').data
            .filter((t) => t.customdata).flatMap((t) => t.customdata.map((c, i) =>
                [c.bin.size, t.marker.size[i], t.marker.color[i] === t.line.color]))"""
    )
    for n, _, filled in points:
        assert filled == (n >= 5)
    ordered = sorted(point[:2] for point in points[: len(points) // 2])
    assert [size for _, size in ordered] == sorted(size for _, size in ordered)
