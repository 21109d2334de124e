"""What miscalibration costs, question by question: the primary test of "worse calibrated".

A proper score, minus the same score after recalibration, is what a model loses by the size of its
probabilities alone (the reliability term of the score's decomposition; Bröcker 2009). As
a mean over questions it has no bins and no bias of plug-in errors, and two models on the
same questions can be told apart by a paired t-test.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from calib_harness.core.accuracy import brier_losses, log_losses
from calib_harness.core.answers import Answers
from calib_harness.core.checks import (
    FloatArray,
    IntArray,
    as_floats,
    check_choice_of,
    check_fraction,
)
from calib_harness.core.loss_ranges import LossRange, losses_by_temperature
from calib_harness.core.recalibrators import cross_fit
from calib_harness.core.resampling import PairedChange

_SCORES = {"nll": log_losses, "brier": brier_losses}
SCORES = tuple(_SCORES)
#: The paired test of "worse calibrated", and its name in tables.
PRIMARY = "calibration_loss"
#: Mean calibration losses by their names in tables, with the score of each.
LOSSES = {PRIMARY: "nll", "calibration_loss_brier": "brier"}
FEWEST_QUESTIONS = 10
DEFAULT_N_FOLDS = 5


@dataclass(frozen=True)
class MeanTest:
    """A mean with its standard error, interval and two-sided p-value of 0, by Student's t."""

    mean: float
    stderr: float
    low: float
    high: float
    p_value: float


def proper_scores(probs: npt.ArrayLike, gold: npt.ArrayLike, *, score: str = "nll") -> FloatArray:
    """Return the negative log-likelihood or the Brier score of each question.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.
    score : {"nll", "brier"}
        ``-log p_gold`` in nats, or ``Σ_k (p_k - [gold = k])²``.

    Returns
    -------
    ndarray, shape (n,)
        Infinite where the gold choice has probability 0 and the score is "nll".

    Raises
    ------
    ValueError
        If the score is unknown, or a row is no distribution or has no gold choice.

    Examples
    --------
    >>> proper_scores([[0.6, 0.4], [0.8, 0.2]], [0, 1], score="brier").round(2).tolist()
    [0.32, 1.28]
    """
    check_choice_of("score", score, SCORES)
    return _SCORES[score](Answers.of(probs, gold))


def calibration_losses(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    score: str = "nll",
    method: str = "temperature",
    n_folds: int = DEFAULT_N_FOLDS,
    rng: np.random.Generator | int = 0,
) -> FloatArray:
    """Return what each question's score loses to miscalibration that recalibrating mends.

    The score of the probabilities minus that of the probabilities after a recalibration that was
    fitted on the other folds. Its mean is near 0 for a calibrated model (below 0 by what
    fitting costs), and above 0 for one that the method can mend.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.
    score : {"nll", "brier"}
        As for `proper_scores`.
    method : str
        A recalibration fitted on labels, see `fit_recalibrator`: ``temperature`` for a model
        that is too sure or too unsure as a whole, ``letter`` for positions liked too much as
        well, ``isotonic`` for errors that change their sign.
    n_folds : int
        Number of folds.
    rng : numpy.random.Generator or int
        Source of the folds. Two models that are compared should share it.

    Returns
    -------
    ndarray, shape (n,)
        NaN where the gold choice has probability 0 and the score is "nll": no temperature can
        mend it.

    Raises
    ------
    ValueError
        As for `proper_scores`, or with fewer than 10 questions, or if an option is unknown.

    Examples
    --------
    Sure to 8 : 2 but right two times out of three costs 2/3 log(.67/.8) + 1/3 log(.33/.2) = .05;
    the temperatures of the folds, none of them exact, leave some of it.

    >>> losses = calibration_losses([[0.8, 0.2]] * 30, [0, 0, 1] * 10)
    >>> round(float(losses.mean()), 2)
    0.03
    """
    check_choice_of("score", score, SCORES)
    answers = Answers.of(probs, gold)
    if len(answers) < FEWEST_QUESTIONS:
        raise ValueError(f"probs must have at least {FEWEST_QUESTIONS} rows; got {len(answers)}.")
    with np.errstate(divide="ignore"):
        scores = np.log(np.maximum(answers.probs, 0.0))
    recalibrated = cross_fit(method, scores, answers.gold, n_folds=n_folds, rng=rng)[1]
    after = _SCORES[score](Answers(recalibrated, answers.gold))
    with np.errstate(invalid="ignore"):  # inf - inf is undefined, and said to be
        return np.asarray(_SCORES[score](answers) - after)


