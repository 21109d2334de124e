"""Intervals of a share: where the truth may lie, and where a calibrated model would come out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft, special

from calib_harness.core.checks import FloatArray, IntArray, as_floats, check_fraction, same_length

_SHORT = 9  # coefficients up to which multiplying out is faster than transforming
_MOST_KEPT = 100_000  # probabilities whose distributions are kept for the next who asks


def clopper_pearson(
    hits: npt.ArrayLike, n: npt.ArrayLike, *, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Return the exact interval of a probability of which `hits` of n came true.

    The ends are quantiles of beta distributions (Clopper and Pearson 1934).

    Parameters
    ----------
    hits, n : array_like, shape (m,)
        How often it came true, and in how many trials; effective numbers need not be whole.
    level : float
        Coverage; the true one is at least that.

    Returns
    -------
    low, high : ndarray, shape (m,)
        NaN where n is 0.

    Raises
    ------
    ValueError
        If `hits` is not between 0 and n, or `level` not strictly between 0 and 1.

    Examples
    --------
    Never in 3 trials: the upper end p has (1 - p)³ = .025.

    >>> low, high = clopper_pearson([0], [3])
    >>> low.tolist(), round(float((1 - high[0]) ** 3), 6)
    ([0.0], 0.025)
    """
    tail = (1 - check_fraction("level", level)) / 2
    k, size = as_floats("hits", hits, ndim=1), as_floats("n", n, ndim=1)
    same_length(hits=k, n=size)
    if ((k < 0) | (k > size)).any():
        raise ValueError(f"hits must lie between 0 and n; got {k.tolist()} of {size.tolist()}.")
    with np.errstate(invalid="ignore"):
        some, missed = np.where(k == 0, 1.0, k), np.where(k == size, 1.0, size - k)
        low = special.betaincinv(some, size - some + 1, tail)
        high = special.betaincinv(size - missed + 1, missed, 1 - tail)
    low, high = np.where(k == 0, 0.0, low), np.where(k == size, 1.0, high)
    none = size == 0
    return np.where(none, np.nan, low), np.where(none, np.nan, high)


