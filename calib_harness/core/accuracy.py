"""Accuracy, proper scores and rankings: what calibration errors are read beside."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from calib_harness.core.answers import Answers
from calib_harness.core.bin_errors import Statistic, point_value
from calib_harness.core.bin_sums import ratio
from calib_harness.core.checks import FloatArray, IntArray, as_floats
from calib_harness.core.registry import metric


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


def acc_of(answers: Answers) -> Statistic:
    """Return the resampled accuracy."""
    return mean_statistic(answers.correct)


def brier_of(answers: Answers) -> Statistic:
    """Return the resampled Brier score."""
    return mean_statistic(brier_losses(answers))


def nll_of(answers: Answers) -> Statistic:
    """Return the resampled negative log-likelihood."""
    return mean_statistic(log_losses(answers))


def overconfidence_of(answers: Answers) -> Statistic:
    """Return the resampled overconfidence."""
    return mean_statistic(answers.confidence - answers.correct)


def brier_losses(answers: Answers) -> FloatArray:
    """Return the Brier score of each question, shape (n,)."""
    target = np.arange(answers.probs.shape[1]) == answers.gold[:, None]
    return np.asarray(np.nansum((answers.probs - target) ** 2, axis=1))


def log_losses(answers: Answers) -> FloatArray:
    """Return -log p of gold of each question, shape (n,), in nats."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(answers.at_gold))


def auroc_of(answers: Answers) -> Statistic:
    """Return the function from (R, n) counts to (R,) AUROCs; NaN where it is undefined."""
    order, starts = _sorted_runs(answers.confidence)
    correct = answers.correct
    hits = correct[order]

    def evaluate(counts: FloatArray) -> FloatArray:
        weights = np.take(counts, order, axis=1)
        right = _run_sums(weights * hits, starts)
        wrong = _run_sums(np.multiply(weights, 1.0 - hits, out=weights), starts)
        below = np.cumsum(wrong, axis=1)
        if starts is not None:  # of equal confidences, half count as ranked rightly
            below -= 0.5 * wrong
        won = np.einsum("ij,ij->i", right, below)
        pairs = (counts @ correct) * (counts @ (1.0 - correct))
        return ratio(won, pairs, otherwise=np.nan)

    return evaluate


def aurc_of(answers: Answers) -> Statistic:
    """Return the function from (R, n) counts to (R,) AURCs.

    Within a run of m equal confidences with e errors, after K0 questions with E0 errors, the
    risk at the j-th question is taken over all orders of the run: (E0 + j e / m) / (K0 + j).
    Summed over j that is (E0 - K0 e / m) (H(K0 + m) - H(K0)) + e, H the harmonic numbers.
    """
    order, last = _sorted_runs(-answers.confidence)
    miss = 1.0 - answers.correct[order]

    def evaluate(counts: FloatArray) -> FloatArray:
        weights = counts[:, order]
        size, errors = _run_sums(weights, last), _run_sums(weights * miss, last)
        covered, missed = np.cumsum(size, axis=1), np.cumsum(errors, axis=1)
        before, missed_before = covered - size, missed - errors
        total = covered[:, -1]
        harmonic = np.append(0.0, np.cumsum(1.0 / np.arange(1, int(total.max()) + 1)))
        steps = harmonic[covered.astype(np.intp)] - harmonic[before.astype(np.intp)]
        rate = ratio(errors, size)
        area = ((missed_before - before * rate) * steps + errors).sum(axis=1)
        return ratio(area, total, otherwise=np.nan)

    return evaluate


@metric("acc", "higher", formula="mean a_i", source="", statistic=acc_of, needs_usable=False)
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
    answers = Answers.of(probs, gold, allow_unusable=True)
    return point_value(acc_of(answers), len(answers))


@metric(
    "brier_score",
    "lower",
    formula="mean Σ_k (p_ik − [gold = k])²",
    source="Brier 1950",
    statistic=brier_of,
    bounds=(0.0, 2.0),
)
def brier_score(probs: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Return the Brier score, (1/N) Σ_i Σ_k (p_ik - [gold_i = k])², from 0 to 2 (Brier 1950).

    Arguments as for `nll`.

    Examples
    --------
    >>> round(brier_score([[0.6, 0.4], [0.8, 0.2]], [0, 1]), 6)
    0.8
    """
    answers = Answers.of(probs, gold)
    return point_value(brier_of(answers), len(answers))


@metric(
    "nll",
    "lower",
    formula="−mean log p_i,gold",
    source="",
    statistic=nll_of,
    bounds=(0.0, math.inf),
)
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
    answers = Answers.of(probs, gold)
    return point_value(nll_of(answers), len(answers))


@metric(
    "auroc",
    "higher",
    formula="P(c of a right answer > c of a wrong one) + ½ P(equal)",
    source="Mann and Whitney 1947",
    statistic=auroc_of,
)
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
    answers = Answers.of(probs, gold)
    return point_value(auroc_of(answers), len(answers))


@metric(
    "aurc",
    "lower",
    formula="mean_k error rate among the k most confident",
    source="Geifman et al. 2019",
    statistic=aurc_of,
)
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
    answers = Answers.of(probs, gold)
    return point_value(aurc_of(answers), len(answers))


@metric(
    "overconfidence",
    "zero",
    formula="mean c_i − mean a_i",
    source="",
    statistic=overconfidence_of,
    bounds=(-1.0, 1.0),
)
def overconfidence(probs: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Return mean confidence minus accuracy, from -1 to 1.

    Arguments and errors as for `nll`.

    Examples
    --------
    >>> round(overconfidence([[0.6, 0.4], [0.8, 0.2]], [0, 1]), 6)
    0.2
    """
    answers = Answers.of(probs, gold)
    return point_value(overconfidence_of(answers), len(answers))


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


def risks(confidence: FloatArray, correct: FloatArray) -> FloatArray:
    """Return the error rate among the k most confident answers, for k = 1..n.

    Within a run of equal confidences it is the mean over all orders of the run, as in the AURC,
    which is the mean of these n numbers.

    Parameters
    ----------
    confidence, correct : ndarray, shape (n,)
        Confidences, and 1 where the answer is right, else 0.

    Returns
    -------
    ndarray, shape (n,)

    Examples
    --------
    The most confident answer is wrong; of the two next, equally confident, one is.

    >>> risks(np.array([0.9, 0.6, 0.6]), np.array([0.0, 1.0, 0.0])).round(3).tolist()
    [1.0, 0.75, 0.667]
    """
    _, run, size = np.unique(-confidence, return_inverse=True, return_counts=True)
    errors = np.bincount(run, weights=1.0 - correct, minlength=size.size)
    # Every answer of a run adds the run's share of errors.
    expected = np.cumsum(np.repeat(errors / size, size))
    return np.asarray(expected / np.arange(1, expected.size + 1))


def _sorted_runs(values: FloatArray) -> tuple[IntArray, IntArray | None]:
    """Return the sorting order and where runs of equal values start (None: all differ)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return order, None if starts.size == values.size else starts


def _run_sums(weights: FloatArray, starts: IntArray | None) -> FloatArray:
    return weights if starts is None else np.add.reduceat(weights, starts, axis=1)
