"""The calibrated null, exact where it can be, and what is in excess of it."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

import calib_harness as ch
from calib_harness import CALIBRATION_ERRORS, METRICS
from calib_harness.core.answers import Choices
from tests.core.strategies import random_questions
from tests.core.test_metrics import settings_of

EXACT = ("ece", "sce", "sce_ova", "ace", "tace")


def exact_null_mean(name, probs, **options):  # type: ignore[no-untyped-def]
    """Return the mean of a metric over every possible gold, weighed by its probability."""
    choices = [np.flatnonzero(~np.isnan(row)) for row in probs]
    total = 0.0
    for gold in product(*choices):
        weight = math.prod(row[g] for row, g in zip(probs, gold, strict=True))
        total += weight * METRICS[name].function(probs, np.array(gold), **options)
    return total


@pytest.mark.parametrize("name", EXACT)
def test_null_mean_is_the_mean_over_all_golds(name: str) -> None:
    probs, _ = random_questions(np.random.default_rng(3), 4)
    probs[2] = probs[1]  # equal values
    for options in settings_of(name):
        if options.get("norm", "l1") != "l1":
            continue
        null = ch.calibrated_null(probs, metric=name, n_resamples=2, rng=0, **options)
        expected = exact_null_mean(name, probs, **options)
        assert null.mean == pytest.approx(expected, rel=1e-10, abs=1e-12), options


@pytest.mark.parametrize("name", CALIBRATION_ERRORS)
def test_simulated_golds_average_to_the_null_mean(name: str) -> None:
    probs, _ = random_questions(np.random.default_rng(4), 200)
    metric = METRICS[name]
    ends = np.cumsum(np.nan_to_num(probs), axis=1)
    golds = (np.random.default_rng(7).random((300, 200, 1)) > ends).sum(axis=2)
    draws = metric.simulate(Choices.checked(probs))(golds)
    null = ch.calibrated_null(probs, metric=name, n_resamples=1000, rng=1)
    error = draws.std() * math.sqrt(1 / 300 + 1 / 1000)
    assert null.mean == pytest.approx(draws.mean(), abs=4 * error)


def test_p_values_of_calibrated_models_are_uniform_however_sharp() -> None:
    rng = np.random.default_rng(5)
    found: dict[str, list[ch.Excess]] = {"ece": [], "sce": [], "smece": []}
    for i in range(60):
        sharpness = (0.3, 3.0)[i % 2]
        probs = rng.dirichlet(np.full(4, 1 / sharpness), size=120)
        gold = np.array([rng.choice(4, p=row) for row in probs])
        for name, each in ch.excesses(list(found), probs, gold, n_resamples=49, rng=i).items():
            found[name].append(each)
    for each in found.values():
        p_values = [one.p_value for one in each]
        assert stats.kstest(p_values, "uniform").pvalue > 0.001
        mean = np.array([one.excess for one in each])
        assert abs(mean.mean()) < 4 * mean.std() / math.sqrt(mean.size)


def test_excess_stands_beside_its_parts() -> None:
    probs, gold = random_questions(np.random.default_rng(6), 100)
    found = ch.excesses(["sce", "ece"], probs, gold, n_resamples=50, rng=2, n_bins=5)
    assert list(found) == ["sce", "ece"]
    assert found["ece"].value == ch.ece(probs, gold, n_bins=5)
    alone = ch.calibrated_null(probs, metric="sce", n_resamples=50, rng=2, n_bins=5)
    assert found["sce"].null == alone
    assert found["sce"].excess == found["sce"].value - alone.mean


def test_an_impossible_answer_has_the_least_p_value() -> None:
    found = ch.excesses(["ece"], [[1.0, 0.0]] * 5, [1] * 5, n_resamples=19, rng=0)["ece"]
    assert found.p_value == 1 / 20


def test_only_calibration_errors_have_an_excess() -> None:
    with pytest.raises(ValueError, match=r"names must be calibration errors .*; got 'nll'"):
        ch.excesses(["ece", "nll"], [[0.5, 0.5]], [0], rng=0)


def test_spiegelhalter_is_the_standardised_brier_score() -> None:
    rng = np.random.default_rng(7)
    c = rng.uniform(0.5, 1, size=80)
    hit = rng.random(80) < c
    scores = (c - hit) ** 2
    mean, variance = c * (1 - c), c * (1 - c) ** 4 + (1 - c) * c**4 - (c * (1 - c)) ** 2
    expected = (scores - mean).sum() / math.sqrt(variance.sum())
    found = ch.spiegelhalter(np.column_stack([c, 1 - c]), 1 - hit)
    assert found.z == pytest.approx(expected)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(expected)))
    assert math.isnan(ch.spiegelhalter([[1.0, 0.0]], [0]).z)
