"""What recalibrating would have saved, question by question, and the CORP decomposition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import calib_harness as ch
from calib_harness.core.loss import mean_test
from calib_harness.core.recalibration import folds
from tests.core.strategies import random_questions


def test_a_loss_is_the_score_before_minus_the_score_after_the_other_folds_temperature() -> None:
    probs, gold = random_questions(np.random.default_rng(0), 40)
    fold = folds(40, 5, 3)
    for score, of_one in (("nll", ch.nll), ("brier", ch.brier_score)):
        losses = ch.calibration_losses(probs, gold, score=score, rng=3)
        for i in (0, 17, 39):
            others = fold != fold[i]
            t = ch.fit_temperature(np.log(probs[others]), gold[others])
            after = ch.apply_temperature(np.log(probs[[i]]), t)
            expected = of_one(probs[[i]], gold[[i]]) - of_one(after, gold[[i]])
            assert losses[i] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_an_overconfident_model_loses_what_its_temperature_costs() -> None:
    probs, gold = random_questions(np.random.default_rng(1), 20_000)
    sharp = ch.apply_temperature(np.log(probs), 0.5)
    saved = ch.brier_score(sharp, gold) - ch.brier_score(probs, gold)
    found = ch.calibration_loss(sharp, gold, score="brier")
    assert found.mean == pytest.approx(saved, abs=0.002)
    assert found.low > 0
    calibrated = ch.calibration_loss(probs, gold, score="brier")
    assert calibrated.low <= 0.0005
    assert abs(calibrated.mean) < 0.0005


@pytest.mark.parametrize("score", ["nll", "brier"])
def test_interval_of_a_change_is_the_widest_over_possible_temperatures(score: str) -> None:
    probs, gold = random_questions(np.random.default_rng(5), 150)
    sharp = ch.apply_temperature(np.log(probs), 0.6)
    found = ch.calibration_loss_change(probs, sharp, gold, score=score)
    losses = [ch.calibration_losses(p, gold, score=score) for p in (probs, sharp)]
    test = stats.ttest_rel(losses[1], losses[0])
    assert (found.change, found.p_value) == pytest.approx(
        (test.statistic * found.stderr, test.pvalue)
    )
    assert found.low <= test.confidence_interval().low
    assert found.high >= test.confidence_interval().high
    # The sharp model's loss at temperatures around its best one, 1/.6.
    of_one = {"nll": ch.nll, "brier": ch.brier_score}[score]
    for t in (1.5, 1.7):
        best = ch.apply_temperature(np.log(sharp), t)
        saved = of_one(sharp, gold) - of_one(best, gold)
        assert found.low < saved - losses[0].mean() < found.high


def test_loss_of_a_calibrated_model_reaches_above_what_its_fit_cost() -> None:
    probs, gold = random_questions(np.random.default_rng(6), 100)
    found = ch.calibration_loss(probs, gold)
    assert found.low < 0 < found.high
    assert found.high > ch.mean_test(ch.calibration_losses(probs, gold)).high
    assert math.isnan(ch.calibration_loss(probs, gold, method="isotonic").high)


def test_isotonic_losses_see_what_temperature_does_not() -> None:
    # Below .7 right more often than said, above it less often: no temperature mends both.
    rng = np.random.default_rng(2)
    c = np.where(np.arange(6000) % 2, 0.6, 0.85)
    probs = np.column_stack([c, 1 - c])
    gold = (rng.random(6000) > np.where(c < 0.7, 0.75, 0.7)).astype(int)
    by_method = {
        method: ch.calibration_loss(probs, gold, score="brier", method=method).mean
        for method in ("temperature", "isotonic")
    }
    assert by_method["isotonic"] == pytest.approx(2 * 0.15**2, abs=0.01)
    assert by_method["temperature"] < 0.4 * by_method["isotonic"]


def test_mean_test_is_scipys_t_test() -> None:
    values = np.random.default_rng(3).normal(size=30)
    found, test = ch.mean_test(values, level=0.9), stats.ttest_1samp(values, 0)
    interval = test.confidence_interval(0.9)
    assert found.p_value == pytest.approx(test.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert ch.mean_test(np.zeros(5)).p_value == 1.0


def test_impossible_golds_leave_no_interval_and_say_so_by_nan() -> None:
    probs, gold = [[1.0, 0.0]] * 9 + [[0.6, 0.4]] * 9, [0] * 8 + [1] + [0] * 9
    assert np.isfinite(ch.calibration_losses(probs, gold, score="brier")).all()  # bounded
    log_losses = ch.calibration_losses(probs, gold, score="nll")
    assert np.isnan(log_losses).sum() == 1
    assert math.isnan(ch.mean_test(log_losses).low)


@pytest.mark.parametrize("n_folds", [None, 5])
def test_corp_adds_up(n_folds: int | None) -> None:
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.3, 1, size=300).round(2)
    correct = (rng.random(300) < confidence**2).astype(int)
    found = ch.corp(confidence, correct, n_folds=n_folds)
    total = found.miscalibration.mean - found.discrimination.mean + found.uncertainty.mean
    assert found.score.mean == pytest.approx(total, abs=1e-12)
    assert found.score.mean == pytest.approx(np.mean((confidence - correct) ** 2))
    assert found.miscalibration.mean > 0
    if n_folds is None:
        assert found.discrimination.mean >= 0
        assert found.uncertainty.mean == pytest.approx(correct.mean() * (1 - correct.mean()))


def test_corps_isotonic_fit_is_the_pooling_of_adjacent_violators() -> None:
    confidence = np.array([0.2, 0.4, 0.4, 0.6, 0.8, 0.9])
    correct = np.array([1, 0, 1, 0, 1, 1])
    # Blocks .2 to .6 pooled to 2/4 and the rest at 1.
    fitted = np.array([0.5, 0.5, 0.5, 0.5, 1.0, 1.0])
    expected = np.mean((confidence - correct) ** 2) - np.mean((fitted - correct) ** 2)
    assert ch.corp(confidence, correct).miscalibration.mean == pytest.approx(expected)


def test_bad_arguments_are_named() -> None:
    probs, gold = [[0.6, 0.4]] * 3, [0, 1, 0]
    with pytest.raises(ValueError, match="score must be one of 'nll', 'brier'; got 'log'"):
        ch.calibration_losses(probs, gold, score="log")
    with pytest.raises(ValueError, match="at least 10 rows; got 3"):
        ch.calibration_losses(probs, gold)
    with pytest.raises(ValueError, match="n_folds=5; got 2"):
        ch.corp([0.5, 0.6], [0, 1], n_folds=5)


def test_upper_ends_know_that_questions_come_in_clusters() -> None:
    rng = np.random.default_rng(2)
    sharpness = np.repeat(np.exp(rng.normal(0, 0.6, 15)), 40)[:, None]
    logits = rng.normal(0, 2, (600, 4))
    truth, probs = ch.softmax_scores(logits * sharpness), ch.softmax_scores(logits * 1.3)
    gold = (truth.cumsum(axis=1) < rng.random((600, 1))).sum(axis=1).clip(max=3)
    clusters = np.repeat(np.arange(15), 40)
    assert ch.calibration_loss(probs, gold, clusters=np.arange(600)) == ch.calibration_loss(
        probs, gold
    )
    found = ch.calibration_loss(probs, gold, clusters=clusters)
    of_mean = mean_test(ch.calibration_losses(probs, gold), clusters=clusters)
    assert found.high > of_mean.high + 0.2 * found.stderr
