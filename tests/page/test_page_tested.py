"""What the page says of tests: the verdict, corrected p-values, any two runs, and questions."""

from __future__ import annotations

import numpy as np
import pytest

from calib_harness import compare
from calib_harness.analysis import verdict
from calib_harness.analysis.multiplicity import FAMILY_OF_TESTS
from tests.page.conftest import RESAMPLES
from tests.page.tab import address, chosen_in_address, column, open_view, texts

pytestmark = pytest.mark.slow

METRICS = ["calibration_loss", "acc", "ece"]
CHOSEN = {"task": "texts", "method": "continuation-sum"}


@pytest.fixture(scope="module")
def found(predictions, runs):
    return compare(predictions, runs / "pairs.csv", metrics=METRICS, n_resamples=RESAMPLES)


def two_table(tab):
    tab.wait_for_selector("#two-note")
    rows = [texts(row.locator("td")) for row in tab.locator("#two-table tbody tr").all()]
    return {row[0].split()[0]: [cell.replace("−", "-") for cell in row[1:]] for row in rows}


def test_the_verdict_stands_on_top_in_the_words_of_the_package(visit, site, found):
    (words,) = [v for v in verdict(found) if (v.task, v.method) == ("texts", "continuation-sum")]
    tab = visit(site, address("leaderboard", **CHOSEN))
    assert words.text in tab.locator("#verdict").inner_text()
    open_view(tab, "compare", **CHOSEN)
    assert words.text in tab.locator("#verdict").inner_text()


def test_corrected_p_are_those_of_compare_whatever_metrics_are_shown(visit, site, found):
    # The page corrected over its own metrics, `compare` over others: the p differed.
    changes = found.changes.query("task == 'texts' & method == 'continuation-sum'")
    tab = visit(site, address("leaderboard", rows="pairs", **CHOSEN))
    names = column(tab, "name")
    for row in changes.itertuples():
        at = names.index(f"{row.base} → {row.aligned}")
        shown = column(tab, f"{row.metric} p")[at]
        expected = f"{row.p_holm:.3f}" if row.p_holm >= 0.001 else f"{row.p_holm:.1e}"
        assert shown == expected, row.metric
    assert FAMILY_OF_TESTS in tab.locator("#measured").inner_text()


def test_a_p_that_could_not_be_small_is_not_shown_as_evidence(visit, runs, tmp_path):
    from calib_harness.page import make_report

    page = make_report(
        runs / "logs", tmp_path / "p.html", pairs=runs / "pairs.csv", n_resamples=50, cache=False
    )
    tab = visit(page, address("leaderboard", rows="pairs", **CHOSEN))
    assert set(column(tab, "ece p")) == {"undecided"}
    assert "undecided" not in column(tab, "calibration_loss p")  # Student's t needs no resamples
    assert "could decide" in tab.locator("#measured").inner_text()


def test_harm_comes_first_and_rows_can_be_filtered_by_significance(visit, site, found):
    changes = found.changes.query(
        "task == 'texts' & method == 'continuation-sum' & metric == 'calibration_loss'"
    )
    tab = visit(site, address("leaderboard", rows="pairs", metrics="calibration_loss", **CHOSEN))
    harm = changes.assign(size=changes.harm * changes.change.abs()).sort_values("size")
    expected = [f"{row.base} → {row.aligned}" for row in harm[::-1].itertuples()]
    assert column(tab, "name") == expected
    clear = {f"{row.base} → {row.aligned}" for row in changes[changes.clear].itertuples()}
    tab.get_by_label("Show changes").select_option("Measurably changed")
    assert set(column(tab, "name")) == clear
    tab.get_by_label("Show changes").select_option("Not told apart")
    assert set(column(tab, "name")) == set(expected) - clear
    assert clear


def test_a_pair_shows_its_own_tests_side_by_side(visit, site, found):
    changes = found.changes.query("task == 'texts' & method == 'continuation-sum'")
    changes = changes[changes.base == "org/birch"].set_index("metric")
    tab = visit(site, address("two", **CHOSEN, model="org/birch", model2="org/birch-chat"))
    shown = two_table(tab)
    for metric in METRICS:
        row = changes.loc[metric]
        assert shown[metric][2] == f"{row.change:+.3f}".replace("+0.000", "0.000")
        assert shown[metric][3] == f"[{row.low:.3f}, {row.high:.3f}]"
    assert "are a pair of this page" in tab.locator("#two-note").inner_text()


