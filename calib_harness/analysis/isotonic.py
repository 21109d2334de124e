"""Reliability without bins: the isotonic curve and the three parts of its Brier score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calib_harness.core.checks import FloatArray, check_pairs
from calib_harness.core.corp import corp
from calib_harness.core.recalibrators import isotonic_at

_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class IsotonicCurve:
    """The share of right answers as a function of confidence that never falls.

    Attributes
    ----------
    confidence : ndarray, shape (S,)
        Where the curve bends: both ends of every level stretch, ascending.
    accuracy : ndarray, shape (S,)
        The curve there; between, it is a straight line.
    low, high : ndarray, shape (S,)
        Where, in 95 % of simulations, the curve of a calibrated model with these confidences
        lies at that place (consistency band, pointwise); NaN without resamples.
    miscalibration, discrimination, uncertainty : float
        MCB, DSC and UNC of the Brier score of (confidence, correct): the score is
        ``miscalibration - discrimination + uncertainty``.
    n : int
        Pairs.
    """

    confidence: FloatArray
    accuracy: FloatArray
    low: FloatArray
    high: FloatArray
    miscalibration: float
    discrimination: float
    uncertainty: float
    n: int


def isotonic_curve(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    *,
    n_resamples: int = 200,
    seed: int = 0,
) -> IsotonicCurve:
    """Fit the curve by the pool-adjacent-violators algorithm.

    The CORP approach of Dimitriadis, Gneiting and Jordan (2021, PNAS 118): calibration curve,
    consistency band and score decomposition from one isotonic regression, without bins. Equal
    confidences share one value. Of S the mean squared difference between confidence and
    outcome, S_C that between curve and outcome, and S_R that between the overall share and
    outcome: MCB = S − S_C, DSC = S_R − S_C, UNC = S_R.

    Parameters
    ----------
    confidence, correct : array_like, shape (n,)
        Probabilities, and 1 where they came true, else 0.
    n_resamples : int
        Simulations of a calibrated model, for the band; 0 leaves it out.
    seed : int
        Of the simulations.

    Returns
    -------
    IsotonicCurve

    Raises
    ------
    ValueError
        If the pairs are not probabilities and 0/1.

    Examples
    --------
    The two outer answers come as they should; those between are pooled at ½.

    >>> curve = isotonic_curve([0.2, 0.4, 0.6, 0.9], [0, 1, 0, 1], n_resamples=0)
    >>> curve.accuracy.tolist()
    [0.0, 0.5, 0.5, 1.0]
    >>> round(curve.miscalibration - curve.discrimination + curve.uncertainty, 4)  # Brier
    0.1925
    """
    c, hit = check_pairs(confidence, correct)
    values, at, size = np.unique(c, return_inverse=True, return_counts=True)
    fit = isotonic_at(at, size, hit)
    bends = _bends(fit)
    low = high = np.full(bends.size, np.nan)
    if n_resamples:
        rng = np.random.default_rng(seed)
        draws = ((rng.random(c.size) < c).astype(np.float64) for _ in range(n_resamples))
        curves = [isotonic_at(at, size, drawn)[bends] for drawn in draws]
        low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    parts = corp(c, hit)
    return IsotonicCurve(
        confidence=values[bends],
        accuracy=fit[bends],
        low=low,
        high=high,
        miscalibration=parts.miscalibration.mean,
        discrimination=parts.discrimination.mean,
        uncertainty=parts.uncertainty.mean,
        n=c.size,
    )


def _bends(fit: FloatArray) -> npt.NDArray[np.int64]:
    """Return where a level stretch of the curve starts or ends."""
    step = np.flatnonzero(np.diff(fit) > _ROUNDING)
    return np.unique(np.concatenate([[0], step, step + 1, [fit.size - 1]]))
