"""Recalibrators against other libraries, their promises and their limits."""

from __future__ import annotations

import json
import logging
import math
from typing import Any

import numpy as np
import pytest
from scipy import optimize

import calib_harness as ch
from calib_harness import RECALIBRATORS, Recalibrator, cross_fit, fit_recalibrator
from tests.core.strategies import random_questions

LABELLED = [name for name, method in RECALIBRATORS.items() if method.needs == "gold"]


def biased(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Make scores of a model that is twice too sure and likes the second letter."""
    probs, gold = random_questions(np.random.default_rng(seed), n, ragged=False)
    return 2 * np.log(probs) + np.array([0.0, 1.0, 0.0, -0.5]), gold


def test_letter_finds_temperature_and_biases() -> None:
    scores, gold = biased(0, 20_000)
    params = fit_recalibrator("letter", scores, gold).params
    assert params["temperature"] == pytest.approx(2, rel=0.05)
    bias = np.array(params["bias"]) - params["bias"][0]
    assert bias == pytest.approx([0, -0.5, 0, 0.25], abs=0.08)


@pytest.mark.parametrize("method", ["letter", "vector"])
def test_no_parameters_nearby_are_better(method: str) -> None:
    # The penalised loss, minimised by a simplex that knows no derivatives, from the fit.
    scores, gold = biased(1, 80)
    fitted = fit_recalibrator(method, scores, gold)
    first = "temperature" if method == "letter" else "slope"
    shape = np.atleast_1d(fitted.params[first]).size
    theta = np.append(fitted.params[first], fitted.params["bias"])

    def loss(theta: np.ndarray) -> float:
        head = theta[:shape].tolist() if method == "vector" else float(theta[0])
        probs = Recalibrator(method, {first: head, "bias": theta[shape:].tolist()}).apply(scores)
        toward = np.append(theta[:shape] - 1, theta[shape:]) if shape > 1 else theta[1:]
        return len(gold) * ch.nll(probs, gold) + 0.05 * float((toward**2).sum())

    found = optimize.minimize(loss, theta, method="Nelder-Mead", options={"maxfev": 1500})
    assert loss(theta) <= found.fun + 1e-5


def test_isotonic_is_scikit_learns() -> None:
    isotonic = pytest.importorskip("sklearn.isotonic")
    scores, gold = biased(2, 200)
    probs = ch.softmax_scores(scores)
    came_true = (np.arange(4) == gold[:, None]).astype(float)
    expected = isotonic.IsotonicRegression(y_min=0, y_max=1).fit(probs.ravel(), came_true.ravel())
    params = fit_recalibrator("isotonic", scores, gold).params
    np.testing.assert_allclose(
        params["frequency"], expected.predict(params["probability"]), atol=1e-12
    )


def test_batch_calibration_makes_letters_equally_likely_without_labels() -> None:
    scores, _ = biased(3, 500)
    probs = fit_recalibrator("batch", scores).apply(scores)
    raw = ch.softmax_scores(scores)
    divided = raw / raw.mean(axis=0)
    np.testing.assert_allclose(probs, divided / divided.sum(axis=1, keepdims=True), rtol=1e-9)
    assert np.ptp(probs.mean(axis=0)) < np.ptp(raw.mean(axis=0)) / 2


def test_agreement_fits_the_base_model_where_both_predict_the_same() -> None:
    probs, _ = random_questions(np.random.default_rng(4), 300, ragged=False)
    scores = 3 * np.log(probs)
    assert fit_recalibrator("agreement", scores, base=probs).params["temperature"] == (
        pytest.approx(3)
    )
    # Where they disagree the base model may say anything.
    other = probs.copy()
    other[:40] = np.roll(probs[:40], 1, axis=1)
    assert fit_recalibrator("agreement", scores, base=other).params["temperature"] == (
        pytest.approx(3)
    )


def test_temperature_to_one_hot_targets_is_temperature_to_gold() -> None:
    scores, gold = biased(5, 100)
    targets = np.eye(4)[gold]
    assert ch.fit_temperature_to(scores, targets) == pytest.approx(ch.fit_temperature(scores, gold))
    grid = np.exp(np.linspace(-2, 3, 4001))
    soft = ch.softmax_scores(scores / 3.3)
    losses = [-(soft * np.log(ch.apply_temperature(scores, t))).sum() for t in grid]
    assert ch.fit_temperature_to(scores, soft) == pytest.approx(grid[np.argmin(losses)], rel=2e-3)


@pytest.mark.parametrize("method", RECALIBRATORS)
def test_a_fit_survives_json_and_gives_distributions(method: str) -> None:
    probs, gold = random_questions(np.random.default_rng(6), 60)
    scores = np.log(probs)
    scores[0, 1] = -math.inf
    gold[0] = 0
    base = ch.softmax_scores(scores / 2)
    fitted = fit_recalibrator(method, scores, gold, base=base)
    again = Recalibrator(method, json.loads(json.dumps(dict(fitted.params))))
    result = again.apply(scores)
    np.testing.assert_array_equal(result, fitted.apply(scores))
    np.testing.assert_array_equal(np.isnan(result), np.isnan(scores))
    assert np.nansum(result, axis=1) == pytest.approx(1)


@pytest.mark.parametrize("method", LABELLED)
def test_held_out_losses_stay_finite_where_every_training_answer_is_right(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    # One wrong answer among 50: the other folds see none, and want to be always sure.
    scores = np.log(np.tile([0.9, 0.1], (50, 1)))
    gold = np.zeros(50, dtype=int)
    gold[7] = 1
    with caplog.at_level(logging.ERROR):
        _, probs = cross_fit(method, scores, gold, rng=0)
    assert ch.nll(probs, gold) < 1


@pytest.mark.parametrize("method", LABELLED)
def test_a_calibrated_model_is_left_nearly_alone(method: str) -> None:
    probs, gold = random_questions(np.random.default_rng(7), 5000, ragged=False)
    _, after = cross_fit(method, np.log(probs), gold, rng=0)
    assert ch.brier_score(after, gold) == pytest.approx(ch.brier_score(probs, gold), abs=0.005)


def test_held_out_probabilities_come_from_the_other_folds() -> None:
    scores, gold = biased(8, 50)
    fitted, probs = cross_fit("letter", scores, gold, n_folds=4, rng=1)
    temperatures, _ = ch.cross_fit_temperature(scores, gold, n_folds=4, rng=1)
    assert len(fitted) == temperatures.size == 4
    changed = gold.copy()
    changed[0] = (gold[0] + 1) % 4
    _, others = cross_fit("letter", scores, changed, n_folds=4, rng=1)
    np.testing.assert_array_equal(others[0], probs[0])  # its own label plays no part


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("platt", {}, "method must be one of 'temperature', .*; got 'platt'"),
        ("letter", {}, "gold must be given for method 'letter'; got None"),
        ("agreement", {"gold": [0]}, "base must be given for method 'agreement'; got None"),
        ("agreement", {"base": [[0.5, 0.25, 0.25]]}, "base must have the shape"),
        ("agreement", {"base": [[0.2, 0.8]]}, "predict the same choice"),
        ("temperature", {"gold": [5]}, "1 of 1 are not"),
    ],
)
def test_bad_requests_are_named(method: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_recalibrator(method, np.log([[0.6, 0.4]]), **given)


def test_more_choices_than_were_fitted_are_refused() -> None:
    scores, gold = biased(9, 40)
    fitted = fit_recalibrator("letter", scores, gold)
    narrow = fitted.apply(scores[:, :3])
    assert narrow.shape == (40, 3)
    with pytest.raises(ValueError, match="at most 4 choices"):
        fitted.apply(np.zeros((1, 5)))
    with pytest.raises(ValueError, match="params of letter must hold bias"):
        Recalibrator("letter", {"temperature": 1.0})
