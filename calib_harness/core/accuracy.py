"""Accuracy, proper scores and rankings: what calibration errors are read beside."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calib_harness.core.bin_errors import Statistic, point_value, ratio
from calib_harness.core.checks import FloatArray, IntArray, as_floats, check_rows
from calib_harness.core.confidence import top_label
from calib_harness.core.ranking import aurc_statistic, auroc_statistic


def mean_statistic(values: FloatArray) -> Statistic:
    """Return the function from (R, n) counts to (R,) means of per-question values.

    A value of +inf makes the mean of a resample +inf where it is drawn, and only there.
    """
    infinite = np.isinf(values)
    finite = np.where(infinite, 0.0, values)

    def evaluate(counts: FloatArray) -> FloatArray:
        total = counts.sum(axis=1)
        mean = ratio(counts @ finite, total, otherwise=np.nan)
        if infinite.any():
            mean[counts[:, infinite].any(axis=1)] = np.inf
        return mean

    return evaluate


def hits(probs: FloatArray, gold: IntArray) -> FloatArray:
    """Return 1 where the prediction is gold, else 0, rows that cannot be used included."""
    present = ~np.isnan(probs).all(axis=1)
    correct = np.zeros(len(probs))
    correct[present] = top_label(probs[present])[1] == gold[present] if present.any() else 0
    return correct


def acc_of(probs: FloatArray, gold: IntArray) -> Statistic:
    """Return the resampled accuracy."""
    return mean_statistic(hits(probs, gold))


def brier_of(probs: FloatArray, gold: IntArray) -> Statistic:
    """Return the resampled Brier score."""
    target = np.arange(probs.shape[1]) == gold[:, None]
    return mean_statistic(np.nansum((probs - target) ** 2, axis=1))


def nll_of(probs: FloatArray, gold: IntArray) -> Statistic:
    """Return the resampled negative log-likelihood."""
    at_gold = np.maximum(probs[np.arange(len(probs)), gold], 0.0)
    with np.errstate(divide="ignore"):
        return mean_statistic(-np.log(at_gold))


def auroc_of(probs: FloatArray, gold: IntArray) -> Statistic:
    """Return the resampled AUROC of confidence."""
    return auroc_statistic(top_label(probs)[0], hits(probs, gold))


def aurc_of(probs: FloatArray, gold: IntArray) -> Statistic:
    """Return the resampled AURC of confidence."""
    return aurc_statistic(top_label(probs)[0], hits(probs, gold))


def overconfidence_of(probs: FloatArray, gold: IntArray) -> Statistic:
    """Return the resampled overconfidence."""
    return mean_statistic(top_label(probs)[0] - hits(probs, gold))


def accuracy(probs: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Return the share of questions whose prediction is gold.

    Rows that cannot be used (NaN throughout, or gold not one of the choices) count as wrong.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a row with numbers in it is no distribution.

    Examples
    --------
    >>> accuracy([[0.6, 0.4], [0.8, 0.2]], [0, 1])
    0.5
    """
    p, g = check_rows(probs, gold, allow_unusable=True)
    return point_value(acc_of(p, g), len(p))


def brier_score(probs: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Return the Brier score, (1/N) Σ_i Σ_k (p_ik - [gold_i = k])², from 0 to 2 (Brier 1950).

    Arguments as for `nll`.

    Examples
    --------
    >>> round(brier_score([[0.6, 0.4], [0.8, 0.2]], [0, 1]), 6)
    0.8
    """
    p, g = check_rows(probs, gold)
    return point_value(brier_of(p, g), len(p))


def nll(probs: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Return the negative log-likelihood, -(1/N) Σ_i log p_i,gold, in nats.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.

    Returns
    -------
    float
        +inf if a gold choice has probability 0; a softmax gives that, too, to a score more than
        745 nats below the best (double precision).

    Raises
    ------
    ValueError
        If a row is no distribution or has no gold choice.

    Examples
    --------
    >>> round(nll([[0.5, 0.5], [0.75, 0.25]], [0, 1]), 4)  # (log 2 + log 4) / 2
    1.0397
    """
    p, g = check_rows(probs, gold)
    return point_value(nll_of(p, g), len(p))


def auroc(probs: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Return the area under the ROC curve of confidence against correctness.

    The probability that a right answer has the larger confidence of a right and a wrong one,
    equal confidences counting one half (Mann-Whitney).

    Arguments and errors as for `nll`; NaN if all answers are right or all are wrong.

    Examples
    --------
    >>> auroc([[0.6, 0.4], [0.8, 0.2], [0.8, 0.2]], [1, 0, 1])  # .8 beats .6, ties .8
    0.75
    """
    p, g = check_rows(probs, gold)
    return point_value(auroc_of(p, g), len(p))


def aurc(probs: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Return the area under the risk-coverage curve (Geifman et al. 2019).

    The mean over k = 1..N of the error rate among the k most confident answers. Among equal
    confidences it is the mean over all orders, so that the order of questions is irrelevant.

    Arguments and errors as for `nll`.

    Examples
    --------
    The most confident answer is wrong, the other right: (1/1 + 1/2) / 2.

    >>> aurc([[0.6, 0.4], [0.8, 0.2]], [0, 1])
    0.75
    """
    p, g = check_rows(probs, gold)
    return point_value(aurc_of(p, g), len(p))


def overconfidence(probs: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Return mean confidence minus accuracy, from -1 to 1.

    Arguments and errors as for `nll`.

    Examples
    --------
    >>> round(overconfidence([[0.6, 0.4], [0.8, 0.2]], [0, 1]), 6)
    0.2
    """
    p, g = check_rows(probs, gold)
    return point_value(overconfidence_of(p, g), len(p))


def choice_mass(scores: npt.ArrayLike) -> float:
    """Return the mean over questions of Σ_k exp(s_ik), the probability of all choices together.

    For the method ``choice`` it says how much the model puts on answering in letters at all.

    Parameters
    ----------
    scores : array_like, shape (n, K)
        Log-probabilities of the choices before normalising, NaN where one does not exist.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are no rows or one is NaN throughout.

    Examples
    --------
    >>> import math
    >>> round(choice_mass([[math.log(0.25), math.log(0.5)]]), 6)
    0.75
    """
    s = as_floats("scores", scores, ndim=2)
    unusable = np.isnan(s).all(axis=1)
    if s.size == 0 or unusable.any():
        raise ValueError(
            f"scores must have at least one number in each row; got shape {s.shape} with "
            f"{int(unusable.sum())} row(s) of NaN only."
        )
    return float(np.nansum(np.exp(s), axis=1).mean())
