"""A change over prompts, told apart from a change of the dependence on them."""

from __future__ import annotations

import numpy as np
import pytest

from calib_harness.core.prompt_spread import prompt_spread

QUESTIONS = np.random.default_rng(3).random((2, 4, 400))


def means_and_deviations(right: np.ndarray, n_resamples: int = 400) -> tuple[np.ndarray, ...]:
    """Accuracy of (models, prompts, questions), and how resampled questions deviate from it."""
    rng = np.random.default_rng(1)
    draws = rng.integers(right.shape[-1], size=(n_resamples, right.shape[-1]))
    values = right.mean(axis=-1)
    return values, np.stack([right[..., draw].mean(axis=-1) - values for draw in draws])


def answers(rates: list[list[float]]) -> np.ndarray:
    return np.array(rates)[..., None] > QUESTIONS


def test_means_and_spreads_are_those_of_the_values_without_noise():
    values = np.array([[0.5, 0.7], [0.4, 0.9]])
    found = prompt_spread(values, np.zeros((10, 2, 2)))
    assert (found.base_mean, found.aligned_mean) == pytest.approx((0.6, 0.65))
    assert found.change == found.low == found.high == pytest.approx(0.05)
    assert found.base_spread == pytest.approx(0.2 / np.sqrt(2))
    assert found.aligned_spread == pytest.approx(0.5 / np.sqrt(2))
    assert found.spread_change == pytest.approx(0.3 / np.sqrt(2))
    assert found.change_spread == pytest.approx(0.3 / np.sqrt(2))
    # The changes are -.1 and .2: their mean square is .025, of which the mean's is .0025.
    assert found.share == pytest.approx(0.9)


def test_the_noise_of_questions_is_no_dependence_on_the_prompt():
    found = prompt_spread(*means_and_deviations(answers([[0.6] * 4, [0.6] * 4])))
    measured = answers([[0.6] * 4, [0.6] * 4]).mean(axis=-1).std(axis=1, ddof=1)
    assert found.base_spread < measured[0]
    assert found.aligned_spread < measured[1]
    assert found.spread_low < 0 < found.spread_high
    assert found.spread_p_value > 0.05
    assert np.isnan(found.share)


def test_a_change_that_all_prompts_share_is_none_of_sensitivity():
    found = prompt_spread(*means_and_deviations(answers([[0.5] * 4, [0.8] * 4])))
    assert found.low < 0.3 < found.high
    assert found.p_value < 0.01
    assert found.spread_p_value > 0.05
    assert found.share < 0.05


def test_a_model_that_depends_more_on_its_prompt_is_told_from_one_that_changed():
    found = prompt_spread(*means_and_deviations(answers([[0.6] * 4, [0.3, 0.5, 0.7, 0.9]])))
    true = np.std([0.3, 0.5, 0.7, 0.9], ddof=1)
    assert found.spread_low < true < found.spread_high
    assert found.spread_p_value < 0.01
    assert found.share > 0.9
    assert found.share_low <= found.share <= found.share_high <= 1


def test_resamples_without_a_value_are_left_out():
    values, deviations = means_and_deviations(answers([[0.5] * 4, [0.8] * 4]))
    broken = np.concatenate([deviations, np.full((5, 2, 4), np.nan)])
    assert prompt_spread(values, broken) == prompt_spread(values, deviations)


def test_an_interval_of_a_biased_metric_holds_those_of_all_pairs_of_worlds():
    values, moved = means_and_deviations(answers([[0.5] * 4, [0.8] * 4]))
    worlds = np.stack([moved, moved - 0.1, moved + 0.2], axis=-1)
    plain, found = prompt_spread(values, moved), prompt_spread(values, moved, worlds)
    assert found.low == pytest.approx(plain.low - 0.3)
    assert found.high == pytest.approx(plain.high + 0.3)
    assert found.p_value > plain.p_value
    assert found.spread_change == plain.spread_change
    assert np.isnan([found.spread_low, found.spread_high, found.spread_p_value]).all()
    assert np.isnan([found.share_low, found.share_high]).all()
