"""Temperature scaling."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

from calib_harness import (
    apply_temperature,
    cross_fit_temperature,
    ece,
    fit_temperature,
    nll,
    softmax_scores,
)
from calib_harness.core.recalibration import LARGEST_INVERSE, SMALLEST_INVERSE, temperatures_of
from tests.core.strategies import random_questions


def over_sure(seed: int, n: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Make scores that are `temperature` times those of a calibrated model."""
    probs, gold = random_questions(np.random.default_rng(seed), n)
    return np.log(probs) * temperature, gold


def test_known_temperature_is_found() -> None:
    scores, gold = over_sure(0, 4000, 2.5)
    assert fit_temperature(scores, gold) == pytest.approx(2.5, rel=0.05)
    assert ece(apply_temperature(scores, 2.5), gold) < ece(softmax_scores(scores), gold) / 3


@pytest.mark.parametrize("seed", range(4))
def test_no_temperature_nearby_is_better(seed: int) -> None:
    scores, gold = over_sure(seed, 40, 1.7)
    best = fit_temperature(scores, gold)
    least = nll(apply_temperature(scores, best), gold)
    for other in (best * 0.99, best * 1.01, best / 3, best * 3):
        assert nll(apply_temperature(scores, other), gold) > least


def test_temperature_scales_with_scores() -> None:
    scores, gold = over_sure(5, 200, 1.0)
    assert fit_temperature(scores * 4, gold) == pytest.approx(4 * fit_temperature(scores, gold))


def test_ends_are_used_and_logged_where_no_temperature_is_best(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scores = np.log([[0.8, 0.2], [0.7, 0.3]])
    with caplog.at_level(logging.WARNING):
        assert fit_temperature(scores, [0, 0]) == pytest.approx(1 / LARGEST_INVERSE)
        assert fit_temperature(scores, [1, 1]) == pytest.approx(1 / SMALLEST_INVERSE)
    assert len(caplog.records) == 2


def test_folds_say_once_and_in_whose_name_that_no_temperature_fits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scores, gold = np.log([[0.8, 0.2]] * 20), np.zeros(20, dtype=int)
    with caplog.at_level(logging.WARNING):
        for name in ("m on toy", "n on toy"):
            with temperatures_of(name):
                cross_fit_temperature(scores, gold, n_folds=5, rng=0)
        fit_temperature(scores, gold)
    said = "no temperature in bounds fits best; 0.1 is used."
    assert caplog.messages == [f"m on toy: {said}", f"n on toy: {said}", said]


def test_impossible_choices_are_fine_and_impossible_golds_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scores, gold = over_sure(6, 60, 2.0)
    expected = fit_temperature(scores, gold)
    wider = np.column_stack([scores, np.full(60, -math.inf)])
    assert fit_temperature(wider, gold) == pytest.approx(expected)
    more, one_more = np.vstack([wider, [0.0] * 5 + [-math.inf]]), np.append(gold, 5)
    with caplog.at_level(logging.WARNING):
        assert fit_temperature(more, one_more) == pytest.approx(expected)
    assert "1 of 61 questions have a gold score of -inf" in caplog.text


def test_held_out_probabilities_use_the_temperature_of_the_other_folds() -> None:
    scores, gold = over_sure(7, 53, 2.0)
    temperatures, probs = cross_fit_temperature(scores, gold, n_folds=4, rng=1)
    assert temperatures.shape == (4,)
    used = np.array(
        [
            next(k for k, t in enumerate(temperatures) if _same(apply_temperature([s], t)[0], p))
            for s, p in zip(scores, probs, strict=True)
        ]
    )
    assert sorted(np.bincount(used)) == [13, 13, 13, 14]
    for k in range(4):
        others = used != k
        assert temperatures[k] == pytest.approx(fit_temperature(scores[others], gold[others]))


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return np.allclose(one, other, rtol=1e-12, equal_nan=True)


def test_folds_depend_on_the_seed_alone() -> None:
    scores, gold = over_sure(8, 30, 2.0)
    first, second = (cross_fit_temperature(scores, gold, rng=3)[1] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_bad_arguments_are_named() -> None:
    good = np.log([[0.8, 0.2], [0.7, 0.3]])
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
            apply_temperature(good, temperature)
    with pytest.raises(ValueError, match="1 of 2 are not"):
        fit_temperature(good, [0, 2])
    with pytest.raises(ValueError, match="all are -inf"):
        fit_temperature([[0.0, -math.inf]], [1])
    with pytest.raises(ValueError, match="at least n_folds=5 rows; got 2"):
        cross_fit_temperature(good, [0, 1], rng=0)
    with pytest.raises(ValueError, match="n_folds must be a whole number of at least 2; got 1"):
        cross_fit_temperature(good, [0, 1], n_folds=1, rng=0)
