"""Pairs that come in families: tests that hold their level, means that know how much differs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from calib_harness.core.families import (
    clustered_share,
    clustered_sign_test,
    random_effects,
    sign_flip_test,
)

FAMILIES = np.repeat(np.arange(8), [4, 2, 2, 2, 1, 2, 1, 1])  # fifteen pairs


def drawn(rng: np.random.Generator, mean: float, family: float, pair: float) -> np.ndarray:
    """Changes of fifteen pairs in eight families, measured with an error of .03."""
    of_family = rng.normal(0, family, 8)[FAMILIES]
    return mean + of_family + rng.normal(0, pair, 15) + rng.normal(0, 0.03, 15)


def test_flipped_signs_agree_with_a_loop_over_all_combinations() -> None:
    y = drawn(np.random.default_rng(1), 0.05, 0.05, 0.05)
    means = [y[f == FAMILIES].mean() for f in range(8)]
    sums = [abs(np.dot(signs, means)) for signs in itertools.product((-1, 1), repeat=8)]
    assert sign_flip_test(y, FAMILIES) == np.mean([s >= abs(sum(means)) - 1e-12 for s in sums])
    nets = [int(np.sign(y[f == FAMILIES]).sum()) for f in range(8)]
    sums = [abs(np.dot(signs, nets)) for signs in itertools.product((-1, 1), repeat=8)]
    expected = np.mean([s >= abs(sum(nets)) for s in sums])
    assert clustered_sign_test(np.sign(y), FAMILIES) == pytest.approx(expected)


def test_pairs_that_are_families_of_their_own_have_the_exact_sign_test_and_interval() -> None:
    harmed = [1] * 8 + [-1] * 2 + [0, np.nan]
    exact = stats.binomtest(8, 10)
    assert clustered_sign_test(harmed, range(12)) == pytest.approx(exact.pvalue)
    interval = exact.proportion_ci(method="exact")
    assert clustered_share(harmed, range(12)) == pytest.approx((interval.low, interval.high))


def test_more_families_than_can_be_enumerated_are_drawn() -> None:
    y = np.random.default_rng(0).normal(0.3, 1, 20)
    p_value = sign_flip_test(y, range(20))
    assert p_value == pytest.approx(stats.ttest_1samp(y, 0).pvalue, abs=0.02)


def test_tests_over_pairs_hold_their_level_where_families_are_alike() -> None:
    # The plain sign test takes fifteen pairs of eight families for fifteen independent ones.
    rng = np.random.default_rng(2)
    data = [drawn(rng, 0.0, 0.1, 0.02) for _ in range(1500)]
    plain = np.mean([stats.binomtest(int((y > 0).sum()), 15).pvalue <= 0.05 for y in data])
    flipped = np.mean([sign_flip_test(y, FAMILIES) <= 0.05 for y in data])
    clustered = np.mean([clustered_sign_test(np.sign(y), FAMILIES) <= 0.05 for y in data])
    assert plain > 0.1
    assert flipped <= 0.065  # .05 and two Monte-Carlo errors
    assert clustered <= 0.065


def test_random_effects_are_those_of_the_full_likelihood() -> None:
    from scipy import optimize

    rng = np.random.default_rng(3)
    y, variance = drawn(rng, 0.1, 0.08, 0.04), rng.uniform(0.02, 0.05, 15) ** 2
    same = FAMILIES[:, None] == FAMILIES[None, :]

    def deviance(log_sd: np.ndarray) -> float:
        v = np.diag(variance + np.exp(2 * log_sd[1])) + np.exp(2 * log_sd[0]) * same
        inverse, one = np.linalg.inv(v), np.ones(15)
        mean = one @ inverse @ y / (one @ inverse @ one)
        quadratic = (y - mean) @ inverse @ (y - mean)
        return np.linalg.slogdet(v)[1] + np.log(one @ inverse @ one) + quadratic

    starts = itertools.product((-4.0, -2.5), repeat=2)
    best = min((optimize.minimize(deviance, s, method="Nelder-Mead") for s in starts), key=_fun)
    found = random_effects(y, np.sqrt(variance), FAMILIES)
    assert found.between_families == pytest.approx(np.exp(best.x[0]), abs=2e-3)
    assert found.between_pairs == pytest.approx(np.exp(best.x[1]), abs=2e-3)
    v = np.diag(variance + np.exp(2 * best.x[1])) + np.exp(2 * best.x[0]) * same
    weights = np.linalg.solve(v, np.ones(15))
    assert found.mean == pytest.approx(weights @ y / weights.sum(), abs=1e-3)


def _fun(result: object) -> float:
    return float(result.fun)  # type: ignore[attr-defined]


def test_intervals_hold_the_mean_and_the_next_family() -> None:
    rng = np.random.default_rng(4)
    held = []
    for _ in range(500):
        found = random_effects(drawn(rng, 0.1, 0.1, 0.03), np.full(15, 0.03), FAMILIES)
        further = 0.1 + rng.normal(0, 0.1) + rng.normal(0, 0.03)
        held.append((found.low <= 0.1 <= found.high, found.next_low <= further <= found.next_high))
    mean, following = np.mean(held, axis=0)
    assert mean > 0.91
    assert following > 0.91


def test_pairs_that_differ_by_chance_only_have_no_variance_of_their_own() -> None:
    found = random_effects([0.1, 0.1001, 0.0999, 0.1], [0.05] * 4, ["a", "a", "b", "c"])
    assert found.i_squared == pytest.approx(0, abs=1e-6)
    assert found.mean == pytest.approx(0.1, abs=1e-3)


def test_too_few_families_have_no_intervals() -> None:
    one = random_effects([0.1, 0.2], [0.01, 0.01], ["a", "a"])
    assert np.isnan([one.low, one.high, one.next_low]).all()
    two = random_effects([0.1, 0.2], [0.01, 0.01], ["a", "b"])
    assert two.low < two.mean < two.high
    assert np.isnan(two.next_low)
    assert np.isnan(random_effects([np.nan], [0.1], ["a"]).mean)
    with pytest.raises(ValueError, match=r"stderrs must be at least 0; got -0\.1"):
        random_effects([0.1], [-0.1], ["a"])


def test_what_pairs_or_families_differ_by_takes_two_of_them() -> None:
    one = random_effects([0.1], [0.01], ["a"])
    assert one.mean == pytest.approx(0.1)
    assert np.isnan([one.between_families, one.between_pairs, one.i_squared]).all()
    family = random_effects([0.1, 0.3], [0.01, 0.01], ["a", "a"])
    assert np.isnan(family.between_families)
    assert family.between_pairs > 0.1
