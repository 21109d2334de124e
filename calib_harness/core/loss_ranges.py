"""What a calibration loss may be, given that the best temperature is known by a sample only.

A temperature fitted on a sample saves less of other questions than the best one, by an amount
that matters where there is little to save: there the mean of cross-fitted losses is no normal
variable around the true loss. At any one temperature it is one. So intervals hold those of every
temperature that the data do not rule out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize

from calib_harness.core.checks import FloatArray, IntArray
from calib_harness.core.recalibration import LARGEST_INVERSE, SMALLEST_INVERSE

_N_TEMPERATURES = 9
_STANDARD_ERRORS = 2.0  # of the score test that rules temperatures out
_TINY = 1e-300


@dataclass(frozen=True)
class LossRange:
    """Losses of the same questions, counted in several ways.

    Attributes
    ----------
    losses : ndarray, shape (G, n)
        Finite.
    unseen : ndarray, shape (G,)
        Variance of a loss that the sample lacks: what it would be if the temperature were
        the true one, less what it is, where that is above 0. Wrong answers of a sure model are
        too rare to be seen in few questions.
    """

    losses: FloatArray
    unseen: FloatArray

    @classmethod
    def of_one(cls, losses: FloatArray) -> LossRange:
        """Return losses that are counted in one way."""
        return cls(losses[None, :], np.zeros(1))

    def interval(
        self, minus: LossRange, quantile: float, clusters: IntArray | None = None
    ) -> tuple[float, float]:
        """Return the ends of mean difference ± quantile × standard error, over all ways."""
        n = self.losses.shape[1]
        means = [each.losses.mean(axis=1) for each in (self, minus)]
        first, second = (
            _sums(each.losses - mean[:, None], clusters)
            for each, mean in zip((self, minus), means, strict=True)
        )
        squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
        n_drawn = first.shape[1]
        variance = squares / n * (n_drawn / n) * (n - 1) / (n_drawn - 1)
        variance = variance + self.unseen[:, None] + minus.unseen
        half = quantile * np.sqrt(np.maximum(variance, 0.0) / (n - 1))
        difference = means[0][:, None] - means[1]
        return float((difference - half).min()), float((difference + half).max())


def losses_by_temperature(
    probs: FloatArray, gold: IntArray, score: str, clusters: IntArray | None = None
) -> LossRange:
    """Return the losses of questions at temperatures that a score test does not rule out.

    Parameters
    ----------
    probs : ndarray, shape (n, K)
        NaN where a choice does not exist.
    gold : ndarray of int, shape (n,)
    score : {"nll", "brier"}
    clusters : ndarray of int, shape (n,), or None
        Number from 0 of each question's cluster: clusters are independent then, not questions.

    Returns
    -------
    LossRange
        Choices of probability 0 count as 1e-300.
    """
    scaled = _Scaled(np.log(np.maximum(probs, _TINY)), gold)
    # Choice after choice, as the scores; an absent one has no part in any sum.
    before = np.where(scaled.exists, probs.T, 0.0)
    found, unseen = [], []
    for log_inverse in np.linspace(*_possible(scaled, clusters), _N_TEMPERATURES):
        after = scaled.probs(log_inverse)
        if score == "nll":
            saved = np.log(np.maximum(after, _TINY)) - scaled.scores
        else:
            offsets = (before**2).sum(axis=0) - (after**2).sum(axis=0)
            saved = offsets - 2 * (before - after)
        mean = (after * saved).sum(axis=0)
        likely = float(((after * saved**2).sum(axis=0) - mean**2).mean())
        found.append(saved[gold, np.arange(gold.size)])
        unseen.append(max(likely - float(found[-1].var()), 0.0))
    return LossRange(np.array(found), np.array(unseen))


class _Scaled:
    """Scores at any temperature, choice after choice: sums over choices are of long rows then.

    Attributes
    ----------
    exists : ndarray of bool, shape (K, n)
        Whether a question has the choice.
    scores : ndarray, shape (K, n)
        0 where it has not.
    of_gold : ndarray, shape (n,)
        Scores of the right choices.
    """

    def __init__(self, scores: FloatArray, gold: IntArray) -> None:
        by_choice = np.ascontiguousarray(scores.T)
        self.exists = ~np.isnan(by_choice)
        self.scores = np.where(self.exists, by_choice, 0.0)
        self.of_gold = by_choice[gold, np.arange(gold.size)]
        above = np.where(self.exists, by_choice, -np.inf)
        self._above, self._largest = above, above.max(axis=0)

    def probs(self, log_inverse: float) -> FloatArray:
        """Return the probabilities at a log 1/T, (K, n); 0 where there is no choice."""
        inverse = np.exp(log_inverse)
        weights = np.exp(self._above * inverse - self._largest * inverse)
        return np.asarray(weights / weights.sum(axis=0))


def _sums(values: FloatArray, clusters: IntArray | None) -> FloatArray:
    """Return the sums (..., C) over clusters of values (..., n), which may be their own."""
    if clusters is None:
        return values
    member = clusters[:, None] == np.arange(int(clusters.max()) + 1)
    return np.asarray(values @ member.astype(np.float64))


def _possible(scaled: _Scaled, clusters: IntArray | None) -> tuple[float, float]:
    """Return the least and the largest log 1/T at which the score test does not reject."""
    ends = float(np.log(SMALLEST_INVERSE)), float(np.log(LARGEST_INVERSE))
    scores, gold_scores = scaled.scores, scaled.of_gold

    @cache  # both searches start at the same ends
    def statistic(log_inverse: float) -> float:
        weighted = scaled.probs(log_inverse) * scores
        expected = weighted.sum(axis=0)
        slopes = expected - gold_scores
        likely = float(((weighted * scores).sum(axis=0) - expected**2).mean())
        spread = max(float((_sums(slopes, clusters) ** 2).sum()) / slopes.size, likely, _TINY)
        return float(slopes.mean() * np.sqrt(gold_scores.size / spread))

    def crossing(value: float) -> float:
        if statistic(ends[0]) >= value:
            return ends[0]
        if statistic(ends[1]) <= value:
            return ends[1]
        return float(optimize.brentq(lambda at: statistic(at) - value, *ends, xtol=0.01))

    return crossing(-_STANDARD_ERRORS), crossing(_STANDARD_ERRORS)
