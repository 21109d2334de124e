"""A researcher's five questions, each answered from a page just opened by two clicks at most."""

from __future__ import annotations

import pytest

from calib_harness import compare
from calib_harness.analysis import verdict
from tests.page.conftest import RESAMPLES
from tests.page.tab import chosen_in_address, column, texts

pytestmark = pytest.mark.slow

LOSS = "calibration_loss"


@pytest.fixture(scope="module")
def found(predictions, runs):
    return compare(
        predictions,
        runs / "pairs.csv",
        metrics=[LOSS, "acc", "ece", "overconfidence"],
        n_resamples=RESAMPLES,
    )


@pytest.fixture(scope="module")
def worst(found):
    """The largest change for the worse of any pair on any task by any method."""
    losses = found.changes[found.changes["metric"] == LOSS]
    return losses.loc[(losses["harm"] * losses["change"].abs()).idxmax()]


def title(row):
    return f"{row['base']} → {row['aligned']}"


@pytest.fixture
def cold(visit, site):
    """The page as a colleague opens it: no view, no choice in its address."""
    return visit(site, "")


@pytest.fixture
def all_changes(cold):
    """The first click."""
    cold.get_by_role("link", name="Every change, worst first").click()
    cold.wait_for_selector("#leaderboard-table .tabulator-row")
    return cold


def test_worst_pair(all_changes, worst):
    assert column(all_changes, "name")[0] == title(worst)


def test_task_of_the_worst_change(all_changes, worst):
    assert column(all_changes, "task")[0] == worst["task"]
    assert column(all_changes, "method")[0] == worst["method"]


def test_significance_of_the_worst_change(all_changes, worst):
    shown = column(all_changes, f"{LOSS} p")[0]
    assert float(shown) == pytest.approx(worst["p_holm"], rel=0.1, abs=6e-4)


def test_over_or_underconfidence_of_the_worst_change(all_changes, found, worst):
    same = ["base", "aligned", "task", "method"]
    rows = found.changes[found.changes["metric"] == "overconfidence"]
    row = rows[(rows[same] == worst[same]).all(axis=1)].iloc[0]
    shown = column(all_changes, "overconfidence change")[0]
    assert shown.startswith(f"{row['change']:+.3f}")


def test_questions_of_the_largest_change_that_the_tests_show(cold, found):
    said = cold.locator("#verdict div").first
    words = said.locator("p").first.inner_text().replace("−", "-")
    most = max(v.n_worse for v in verdict(found))
    (named,) = [v for v in verdict(found) if v.text in words]
    assert named.n_worse == most > 0
    said.get_by_role("link", name="On which questions").click()  # the only click
    view, chosen = chosen_in_address(cold)
    assert (view, chosen["order"], chosen["task"]) == ("questions", "change", named.task)
    assert f"{chosen['model']} → {chosen['model2']}" in words
    assert texts(cold.locator(".question-text"))


def test_the_tests_of_a_task_are_told_once_it_is_chosen(cold, found):
    assert "comparisons of a pair on a task by a method" in cold.locator("#verdict").inner_text()
    cold.get_by_label("Task", exact=True).select_option("phrases")
    said = cold.locator("#verdict").inner_text()
    told = [v for v in verdict(found) if v.task == "phrases"]
    assert [v for v in told if v.text in said] == told
