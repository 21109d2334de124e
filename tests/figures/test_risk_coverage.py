"""Risk-coverage curves: every point, ties, and the AURC of the metrics table."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest

import calib_harness as ch
from tests.core import naive
from tests.core.strategies import random_questions


def mean_risks(pairs: list[tuple[float, int]]) -> list[float]:
    """Average the curve over every order that is sorted by confidence."""
    curves = []
    for order in permutations(pairs):
        if all(one[0] >= other[0] for one, other in pairwise(order)):
            wrong = [1 - hit for _, hit in order]
            curves.append([sum(wrong[:k]) / k for k in range(1, len(wrong) + 1)])
    return np.mean(curves, axis=0).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_curve_is_the_mean_over_all_orders_of_equal_confidences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.multinomial(4, [0.5, 0.25, 0.25], size=6) / 4
    gold = rng.integers(3, size=6)
    curve = ch.risk_coverage(probs, gold, n_resamples=0)
    assert curve.risk.tolist() == pytest.approx(mean_risks(naive.top_pairs(probs, list(gold))))
    assert curve.coverage.tolist() == pytest.approx([k / 6 for k in range(1, 7)])


def test_mean_is_the_aurc_and_last_point_the_error_rate() -> None:
    probs, gold = random_questions(np.random.default_rng(1), 80)
    curve = ch.risk_coverage(probs, gold)
    assert curve.aurc == ch.bootstrap(["aurc"], probs, gold, rng=0)["aurc"]
    assert curve.risk.mean() == pytest.approx(curve.aurc.value)
    assert curve.risk[-1] == pytest.approx(1 - ch.accuracy(probs, gold))


def test_wrong_resamples_are_named() -> None:
    with pytest.raises(ValueError, match="n_resamples must be a whole number"):
        ch.risk_coverage([[0.6, 0.4]], [0], n_resamples=-1)