def consistency_interval(
    confidence: npt.ArrayLike, bins: npt.ArrayLike, *, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Return where the accuracy of each bin lies if the confidences come true.

    The consistency bars of Bröcker and Smith (2007) for bins that are given: a_i ~
    Bernoulli(c_i) independently, so that a bin's number of hits has a Poisson-binomial
    distribution, computed here exactly by multiplying the generating functions (1 - c_i) +
    c_i z. The interval runs between its quantiles at (1 - level)/2 and (1 + level)/2; as hits
    are whole numbers it holds at least `level`.

    Parameters
    ----------
    confidence : array_like, shape (n,)
        Probabilities.
    bins : array_like of int, shape (n,)
        The bin of each, numbered from 0 without gaps.
    level : float

    Returns
    -------
    low, high : ndarray, shape (bins,)
        Shares of a bin's entries.

    Raises
    ------
    ValueError
        If a confidence lies outside [0, 1], a bin is empty, or `level` is not strictly between
        0 and 1.

    Examples
    --------
    Two coins: none, one or both with probability 1/4, 1/2, 1/4.

    >>> low, high = consistency_interval([0.5, 0.5, 1.0], [0, 0, 1], level=0.4)
    >>> low.tolist(), high.tolist()
    ([0.5, 1.0], [0.5, 1.0])
    """
    tail = (1 - check_fraction("level", level)) / 2
    c = as_floats("confidence", confidence, ndim=1)
    at = np.asarray(bins, dtype=np.int64)
    same_length(confidence=c, bins=at)
    sizes = np.bincount(at)
    if (sizes == 0).any():
        raise ValueError(
            f"bins must be numbered without gaps; bin {int(np.argmin(sizes))} is empty."
        )
    ends = np.empty((2, sizes.size))
    for these, probability in _hits_distributions(np.clip(c, 0.0, 1.0), at):
        reached = np.cumsum(probability, axis=0)
        ends[:, these] = [(reached < quantile).sum(axis=0) for quantile in (tail, 1 - tail)]
    low, high = ends / sizes
    return low, high


def expected_gaps(
    chances: FloatArray, bins: IntArray, sums: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the mean distance of each bin's number of hits from a given sum, below and above it.

    Parameters
    ----------
    chances : ndarray, shape (n,)
        Probability of each hit, independent of the others.
    bins : ndarray of int, shape (n,)
        The bin of each, numbered from 0 without gaps.
    sums : ndarray, shape (B,)
        What the hits of each bin are compared with.

    Returns
    -------
    over, under : ndarray, shape (B,)
        E max(sum - hits, 0) and E max(hits - sum, 0).

    Examples
    --------
    Two coins and a sum of 1: one head too few, or one too many, a quarter of the time each.

    >>> over, under = expected_gaps(np.array([0.5, 0.5]), np.array([0, 0]), np.array([1.0]))
    >>> over.tolist(), under.tolist()
    ([0.25], [0.25])
    """
    over, under = np.zeros(sums.size), np.zeros(sums.size)
    if not sums.size:
        return over, under
    for these, probability in _hits_distributions(chances, bins):
        gap = sums[these] - np.arange(len(probability))[:, None]
        over[these] = (probability * np.maximum(gap, 0.0)).sum(axis=0)
        under[these] = (probability * np.maximum(-gap, 0.0)).sum(axis=0)
    return over, under


def _hits_distributions(
    confidence: FloatArray, bins: IntArray
) -> Iterable[tuple[IntArray, FloatArray]]:
    """Return bins of like size with the probability of each number of hits, (numbers, bins).

    The null of an error, its interval and its p-value all ask for those of the same bins.
    """
    if confidence.size > _MOST_KEPT:
        return _multiplied_out(confidence, bins)
    return _kept_distributions(confidence.tobytes(), bins.astype(np.int64).tobytes())


@lru_cache(maxsize=4)
def _kept_distributions(confidence: bytes, bins: bytes) -> list[tuple[IntArray, FloatArray]]:
    return list(_multiplied_out(np.frombuffer(confidence), np.frombuffer(bins, dtype=np.int64)))


def _multiplied_out(
    confidence: FloatArray, bins: IntArray
) -> Iterator[tuple[IntArray, FloatArray]]:
    """Yield what `_hits_distributions` returns.

    All bins at once: the factors of a bin lie side by side and are multiplied in pairs until
    one polynomial is left, an odd one by 1. A bin that is done is taken out, so that what comes
    out for it does not depend on the others.
    """
    order = np.argsort(bins, kind="stable")
    factors, counts = np.stack([1 - confidence, confidence])[:, order], np.bincount(bins)
    left = np.arange(counts.size)
    while True:
        done = counts == 1
        if done.any():
            columns = np.repeat(done, counts)
            yield left[done], factors[:, columns]
            factors, counts, left = factors[:, ~columns], counts[~done], left[~done]
        if not counts.size:
            return
        even = counts + counts % 2
        shift = np.cumsum(even - counts) - (even - counts)
        padded = np.zeros((len(factors), int(even.sum())))
        padded[0] = 1.0
        padded[:, np.arange(factors.shape[1]) + np.repeat(shift, counts)] = factors
        factors, counts = _products(padded[:, 0::2], padded[:, 1::2]), even // 2


def _products(left: FloatArray, right: FloatArray) -> FloatArray:
    """Multiply polynomials, columns of coefficients."""
    size = len(left)
    length = 2 * size - 1
    if size <= _SHORT:
        products = np.zeros((length, left.shape[1]))
        for power, coefficient in enumerate(left):
            products[power : power + size] += coefficient * right
        return products
    padded = fft.next_fast_len(length, real=True)
    spectra = fft.rfft(left, padded, axis=0) * fft.rfft(right, padded, axis=0)
    # Rounding goes below 0.
    return np.maximum(fft.irfft(spectra, padded, axis=0)[:length], 0.0)
