"""What is of the letter and what of the content, where both are known by construction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from calib_harness import sce
from calib_harness.core.choice_order import (
    halves,
    is_balanced,
    letter_effect,
    letter_prior,
    permuted_probs,
    prior_free_probs,
)

BIAS = np.array([0.1, 0.5, 0.25, 0.15])
CYCLIC = [tuple((k + shift) % 4 for k in range(4)) for shift in range(4)]


def biased_logprobs(content: np.ndarray, orders=CYCLIC, bias=BIAS) -> np.ndarray:
    """A model whose odds of a letter are its content's times the letter's own."""
    weights = np.array([[bias[i] * content[k] for i, k in enumerate(order)] for order in orders])
    return np.log(weights / weights.sum(axis=1, keepdims=True))


@pytest.fixture
def contents() -> np.ndarray:
    return np.random.default_rng(1).dirichlet(np.ones(4), size=400)


@pytest.mark.parametrize("orders", [CYCLIC, list(itertools.permutations(range(4)))])
def test_the_prior_over_letters_comes_back_from_balanced_orders(contents, orders):
    effects = [letter_effect(biased_logprobs(content, orders), orders) for content in contents]
    assert letter_prior(effects) == pytest.approx(BIAS, abs=1e-12)


def test_dividing_the_prior_out_recovers_the_unbiased_probabilities(contents):
    tables = [biased_logprobs(content) for content in contents]
    effects = [letter_effect(table, CYCLIC) for table in tables]
    probs, prior = prior_free_probs([table[0] for table in tables], effects)
    assert probs == pytest.approx(contents, abs=1e-12)
    assert prior == pytest.approx(BIAS, abs=1e-12)


def test_a_questions_prior_is_estimated_without_it(contents):
    effects = np.array([letter_effect(biased_logprobs(content), CYCLIC) for content in contents])
    first = [biased_logprobs(content)[0] for content in contents]
    before, _ = prior_free_probs(first, effects)
    effects[7] = [9.0, -3.0, -3.0, -3.0]
    after, _ = prior_free_probs(first, effects)
    same_half = halves(len(contents)) == halves(len(contents))[7]
    assert (before == after).all(axis=1)[same_half].all()
    assert not (before == after).all(axis=1)[~same_half].any()


def test_averaged_probabilities_are_the_naive_average_by_content():
    rng = np.random.default_rng(2)
    logprobs = rng.normal(size=(3, 4))
    orders = [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2)]
    expected = np.zeros(4)
    for row, order in zip(logprobs, orders, strict=True):
        probs = np.exp(row) / np.exp(row).sum()
        for letter, choice in enumerate(order):
            expected[choice] += probs[letter] / 3
    assert permuted_probs(logprobs, orders) == pytest.approx(expected, abs=1e-15)


def test_all_of_sce_is_position_bias_in_a_model_that_is_calibrated_but_for_its_letter():
    rng = np.random.default_rng(3)
    contents = rng.dirichlet(np.ones(4), size=20_000)
    gold = np.array([rng.choice(4, p=content) for content in contents])
    biased = np.exp([biased_logprobs(content)[0] for content in contents])
    chance = sce(contents, gold)
    assert chance < 0.012
    assert sce(biased, gold) > 10 * chance


def test_orders_that_favour_a_letter_say_nothing_of_the_prior():
    orders = [(0, 1, 2), (2, 1, 0)]
    assert not is_balanced(orders)
    assert np.isnan(letter_effect(np.zeros((2, 3)), orders)).all()


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_question_with_an_impossible_letter_is_left_out_of_the_prior(contents, bad):
    tables = [biased_logprobs(content) for content in contents[:9]]
    tables[3][1, 2] = bad
    effects = [letter_effect(table, CYCLIC) for table in tables]
    assert np.isnan(effects[3]).all()
    assert letter_prior(effects) == pytest.approx(BIAS, abs=1e-12)
