"""What a perfectly calibrated model would show: what calibration errors are read against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calib_harness.core.answers import Choices
from calib_harness.core.binning import DEFAULT_N_BINS
from calib_harness.core.calibration import pairs_error
from calib_harness.core.checks import FloatArray, IntArray, check_fraction, check_pairs
from calib_harness.core.metrics import metrics_named
from calib_harness.core.options import DEFAULT_N_RESAMPLES, check_options
from calib_harness.core.resampling import block_sizes, check_request, spread_of


@dataclass(frozen=True)
class Null:
    """What a metric shows for a perfectly calibrated model: mean, spread and interval."""

    mean: float
    std: float
    low: float
    high: float


def calibrated_null(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike | None = None,
    *,
    metric: str = "ece",
    n_resamples: int = DEFAULT_N_RESAMPLES,
    rng: np.random.Generator | int,
    level: float = 0.95,
    **options: Any,
) -> Null:
    """Return what a perfectly calibrated model with these very probabilities would show.

    Each simulation draws every gold choice from the question's own probabilities; a
    prediction then comes true with probability c_i, its confidence. The metric of such
    golds is not 0 (a plug-in ECE is biased upwards), and the measured value has to be read
    against it.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, optional
        Ignored; it lets metrics and null be called alike.
    metric : str
        A key of `METRICS`.
    n_resamples : int
        Number of simulations.
    rng, level, **options
        As for `bootstrap`.

    Returns
    -------
    Null

    Raises
    ------
    ValueError
        If the metric or an option is unknown, or a row cannot be used.

    Examples
    --------
    Two answers of confidence 1 are always right; of confidence 1/2, they are right 0, 1 or 2
    times, with gaps 1/2, 0 and 1/2 in a quarter, half and quarter of the simulations.

    >>> calibrated_null([[1.0, 0.0], [1.0, 0.0]], rng=0).mean
    0.0
    >>> round(calibrated_null([[0.5, 0.5], [0.5, 0.5]], rng=0, n_resamples=20_000).mean, 2)
    0.25
    """
    n_resamples = check_request(n_resamples, rng)
    check_fraction("level", level)
    (chosen,) = metrics_named([metric])
    check_options(**options)
    choices = Choices.checked(probs)
    simulate = chosen.simulate(choices, **chosen.own(options))
    generator = np.random.default_rng(rng)
    blocks = [
        simulate(_draw_gold(choices.probs, size, generator))
        for size in block_sizes(len(choices), n_resamples)
    ]
    draws = np.concatenate(blocks)
    known = draws[np.isfinite(draws)]
    return Null(
        float(np.mean(known)) if known.size else np.nan, *spread_of(known, level, chosen.bounds)
    )


def _draw_gold(probs: FloatArray, size: int, generator: np.random.Generator) -> IntArray:
    """Draw (size, n) gold indices, each from its question's probabilities."""
    edges = np.cumsum(np.nan_to_num(np.maximum(probs, 0.0)), axis=1)
    draws = generator.random((size, len(probs)))
    draws *= edges[:, -1]
    # As small as they can be: ten million of them pass through memory several times.
    gold = np.zeros(draws.shape, dtype=np.min_scalar_type(-probs.shape[1]))
    beyond = np.empty(draws.shape, dtype=bool)
    for edge in np.ascontiguousarray(edges.T[:-1]):
        gold += np.greater_equal(draws, edge, out=beyond)
    return gold


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
    n_resamples = check_request(n_resamples, rng)
    conf, _ = check_pairs(confidence, np.zeros(np.shape(confidence)))
    simulate = pairs_error(conf, n_bins=n_bins, binning=binning).simulated()
    generator = np.random.default_rng(rng)
    draws = np.concatenate(
        [
            simulate((generator.random((size, conf.size)) < conf).astype(np.int64))
            for size in block_sizes(conf.size, n_resamples)
        ]
    )
    return Null(float(draws.mean()), *spread_of(draws, level, (0.0, 1.0)))
