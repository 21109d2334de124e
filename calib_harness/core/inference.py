"""Standard errors, intervals and tests: the bootstrap over questions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from calib_harness.core.bin_errors import Statistic
from calib_harness.core.binning import DEFAULT_N_BINS
from calib_harness.core.calibration import pairs_error
from calib_harness.core.checks import IntArray, check_fraction, check_pairs
from calib_harness.core.metrics import answers_for, metrics_named
from calib_harness.core.options import DEFAULT_N_RESAMPLES, check_options
from calib_harness.core.registry import Metric
from calib_harness.core.resampling import (
    Draws,
    Estimate,
    PairedChange,
    changes_between,
    check_request,
    estimates_of,
    interval_over,
    resampled_values,
)


def bootstrap(
    names: Collection[str],
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_resamples: int = DEFAULT_N_RESAMPLES,
    rng: np.random.Generator | int,
    level: float = 0.95,
    **options: Any,
) -> dict[str, Estimate]:
    """Return metrics with standard errors and intervals from resampled questions.

    The nonparametric bootstrap (Efron 1979): questions are drawn with replacement; all metrics
    share the resamples. The standard error is the standard deviation of the resampled values.
    The interval is the basic one, from 2 v - q(.975) to 2 v - q(.025) for a value v and
    quantiles q of its resamples (Davison and Hinkley 1997, section 5.2), cut at the metric's
    bounds. Plug-in calibration errors are biased upwards, resamples of them twice as much: the
    basic interval takes that off again, where the percentile interval from q(.025) to q(.975)
    would double it.

    How large the bias is depends on gaps between confidence and accuracy that the data leave
    open: it is small where a bin's gap is real, and largest where it is only noise. Intervals
    of binned errors therefore reach from what the error would be if all gaps that may be noise
    were noise, to what it would be if all of them were real (see `gap_bounds`; the first holds by
    the triangle inequality, the second because |x| lies above its tangents). They hold the value,
    which for a well calibrated model is nearly all bias: an ECE of .04 with the interval
    (0, .08) is one that a calibrated model might show. Simulated (`benchmarks/RESULTS.md`), they
    hold the true error in 98 % of data sets, and are wide for it.

    Resamples in which a metric is undefined (AUROC without a wrong answer) are left out; there
    is neither standard error nor interval for an infinite value.

    Parameters
    ----------
    names : collection of str
        Metrics, keys of `METRICS`.
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.
    n_resamples : int
        Number of resamples.
    rng : numpy.random.Generator or int
        Source of the draws. Calls with the same seed share their resamples, and the table of
        them is kept between calls.
    level : float
        Nominal coverage of the interval.
    **options
        Options of metrics (`n_bins`, ...), each passed to the metrics that take it.

    Returns
    -------
    dict of str to Estimate
        In the order of `names`.

    Raises
    ------
    ValueError
        If a name or an option is unknown, or a row cannot be used by one of the metrics.

    Examples
    --------
    >>> probs = [[0.6, 0.4], [0.8, 0.2], [0.3, 0.7], [0.9, 0.1]]
    >>> estimate = bootstrap(["acc"], probs, [0, 1, 1, 0], rng=0)["acc"]
    >>> estimate.value, round(estimate.stderr, 2)  # sqrt(.75 * .25 / 4) = .217
    (0.75, 0.22)
    """
    draws = bootstrap_draws(names, probs, gold, n_resamples=n_resamples, rng=rng, **options)
    check_fraction("level", level)
    return estimates_of(draws, level)


def bootstrap_draws(
    names: Collection[str],
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_resamples: int = DEFAULT_N_RESAMPLES,
    rng: np.random.Generator | int,
    clusters: IntArray | None = None,
    **options: Any,
) -> dict[str, Draws]:
    """Return what `bootstrap` reads its estimates off; parameters as there.

    Draws of two models on the same questions, with the same seed and number, also give their
    changes, see `changes_between`. With `clusters`, the number from 0 of each question's cluster,
    clusters are drawn and not questions.
    """
    n_resamples = check_request(n_resamples, rng)
    metrics = metrics_named(names)
    prepared = _prepare(metrics, probs, gold, options)
    statistics = {name: deviations for name, (_, deviations) in prepared.items()}
    found = resampled_values(statistics, len(np.asarray(probs)), n_resamples, rng, clusters)
    return {
        m.name: Draws(prepared[m.name][0], found[m.name], m.bounds, m.has_interval) for m in metrics
    }


def paired_bootstrap(
    names: Collection[str],
    probs_base: npt.ArrayLike,
    probs_aligned: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_resamples: int = DEFAULT_N_RESAMPLES,
    rng: np.random.Generator | int,
    level: float = 0.95,
    **options: Any,
) -> dict[str, PairedChange]:
    """Return the changes of metrics from a base to an aligned model on the same questions.

    Both models are resampled together. In each world (see `bootstrap`) the interval of the
    change d is the basic one, of the reflected resamples r = 2 d - d*. Alignment changes how
    widely confidences spread and with it the bias of a plug-in calibration error, by how much
    the data leave open: the interval of a binned error holds those of all pairs of a
    world of the base and a world of the aligned model, and d. The two-sided p-value fits the
    interval: the largest over the pairs of min(1, 2 (1 + #{r of the other sign or 0}) / (1 + R))
    over the R resamples in which the change is defined; one is added because the data are a
    possible resample themselves.

    This is on the careful side: p < .05 hardly ever comes where both models are calibrated, and
    changes of ECE of .06 are mostly missed in a few hundred questions (`benchmarks/RESULTS.md`).
    The paired test of `calibration_losses` is the primary one.

    Parameters
    ----------
    names : collection of str
        Metrics, keys of `METRICS`.
    probs_base, probs_aligned : array_like, shape (n, K)
        Probabilities of either model for the same questions, NaN where a choice does not
        exist. The numbers of choices may differ.
    gold : array_like, shape (n,)
        Index of the right choice.
    n_resamples, rng, level, **options
        As for `bootstrap`.

    Returns
    -------
    dict of str to PairedChange
        In the order of `names`.

    Raises
    ------
    ValueError
        As for `bootstrap`, or if the models have different numbers of questions.

    Examples
    --------
    >>> probs = [[0.6, 0.4], [0.8, 0.2], [0.3, 0.7], [0.9, 0.1]]
    >>> same = paired_bootstrap(["ece"], probs, probs, [0, 1, 1, 0], rng=0)["ece"]
    >>> same.change, same.p_value
    (0.0, 1.0)
    """
    metrics = metrics_named(names)
    return paired_changes(
        metrics,
        probs_base,
        probs_aligned,
        gold,
        n_resamples=n_resamples,
        rng=rng,
        level=level,
        **options,
    )


def paired_changes(
    metrics: Collection[Metric],
    probs_base: npt.ArrayLike,
    probs_aligned: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_resamples: int = DEFAULT_N_RESAMPLES,
    rng: np.random.Generator | int,
    level: float = 0.95,
    **options: Any,
) -> dict[str, PairedChange]:
    """Do what `paired_bootstrap` does, for metrics that need not be in `METRICS`."""
    n_resamples = check_request(n_resamples, rng)
    n, n_aligned = len(np.asarray(probs_base)), len(np.asarray(probs_aligned))
    if n != n_aligned:
        raise ValueError(
            "probs_base and probs_aligned must hold the same questions in the same order; "
            f"they have {n} and {n_aligned} rows."
        )
    prepared = [_prepare(metrics, probs, gold, options) for probs in (probs_base, probs_aligned)]
    statistics = {
        (side, name): deviations
        for side, of_side in enumerate(prepared)
        for name, (_, deviations) in of_side.items()
    }
    found = resampled_values(statistics, n, n_resamples, rng)
    base, aligned = (
        {
            m.name: Draws(of_side[m.name][0], found[side, m.name], m.bounds, m.has_interval)
            for m in metrics
        }
        for side, of_side in enumerate(prepared)
    )
    same = np.array_equal(np.asarray(probs_base), np.asarray(probs_aligned), equal_nan=True)
    return changes_between(base, aligned, same=same, level=level)


def _prepare(
    metrics: Collection[Metric],
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    options: dict[str, Any],
) -> dict[str, tuple[float, Statistic]]:
    """Return each metric's value and the deviations of its resamples; rows are checked once."""
    check_options(**options)
    answers = answers_for(metrics, probs, gold)
    return {
        metric.name: metric.value_and_deviations(answers, **metric.own(options))
        for metric in metrics
    }


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
    n_resamples = check_request(n_resamples, rng)
    conf, hit = check_pairs(confidence, correct)
    error = pairs_error(conf, n_bins=n_bins, binning=binning)
    value, deviations = error.value_and_deviations(hit.astype(np.int64))
    (draws,) = resampled_values({"": deviations}, conf.size, n_resamples, rng).values()
    return Estimate(value, *interval_over(value, list(draws.T), level, (0.0, 1.0)))
