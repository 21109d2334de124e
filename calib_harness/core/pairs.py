"""Calibration error of (confidence, outcome) pairs with its interval and its null.

`bootstrap` and `calibrated_null` start from the probabilities of all choices; these two do the
same for what has been reduced to pairs: top-label pairs, or the entries of one class.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calib_harness.core.bin_errors import BinnedError, BinSums, combine, top_label_groups
from calib_harness.core.binning import DEFAULT_N_BINS
from calib_harness.core.checks import FloatArray, IntArray, check_count, check_pairs
from calib_harness.core.inference import DEFAULT_N_RESAMPLES, Estimate, Null
from calib_harness.core.options import check_options
from calib_harness.core.resampling import block_sizes, interval_over, resampled_values, spread_of

_BOUNDS = (0.0, 1.0)


def bootstrap_pairs(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
    n_resamples: int = DEFAULT_N_RESAMPLES,
    rng: np.random.Generator | int,
    level: float = 0.95,
) -> Estimate:
    """Return `calibration_error` of pairs with standard error and interval, as `bootstrap` does.

    Parameters
    ----------
    confidence : array_like, shape (n,)
        Probability of the predicted choice.
    correct : array_like, shape (n,)
        1 where the prediction is gold, else 0.
    n_bins, binning, n_resamples, rng, level
        As for `bootstrap`; with the same seed both share their resamples.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        If an option is unknown or the pairs are not probabilities and 0/1.

    Examples
    --------
    >>> estimate = bootstrap_pairs([0.4, 0.7, 0.9], [1, 0, 1], n_bins=2, rng=0)
    >>> round(estimate.value, 6)  # (|1 - .4| + 2 |.5 - .8|) / 3
    0.4
    """
    n_resamples = check_count("n_resamples", n_resamples, least=2)
    conf, hit = check_pairs(confidence, correct)
    error, outcome = _error(conf, n_bins, binning), hit.astype(np.int64)
    value, deviations = error.value_and_deviations(outcome)
    (draws,) = resampled_values({"": deviations}, conf.size, n_resamples, rng).values()
    return Estimate(value, *interval_over(value, list(draws.T), level, _BOUNDS))


def null_of_pairs(
    confidence: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
    n_resamples: int = DEFAULT_N_RESAMPLES,
    rng: np.random.Generator | int,
    level: float = 0.95,
) -> Null:
    """Return the calibration error that would be seen if these confidences came true.

    Each simulation draws a_i ~ Bernoulli(c_i), independently.

    Parameters
    ----------
    confidence : array_like, shape (n,)
        Probabilities.
    n_bins, binning, n_resamples, rng, level
        As for `calibrated_null`.

    Returns
    -------
    Null

    Raises
    ------
    ValueError
        If an option is unknown or a confidence lies outside [0, 1].

    Examples
    --------
    >>> null_of_pairs([1.0, 0.0], rng=0).mean
    0.0
    """
    n_resamples = check_count("n_resamples", n_resamples, least=2)
    conf, _ = check_pairs(confidence, np.zeros(np.shape(confidence)))
    simulate = _error(conf, n_bins, binning).simulated()
    generator = np.random.default_rng(rng)
    draws = np.concatenate(
        [
            simulate((generator.random((size, conf.size)) < conf).astype(np.int64))
            for size in block_sizes(conf.size, n_resamples)
        ]
    )
    return Null(float(draws.mean()), *spread_of(draws, level, _BOUNDS))


def error_of_bins(confidence: FloatArray, hit: FloatArray, at: IntArray) -> float:
    """Return the calibration error of pairs whose bins, numbered from 0, are known."""
    size, gap, hits = (
        np.bincount(at, weights=weights)[None, :].astype(np.float64)
        for weights in (np.ones_like(hit), confidence - hit, hit)
    )
    sums = BinSums(size.sum(axis=1), gap, lambda: size, lambda: hits)
    return float(combine(sums, "l1")[0])


def _error(confidence: FloatArray, n_bins: int, binning: str) -> BinnedError:
    check_options(n_bins=n_bins, binning=binning)
    groups = top_label_groups(confidence, lambda gold: gold == 1)
    return BinnedError(groups, n_bins, binning, "l1")
