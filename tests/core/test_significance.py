"""Corrected p-values, the sign test and agreement of rankings."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from calib_harness import holm, kendalls_w, mean_pairwise_tau, min_ranks, sign_test


@settings(max_examples=50, deadline=None, derandomize=True)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=8), level=st.floats(0.001, 0.999))
def test_holm_rejects_what_the_stepwise_procedure_rejects(p: list[float], level: float) -> None:
    rejected = set()
    for step, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        # The product is the package's own rounding of p <= level / (m - step).
        if p[index] * (len(p) - step) > level:
            break
        rejected.add(index)
    assert {i for i, q in enumerate(holm(p)) if q <= level} == rejected


def test_holm_leaves_out_missing_tests() -> None:
    np.testing.assert_allclose(holm([0.02, math.nan, 0.04]), [0.04, math.nan, 0.04])
    assert holm([]).shape == (0,)
    with pytest.raises(ValueError, match=r"p_values must lie in \[0, 1\]"):
        holm([1.2])


@pytest.mark.parametrize("n", [1, 7, 30])
def test_sign_test_sums_binomial_tails(n: int) -> None:
    for harmed in range(n + 1):
        tail = sum(math.comb(n, k) for k in range(min(harmed, n - harmed) + 1)) / 2**n
        assert sign_test(harmed, n) == pytest.approx(min(1.0, 2 * tail))


def test_sign_test_checks_numbers() -> None:
    assert sign_test(0, 0) == 1.0
    for n_harmed, n in ((3, 2), (-1, 2), (1, -2), (0.5, 2)):
        with pytest.raises(ValueError, match="must be"):
            sign_test(n_harmed, n)  # type: ignore[arg-type]


def test_min_ranks_share_the_smaller_rank_and_skip_nan() -> None:
    ranks = min_ranks([0.5, 0.1, math.nan, 0.1, 0.9])
    np.testing.assert_array_equal(ranks, [3, 1, math.nan, 1, 4])
    assert min_ranks([]).shape == (0,)


def test_w_of_rankings_with_ties_follows_from_friedmans_test() -> None:
    matrix = np.random.default_rng(0).integers(0, 4, size=(5, 8))
    statistic = stats.friedmanchisquare(*matrix.T).statistic
    assert kendalls_w(matrix) == pytest.approx(statistic / (5 * (8 - 1)))


def test_w_is_one_for_equal_rankings_and_undefined_for_none() -> None:
    assert kendalls_w([[1, 2, 2, 4]] * 3) == pytest.approx(1.0)
    assert math.isnan(kendalls_w([[1, 1, 1]] * 2))


def test_tau_averages_pairs_of_rankings() -> None:
    matrix = np.random.default_rng(1).permuted(np.tile(np.arange(6), (4, 1)), axis=1)
    total = 0.0
    for one, other in combinations(matrix, 2):
        signs = [
            np.sign(one[i] - one[j]) * np.sign(other[i] - other[j])
            for i, j in combinations(range(6), 2)
        ]
        total += np.mean(signs)
    assert mean_pairwise_tau(matrix) == pytest.approx(total / 6)


@pytest.mark.parametrize("function", [kendalls_w, mean_pairwise_tau])
def test_rankings_must_be_several_and_complete(function) -> None:  # type: ignore[no-untyped-def]
    for bad in ([[1, 2, 3]], [[1], [2]], [[1, math.nan], [1, 2]]):
        with pytest.raises(ValueError, match="rank_matrix must have at least 2 rankings"):
            function(bad)