def calibration_loss(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    score: str = "nll",
    method: str = "temperature",
    level: float = 0.95,
    clusters: IntArray | None = None,
    **options: Any,
) -> MeanTest:
    """Return the mean of `calibration_losses`, whose further arguments these are, with interval.

    The interval is one of what the best temperature saves. Its low end is that of the mean, which
    saves less; its high end is the highest over all temperatures that the data do not rule out
    (`loss_ranges`), and not below 0. With a method other than temperature there is no high end.
    `clusters` are those of `mean_test`.

    Examples
    --------
    >>> found = calibration_loss([[0.8, 0.2]] * 6000, [0, 0, 1] * 2000, score="brier")
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)  # 2 (.8 - 2/3)² = .0356
    (0.035, 0.028, 0.042)
    """
    losses = calibration_losses(probs, gold, score=score, method=method, **options)
    found = mean_test(losses, level=level, clusters=clusters)
    if method != "temperature" or np.isnan(found.stderr):
        return replace(found, high=float("nan"))
    answers = Answers.of(probs, gold)
    by_temperature = losses_by_temperature(answers.probs, answers.gold, score, clusters)
    nothing = LossRange.of_one(np.zeros(len(answers)))
    n_drawn = len(answers) if clusters is None else int(clusters.max()) + 1
    low, high = by_temperature.interval(nothing, _quantile(n_drawn, level), clusters)
    # The log-loss is what a temperature is best for: no other saves more.
    low = found.low if score == "nll" else min(found.low, low)
    return replace(found, low=low, high=max(high, found.high, 0.0))


def calibration_loss_change(
    probs_base: npt.ArrayLike,
    probs_aligned: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    score: str = "nll",
    level: float = 0.95,
    losses: tuple[FloatArray, FloatArray] | None = None,
    **options: Any,
) -> PairedChange:
    """Return the change of `calibration_loss` on the same questions, temperatures cross-fitted.

    The p-value is that of the paired t-test of `calibration_losses`. The interval is one of the
    change of what either model's best temperature saves, over all temperatures that the data do
    not rule out. It is wider than the test needs and may hold 0 where p < .05.

    Parameters
    ----------
    probs_base, probs_aligned : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.
    score, **options
        As for `calibration_losses`; folds are shared.
    level : float
        Coverage of the interval.
    losses : tuple of ndarray, optional
        What `calibration_losses` gave of either model, if that is known.

    Examples
    --------
    >>> sure, right = [[0.9, 0.1]] * 300, [[0.667, 0.333]] * 300
    >>> found = calibration_loss_change(right, sure, [0, 0, 1] * 100)
    >>> round(found.change, 1), found.p_value < 0.01
    (0.2, True)
    """
    sides = [Answers.of(probs, gold) for probs in (probs_base, probs_aligned)]
    if losses is None:
        first, second = (calibration_losses(s.probs, gold, score=score, **options) for s in sides)
        losses = first, second
    base, aligned = losses
    test = mean_test(aligned - base, level=level)
    found = PairedChange(float(base.mean()), float(aligned.mean()), test.mean, *astuple(test)[1:])
    same = np.array_equal(sides[0].probs, sides[1].probs, equal_nan=True)
    if same or np.isnan(test.stderr):
        return found
    ranges = [losses_by_temperature(side.probs, side.gold, score) for side in sides]
    # A temperature is the best one for the log-loss: no other saves more of it.
    least = [LossRange.of_one(losses) for losses in (base, aligned)] if score == "nll" else ranges
    quantile = _quantile(base.size, level)
    low, high = least[1].interval(ranges[0], quantile)[0], ranges[1].interval(least[0], quantile)[1]
    return replace(found, low=min(low, test.low), high=max(high, test.high))


def _quantile(n: int, level: float) -> float:
    # As `stats.t.ppf`, whose checks take thirty times as long: a page asks thousands of times.
    return float(special.stdtrit(n - 1, (1 + level) / 2))


def mean_test(
    values: npt.ArrayLike, *, level: float = 0.95, clusters: IntArray | None = None
) -> MeanTest:
    """Return the mean of independent values with its t-interval and p-value.

    Given per-question differences of two models, this is the paired t-test.

    Parameters
    ----------
    values : array_like, shape (n,)
    level : float
        Coverage of the interval.
    clusters : ndarray of int, shape (n,), or None
        Number from 0 of each value's cluster: clusters are independent then, not their values,
        and the standard error is that of the mean as a ratio of the clusters' sums and sizes.

    Returns
    -------
    MeanTest
        NaN but for the mean with fewer than 2 values (or clusters) or a value that is no finite
        number; a
        p-value of 1 where all values are 0.

    Examples
    --------
    >>> found = mean_test([0.0, 2.0, 1.0, 1.0])
    >>> found.mean, round(found.stderr, 3), round(found.p_value, 3)
    (1.0, 0.408, 0.092)
    """
    check_fraction("level", level)
    y = as_floats("values", values, ndim=1)
    mean = float(y.mean()) if y.size else float("nan")
    # Without clusters every value is one, and this is the usual standard error.
    residuals = y - mean if clusters is None else np.bincount(clusters, weights=y - mean)
    if residuals.size < 2 or not np.isfinite(y).all():
        return MeanTest(mean, *[float("nan")] * 4)
    n = residuals.size
    stderr = float(np.sqrt((residuals**2).sum() * n / (n - 1)) / y.size)
    return t_test(mean, stderr, n, level=level)


def t_test(mean: float, stderr: float, n: int, *, level: float = 0.95) -> MeanTest:
    """Return Student's interval and p-value of a mean of n values with a known standard error."""
    if stderr == 0:
        return MeanTest(mean, 0.0, mean, mean, 1.0 if mean == 0 else 0.0)
    half = stderr * _quantile(n, level)
    p_value = float(2 * special.stdtr(n - 1, -abs(mean) / stderr))
    return MeanTest(mean, stderr, mean - half, mean + half, p_value)
