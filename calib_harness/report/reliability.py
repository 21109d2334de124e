"""Reliability diagrams: accuracy against mean confidence, bin by bin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calib_harness.core.binning import DEFAULT_N_BINS, bin_index, uniform_edges
from calib_harness.core.checks import FloatArray, IntArray, check_count, check_pairs, check_rows
from calib_harness.core.confidence import top_label
from calib_harness.core.inference import (
    DEFAULT_N_RESAMPLES,
    Estimate,
    Null,
    bootstrap,
    calibrated_null,
)
from calib_harness.core.intervals import clopper_pearson, consistency_interval
from calib_harness.core.metrics import calibration_error
from calib_harness.core.pairs import bootstrap_pairs, null_of_pairs

_UNKNOWN = (np.nan,) * 3


@dataclass(frozen=True, eq=False)
class Reliability:
    """What a reliability diagram shows, of one set of (confidence, outcome) pairs.

    Arrays hold one element per bin that has entries, in the order of confidence.

    Attributes
    ----------
    n_bins : int
        Number of bins asked for; the arrays are shorter where some are empty.
    binning : str
        The rule, see `bin_index`.
    low, high : ndarray, shape (B,)
        Edges. Uniform bins have theirs at m / n_bins. Bins of equal mass meet at the largest
        value of the lower one (the smallest of the upper one for ``"adaptive"``), and end at the
        smallest and largest of all values.
    n : ndarray of int, shape (B,)
        Entries in the bin.
    confidence, accuracy : ndarray, shape (B,)
        Mean confidence (not the midpoint) and share of entries that came true.
    accuracy_low, accuracy_high : ndarray, shape (B,)
        Exact 95 % interval of the accuracy (Clopper and Pearson 1934).
    null_low, null_high : ndarray, shape (B,)
        Where the accuracy lies, with at least 95 %, if the confidences come true (consistency
        bars; Bröcker and Smith 2007).
    histogram : ndarray of int, shape (n_bins,)
        Entries in each of n_bins uniform bins, empty ones too, whatever `binning` is.
    ece : Estimate
        Calibration error of these bins with standard error and interval, as in the metrics
        table; NaN errors without resamples.
    ece_null : Null
        What it would be if the confidences came true; NaN without resamples.
    position : int or None
        The choice position whose probabilities are binned; None for top-label confidence.
    """

    n_bins: int
    binning: str
    low: FloatArray
    high: FloatArray
    n: IntArray
    confidence: FloatArray
    accuracy: FloatArray
    accuracy_low: FloatArray
    accuracy_high: FloatArray
    null_low: FloatArray
    null_high: FloatArray
    histogram: IntArray
    ece: Estimate
    ece_null: Null
    position: int | None = None

    @property
    def n_entries(self) -> int:
        """Entries in all bins: questions, or questions that have this choice."""
        return int(self.n.sum())


def reliability(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
    n_resamples: int = DEFAULT_N_RESAMPLES,
    seed: int = 0,
) -> Reliability:
    """Bin the confidence of each question's predicted choice.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.
    n_bins, binning
        See `bin_index`.
    n_resamples : int
        For the interval of the ECE and its null; 0 leaves both out.
    seed : int
        With the defaults, `ece` and `ece_null` are the numbers of ``calib-harness metrics``.

    Returns
    -------
    Reliability

    Raises
    ------
    ValueError
        If an option is unknown, or a row is no distribution or has no gold choice.

    Examples
    --------
    Confidences .6 (right) and .8 (wrong) share the upper one of two bins.

    >>> bins = reliability([[0.6, 0.4], [0.8, 0.2]], [0, 1], n_bins=2)
    >>> bins.low.tolist(), bins.n.tolist(), bins.confidence.round(6).tolist()
    ([0.5], [2], [0.7])
    >>> bins.accuracy.tolist(), round(bins.ece.value, 6)
    ([0.5], 0.2)
    """
    p, g = check_rows(probs, gold)
    confidence, prediction = top_label(p)
    hit = (prediction == g).astype(np.float64)
    ece, null = _without_errors(confidence, hit, n_bins, binning)
    if check_count("n_resamples", n_resamples, least=0):
        given: dict[str, Any] = {
            "n_resamples": n_resamples,
            "rng": seed,
            "n_bins": n_bins,
            "binning": binning,
        }
        ece, null = bootstrap(["ece"], p, g, **given)["ece"], calibrated_null(p, g, **given)
    return _binned(confidence, hit, n_bins, binning, ece, null)


def reliability_of_pairs(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
    n_resamples: int = DEFAULT_N_RESAMPLES,
    seed: int = 0,
    position: int | None = None,
) -> Reliability:
    """Bin pairs of a probability and what came of it.

    Parameters
    ----------
    confidence, correct : array_like, shape (n,)
        Probabilities, and 1 where they came true, else 0.
    n_bins, binning, n_resamples, seed
        As for `reliability`.
    position : int, optional
        Choice position that the pairs are about, kept for titles.

    Returns
    -------
    Reliability

    Raises
    ------
    ValueError
        If an option is unknown or the pairs are not probabilities and 0/1.

    Examples
    --------
    >>> bins = reliability_of_pairs([0.4, 0.7, 0.9], [1, 0, 1], n_bins=2)
    >>> bins.n.tolist(), bins.accuracy.tolist(), bins.accuracy_low.round(3).tolist()
    ([1, 2], [1.0, 0.5], [0.025, 0.013])
    """
    conf, hit = check_pairs(confidence, correct)
    ece, null = _without_errors(conf, hit, n_bins, binning)
    if check_count("n_resamples", n_resamples, least=0):
        given: dict[str, Any] = {
            "n_resamples": n_resamples,
            "rng": seed,
            "n_bins": n_bins,
            "binning": binning,
        }
        ece, null = bootstrap_pairs(conf, hit, **given), null_of_pairs(conf, **given)
    return _binned(conf, hit, n_bins, binning, ece, null, position)


def classwise_reliability(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
    n_resamples: int = DEFAULT_N_RESAMPLES,
    seed: int = 0,
) -> tuple[Reliability, ...]:
    """Bin all probabilities of each choice position against whether it was gold, as SCE does.

    Parameters as for `reliability`; one Reliability per position that some question has.
    Their errors, weighted by their entries, make up the SCE.

    Examples
    --------
    >>> first, second = classwise_reliability([[0.6, 0.4], [0.8, 0.2]], [0, 1], n_bins=1)
    >>> first.confidence.round(6).tolist(), first.accuracy.tolist(), second.position
    ([0.7], [0.5], 1)
    """
    p, g = check_rows(probs, gold)
    options: dict[str, Any] = {
        "n_bins": n_bins,
        "binning": binning,
        "n_resamples": n_resamples,
        "seed": seed,
    }
    positions = np.flatnonzero(~np.isnan(p).all(axis=0))
    return tuple(reliability_at(p, g, int(k), options) for k in positions)


def reliability_at(
    probs: FloatArray, gold: IntArray, position: int, options: dict[str, Any]
) -> Reliability:
    """Bin the probabilities of one choice position; arrays as from `check_rows`."""
    has = ~np.isnan(probs[:, position])
    pairs = probs[has, position], gold[has] == position
    return reliability_of_pairs(*pairs, **options, position=position)


def _without_errors(
    confidence: FloatArray, hit: FloatArray, n_bins: int, binning: str
) -> tuple[Estimate, Null]:
    value = calibration_error(confidence, hit, n_bins=n_bins, binning=binning)
    return Estimate(value, *_UNKNOWN), Null(np.nan, *_UNKNOWN)


def _binned(
    confidence: FloatArray,
    hit: FloatArray,
    n_bins: int,
    binning: str,
    ece: Estimate,
    null: Null,
    position: int | None = None,
) -> Reliability:
    """Sum up the bins that have entries."""
    kept, at = np.unique(bin_index(confidence, n_bins=n_bins, binning=binning), return_inverse=True)
    n = np.bincount(at)
    hits = np.bincount(at, weights=hit)
    accuracy_low, accuracy_high = clopper_pearson(hits, n)
    null_low, null_high = consistency_interval(confidence, at)
    low, high = _edges(confidence, kept, at, n_bins, binning)
    return Reliability(
        n_bins=n_bins,
        binning=binning,
        low=low,
        high=high,
        n=n,
        confidence=np.bincount(at, weights=confidence) / n,
        accuracy=hits / n,
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        null_low=null_low,
        null_high=null_high,
        histogram=np.bincount(bin_index(confidence, n_bins=n_bins), minlength=n_bins),
        ece=ece,
        ece_null=null,
        position=position,
    )


def _edges(
    values: FloatArray, kept: IntArray, at: IntArray, n_bins: int, binning: str
) -> tuple[FloatArray, FloatArray]:
    """Return the lower and upper edges of the bins `kept`; `at` says which holds a value."""
    if binning == "uniform":
        edges = uniform_edges(n_bins)
        return edges[kept], edges[kept + 1]
    smallest, largest = np.ones(kept.size), np.zeros(kept.size)
    np.minimum.at(smallest, at, values)
    np.maximum.at(largest, at, values)
    inner = largest[:-1] if binning == "equal_mass" else smallest[1:]
    return np.append(smallest[0], inner), np.append(inner, largest[-1])