def test_any_two_runs_on_the_same_questions_are_compared_as_compare_would(visit, site, predictions):
    # Two methods of one run: the same questions, and no pair of the table.
    model = "org/birch-chat"
    first, second = (
        next(
            p
            for p in predictions
            if (p.header.model, p.header.task, p.header.method) == (model, "texts", method)
        )
        for method in ("continuation-sum", "continuation-min")
    )
    from calib_harness.core.inference import paired_bootstrap

    expected = paired_bootstrap(
        ["acc", "ece", "nll", "auroc"],
        first.probs,
        second.probs,
        first.gold,
        n_resamples=RESAMPLES,
        rng=0,
        n_bins=15,
        binning="uniform",
    )
    tab = visit(
        site, address("two", **CHOSEN, model=model, model2=model, method2="continuation-min")
    )
    shown = two_table(tab)
    for metric, change in expected.items():
        assert float(shown[metric][2]) == pytest.approx(change.change, abs=6e-4)
        low, high = (float(end) for end in shown[metric][3].strip("[]").split(", "))
        np.testing.assert_allclose([low, high], [change.low, change.high], atol=1.1e-3)
        p_value = float(shown[metric][4])
        assert p_value == pytest.approx(change.p_value, abs=2.5 / RESAMPLES)
    assert "Computed here" in tab.locator("#two-note").inner_text()


def test_two_runs_on_other_questions_are_refused_in_words(visit, site):
    tab = visit(site, address("two", **CHOSEN, model="org/ash", model2="org/birch"))
    shown = two_table(tab)
    assert shown["ece"][3:] == ["", ""]
    assert "did not answer exactly the same questions" in tab.locator("#two-note").inner_text()


# Questions


def question_texts(tab):
    tab.wait_for_selector("#questions-note")
    return texts(tab.locator(".question-text"))


def test_most_confidently_wrong_questions_come_first(visit, site, predictions):
    run = next(p for p in predictions if (p.header.model, p.header.task) == ("org/ash", "letters"))
    tab = visit(site, address("questions", model="org/ash", task="letters", method="choice"))
    question_texts(tab)
    notes = texts(tab.locator(".question > p.muted"))
    wrong = np.flatnonzero(~run.correct)
    order = wrong[np.argsort(-run.confidence[wrong], kind="stable")]
    for note, q in zip(notes[:5], order[:5], strict=True):
        assert note.startswith(f"wrong with confidence {run.confidence[q]:.3f}")
        assert note.endswith(f"question {run.doc_id[q]}")
    gold = tab.locator(".question").first.locator("tr.gold")
    assert gold.count() == 1


def test_questions_that_went_wrong_are_those_flipped_between_two_runs(visit, site, predictions):
    first, second = (
        next(
            p
            for p in predictions
            if (p.header.model, p.header.task, p.header.method)
            == (model, "texts", "continuation-min")
        )
        for model in ("org/c", "org/c-chat")
    )
    flipped = int((first.correct & ~second.correct).sum())
    chosen = {"task": "texts", "method": "continuation-min", "model": "org/c"}
    other = {"model2": "org/c-chat", "method2": "continuation-min", "order": "flipped"}
    tab = visit(site, address("questions", **chosen, **other))
    assert len(question_texts(tab)) == flipped
    found = tab.locator(".question").count()
    tab.get_by_label("Search questions").fill("no such words anywhere")
    tab.wait_for_selector("#questions-body .empty")
    assert tab.locator(".question").count() == 0 <= found


def test_every_runs_answer_to_a_question_is_one_click_away(visit, site, predictions):
    tab = visit(site, address("questions", model="org/ash", task="letters", method="choice"))
    question_texts(tab)
    tab.locator(".question summary").first.click()
    rows = tab.locator(".question").first.locator("details tbody tr")
    number = int(texts(tab.locator(".question > p.muted"))[0].rpartition(" ")[2])
    letters = [p for p in predictions if p.header.task == "letters"]
    gold = letters[0].gold[number]
    assert rows.count() == sum(p.gold[number] == gold for p in letters) > 1
    rows.first.locator("a").click()
    assert chosen_in_address(tab)[0] == "model"
