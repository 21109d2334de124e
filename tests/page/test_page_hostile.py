"""Names and prompts come from other people: the page shows them as text, whatever they hold."""

from __future__ import annotations

import pytest

from tests.page.runs import HOSTILE

pytestmark = pytest.mark.slow


def test_hostile_names_are_shown_as_text_and_run_nothing(visit, hostile_site):
    tab = visit(hostile_site)
    names = tab.locator('#leaderboard-table [tabulator-field="name"] bdi').all_text_contents()
    assert names[0] == HOSTILE[0]
    assert names[1] == HOSTILE[1]
    assert names[2] == "left ⟨U+202E⟩right-to-left⟨U+2066⟩ ⟨U+200F⟩ marks"
    assert names[3] == HOSTILE[3]
    assert names[4] == HOSTILE[4].replace("\x01", "⟨U+0001⟩")
    for i in range(len(HOSTILE)):
        tab.evaluate(
            "(model) => { location.hash = `#/model?${new URLSearchParams({model})}` }", HOSTILE[i]
        )
        tab.wait_for_selector("#reliability .main-svg")
        assert tab.locator("#model img, #model script").count() == 0
    tab.evaluate("location.hash = '#/compare'")
    tab.wait_for_selector("#forest .main-svg")
    tab.wait_for_timeout(300)
    assert "</script><img sr" in tab.locator("#forest .main-svg").first.text_content()
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("img").count() == 0
    assert tab.locator("svg a").count() == 0
    assert "</title>" in tab.title()
    assert (
        tab.locator("#title").text_content() == "</title><script>window.hacked=4</script>⟨U+202E⟩"
    )
    assert "rm </script><script>window.hacked=5</script>" in tab.locator("#measured").text_content()


def test_hostile_names_do_not_stretch_the_page(visit, hostile_site):
    tab = visit(hostile_site, viewport={"width": 390, "height": 844})
    for view in (
        "leaderboard",
        f"model?model=long/{'y' * 10_000}",
        "compare",
        "two",
        "questions",
        "measured",
    ):
        tab.evaluate(f"location.hash = '#/{view}'")
        tab.wait_for_timeout(400)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, view


def test_markup_holds_nothing_from_logs(hostile_site):
    text = hostile_site.read_text(encoding="utf-8")
    assert "window.hacked" in text  # escaped, within the data
    assert "<script>window.hacked" not in text
    assert "onerror='window" not in text.replace("\\u003c", "<").partition('id="document">')[0]
    assert text.count("</script>") == text.count("<script")


def test_browser_runs_no_script_that_is_not_the_pages_own(chromium, hostile_site, tmp_path):
    # The policy in the head is the second wall: a script smuggled in does not run.
    tampered = tmp_path / "tampered.html"
    text = hostile_site.read_text(encoding="utf-8")
    tampered.write_text(text.replace("</body>", "<script>window.hacked = 6</script></body>"))
    context = chromium.new_context(offline=True)
    tab = context.new_page()
    tab.goto(tampered.as_uri())
    tab.wait_for_selector("html[data-ready]")
    assert tab.evaluate("window.hacked") is None
    context.close()
