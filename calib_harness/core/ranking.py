"""AUROC, AURC and its curve: how well confidence ranks right answers above wrong ones."""

from __future__ import annotations

import numpy as np

from calib_harness.core.bin_errors import Statistic, ratio
from calib_harness.core.checks import FloatArray, IntArray


def auroc_statistic(confidence: FloatArray, correct: FloatArray) -> Statistic:
    """Return the function from (R, n) counts to (R,) AUROCs; NaN where it is undefined."""
    order, starts = _sorted_runs(confidence)
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


def aurc_statistic(confidence: FloatArray, correct: FloatArray) -> Statistic:
    """Return the function from (R, n) counts to (R,) AURCs.

    Within a run of m equal confidences with e errors, after K0 questions with E0 errors, the
    risk at the j-th question is taken over all orders of the run: (E0 + j e / m) / (K0 + j).
    Summed over j that is (E0 - K0 e / m) (H(K0 + m) - H(K0)) + e, H the harmonic numbers.
    """
    order, last = _sorted_runs(-confidence)
    miss = 1.0 - correct[order]

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
