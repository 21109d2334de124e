"""Calibration as a loss of each question: what recalibrating would have saved.

A proper score falls when probabilities come closer to the truth. What it falls by under the best
recalibration is the part of it that is due to calibration, question by question; unlike a binned
error it is a mean, so that two models are compared by a paired t-test over questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from calib_harness.core.accuracy import brier_losses, log_losses
from calib_harness.core.answers import Answers
from calib_harness.core.checks import (
    FloatArray,
    as_floats,
    check_choice_of,
    check_fraction,
    check_pairs,
    same_length,
)
from calib_harness.core.recalibration import folds
from calib_harness.core.recalibrators import cross_fit, isotonic_fit
from calib_harness.core.resampling import Estimate, PairedChange

SCORES = {"brier": brier_losses, "nll": log_losses}
DEFAULT_N_FOLDS = 5


def calibration_losses(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    score: str = "brier",
    method: str = "temperature",
    n_folds: int = DEFAULT_N_FOLDS,
    rng: np.random.Generator | int = 0,
) -> FloatArray:
    """Return each question's score minus its score after cross-fitted recalibration.

    The mean is what a recalibration that was fitted on other questions saves; for a calibrated
    model it is about 0, or a little below for what fitting costs.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.
    score : {"brier", "nll"}
        The proper score, Σ_k (p_ik - [gold = k])² or -log p_i,gold (nats). The latter is
        infinite before and after where gold has probability 0: NaN then.
    method : str
        A recalibration fitted on labels, see `fit_recalibrator`: ``temperature`` for what is
        over- or underconfident as a whole, ``letter`` for positions liked too much as well,
        ``isotonic`` for errors that change their sign.
    n_folds : int
        Number of folds, from 2 to n.
    rng : numpy.random.Generator or int
        Source of the folds. Two models that are compared should share it.

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError
        If an option is unknown, a row cannot be used, or there are fewer questions than folds.

    Examples
    --------
    Sure to .8, right two times out of three.

    >>> losses = calibration_losses([[0.8, 0.2]] * 6000, [0, 0, 1] * 2000)
    >>> losses.shape, round(float(losses.mean()), 3)  # (.8 - 2/3)² + (.2 - 1/3)² = .0356
    ((6000,), 0.035)
    """
    check_choice_of("score", score, SCORES)
    answers = Answers.of(probs, gold)
    with np.errstate(divide="ignore"):
        scores = np.log(np.maximum(answers.probs, 0.0))
    _, recalibrated = cross_fit(method, scores, answers.gold, n_folds=n_folds, rng=rng)
    after = SCORES[score](Answers(recalibrated, answers.gold))
    with np.errstate(invalid="ignore"):  # inf - inf
        return np.asarray(SCORES[score](answers) - after)


def mean_of_losses(losses: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """Return the mean of values of questions with standard error and Student's t interval.

    Parameters
    ----------
    losses : array_like, shape (n,)
        One value for each question, as from `calibration_losses`.
    level : float
        Coverage of the interval.

    Returns
    -------
    Estimate
        Error and interval are NaN for fewer than two questions or a NaN among them.

    Examples
    --------
    >>> found = mean_of_losses([0.1, 0.3])
    >>> round(found.value, 6), round(found.stderr, 6)
    (0.2, 0.1)
    """
    check_fraction("level", level)
    values = as_floats("losses", losses, ndim=1)
    value = float(values.mean()) if values.size else np.nan
    if values.size < 2 or not np.isfinite(value):
        return Estimate(value, np.nan, np.nan, np.nan)
    stderr = float(values.std(ddof=1) / np.sqrt(values.size))
    reach = float(stats.t.ppf((1 + level) / 2, values.size - 1)) * stderr
    return Estimate(value, stderr, value - reach, value + reach)


def paired_change(
    losses_base: npt.ArrayLike, losses_aligned: npt.ArrayLike, *, level: float = 0.95
) -> PairedChange:
    """Return the change of a mean over the same questions, by a paired t-test.

    With `calibration_losses` of two models this is the primary test of "worse calibrated":
    losses have no bias that depends on how sharp a model is.

    Parameters
    ----------
    losses_base, losses_aligned : array_like, shape (n,)
        One value for each question and model, in the same order of questions.
    level : float
        Coverage of the interval.

    Returns
    -------
    PairedChange
        The p-value is 1 where nothing changes in any question.

    Raises
    ------
    ValueError
        If the numbers of questions differ.

    Examples
    --------
    >>> found = paired_change([0.1, 0.2, 0.3], [0.2, 0.4, 0.3])
    >>> round(found.change, 3), round(found.p_value, 3)  # t = √3 with 2 degrees of freedom
    (0.1, 0.225)
    """
    base, aligned = (
        as_floats(name, values, ndim=1)
        for name, values in (("losses_base", losses_base), ("losses_aligned", losses_aligned))
    )
    same_length(losses_base=base, losses_aligned=aligned)
    change = mean_of_losses(aligned - base, level=level)
    if change.stderr > 0:
        p_value = float(2 * stats.t.sf(abs(change.value / change.stderr), base.size - 1))
    else:
        p_value = 1.0 if change.value == 0 else np.nan
    values = (float(base.mean()), float(aligned.mean())) if base.size else (np.nan, np.nan)
    return PairedChange(*values, change.value, change.stderr, change.low, change.high, p_value)


@dataclass(frozen=True)
class Decomposition:
    """A binary score taken apart: score = miscalibration - discrimination + uncertainty.

    Attributes
    ----------
    score : Estimate
        Mean (confidence - correct)², the Brier score of the predicted choice.
    miscalibration : Estimate
        What a monotone recalibration of confidence saves.
    discrimination : Estimate
        What recalibrated confidence saves over one constant confidence.
    uncertainty : Estimate
        The score of that constant: accuracy × (1 - accuracy).
    """

    score: Estimate
    miscalibration: Estimate
    discrimination: Estimate
    uncertainty: Estimate


def corp(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    *,
    n_folds: int | None = None,
    rng: np.random.Generator | int = 0,
    level: float = 0.95,
) -> Decomposition:
    """Return the CORP decomposition of the Brier score (Dimitriadis, Gneiting, Jordan 2021).

    Parameters
    ----------
    confidence : array_like, shape (n,)
        Probability of the predicted choice.
    correct : array_like, shape (n,)
        1 where the prediction is gold, else 0.
    n_folds : int, optional
        None gives the decomposition as published: the isotonic fit is judged on the questions
        it was fitted on, so that miscalibration is never below 0, is biased upwards, and has no
        interval. With folds, fit and constant come from the other folds: each part is a mean
        over questions, with Student's t interval, and a calibrated model's miscalibration is
        about 0. Both add up exactly.
    rng : numpy.random.Generator or int
        Source of the folds.
    level : float
        Coverage of the intervals.

    Returns
    -------
    Decomposition

    Raises
    ------
    ValueError
        If the pairs are not probabilities and 0/1, or there are fewer questions than folds.

    Examples
    --------
    >>> found = corp([0.6, 0.6, 0.9, 0.9], [0, 1, 1, 1])
    >>> parts = (found.miscalibration, found.discrimination, found.uncertainty)
    >>> [round(part.value, 4) for part in parts], round(found.score.value, 4)
    ([0.01, 0.0625, 0.1875], 0.135)
    """
    conf, hit = check_pairs(confidence, correct)
    fitted, constant = np.empty_like(conf), np.empty_like(conf)
    if n_folds is None:
        fitted[:] = np.interp(conf, *isotonic_fit(conf, hit))
        constant[:] = hit.mean()
    else:
        if conf.size < n_folds:
            raise ValueError(f"confidence must have at least n_folds={n_folds}; got {conf.size}.")
        fold = folds(conf.size, n_folds, rng)
        for k in range(n_folds):
            out = fold == k
            fitted[out] = np.interp(conf[out], *isotonic_fit(conf[~out], hit[~out]))
            constant[out] = hit[~out].mean()
    raw, after, at_constant = ((each - hit) ** 2 for each in (conf, fitted, constant))
    parts = (raw, raw - after, at_constant - after, at_constant)
    found = [mean_of_losses(part, level=level) for part in parts]
    if n_folds is None:
        found = [Estimate(each.value, np.nan, np.nan, np.nan) for each in found]
    return Decomposition(*found)
