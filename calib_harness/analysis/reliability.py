"""Reliability diagrams: accuracy against mean confidence, bin by bin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from calib_harness.core.bin_errors import error_of_bins
from calib_harness.core.binning import DEFAULT_N_BINS, bin_index, number_occupied, uniform_edges
from calib_harness.core.checks import FloatArray, IntArray, check_count, check_pairs, check_rows
from calib_harness.core.confidence import top_label
from calib_harness.core.inference import bootstrap, bootstrap_pairs
from calib_harness.core.nulls import Null, calibrated_null, null_of_pairs
from calib_harness.core.options import DEFAULT_N_RESAMPLES
from calib_harness.core.resampling import Estimate
from calib_harness.core.shares import clopper_pearson, consistency_interval

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
    errors = None
    if check_count("n_resamples", n_resamples, least=0):
        given: dict[str, Any] = {
            "n_resamples": n_resamples,
            "rng": seed,
            "n_bins": n_bins,
            "binning": binning,
        }
        errors = bootstrap(["ece"], p, g, **given)["ece"], calibrated_null(p, g, **given)
    hit = (prediction == g).astype(np.float64)
    return _summed_up([_Bins(confidence, hit, n_bins, binning)], [errors])[0]


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
    pairs = Pairs(confidence, correct, n_bins, binning, n_resamples, seed, position)
    return reliability_of_each([pairs])[0]


@dataclass(frozen=True, eq=False)
class Pairs:
    """What `reliability_of_pairs` is asked for."""

    confidence: npt.ArrayLike
    correct: npt.ArrayLike
    n_bins: int
    binning: str
    n_resamples: int
    seed: int
    position: int | None = None


def reliability_of_each(asked: Sequence[Pairs]) -> list[Reliability]:
    """Do what `reliability_of_pairs` does for several sets of pairs, faster than one by one."""
    if not asked:
        return []
    sets: list[_Bins] = []
    errors: list[tuple[Estimate, Null] | None] = []
    for pairs in asked:
        conf, hit = check_pairs(pairs.confidence, pairs.correct)
        sets.append(_Bins(conf, hit, pairs.n_bins, pairs.binning, pairs.position))
        if not check_count("n_resamples", pairs.n_resamples, least=0):
            errors.append(None)
            continue
        given: dict[str, Any] = {
            "n_resamples": pairs.n_resamples,
            "rng": pairs.seed,
            "n_bins": pairs.n_bins,
            "binning": pairs.binning,
        }
        errors.append((bootstrap_pairs(conf, hit, **given), null_of_pairs(conf, **given)))
    return _summed_up(sets, errors)


def empty_reliability(n_bins: int, binning: str) -> Reliability:
    """Return the diagram of no pairs at all: no bins, and no error."""
    shares = np.zeros(0)
    counts = np.zeros(0, dtype=np.int64)
    return Reliability(
        n_bins=n_bins,
        binning=binning,
        low=shares,
        high=shares,
        n=counts,
        confidence=shares,
        accuracy=shares,
        accuracy_low=shares,
        accuracy_high=shares,
        null_low=shares,
        null_high=shares,
        histogram=np.zeros(n_bins, dtype=np.int64),
        ece=Estimate(np.nan, *_UNKNOWN),
        ece_null=Null(np.nan, *_UNKNOWN),
    )


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


class _Bins:
    """The bins that have entries, of one set of checked pairs."""

    def __init__(
        self,
        confidence: FloatArray,
        hit: FloatArray,
        n_bins: int,
        binning: str,
        position: int | None = None,
    ) -> None:
        self.confidence, self.hit = confidence, hit
        self.n_bins, self.binning, self.position = n_bins, binning, position
        bins = bin_index(confidence, n_bins=n_bins, binning=binning)
        self.kept, self.at, self.n = number_occupied(bins)
        self.hits = np.bincount(self.at, weights=hit)
        uniform = bins if binning == "uniform" else bin_index(confidence, n_bins=n_bins)
        self.histogram = np.bincount(uniform, minlength=n_bins)


def _summed_up(
    sets: Sequence[_Bins], errors: Sequence[tuple[Estimate, Null] | None]
) -> list[Reliability]:
    """Sum up bins, intervals of all sets at once; errors of None stand for unknown ones."""
    ends = np.cumsum([bins.n.size for bins in sets])
    of_accuracy = clopper_pearson(
        np.concatenate([bins.hits for bins in sets]), np.concatenate([bins.n for bins in sets])
    )
    # Sets of one rule together: those of the choice positions are then the very bins of SCE, whose
    # distributions are at hand where it was computed just before, as is the top choice's of ECE.
    of_null = np.concatenate(
        [_null_intervals(list(alike)) for _, alike in groupby(sets, lambda bins: bins.binning)],
        axis=1,
    )
    found = []
    for bins, end, known in zip(sets, ends, errors, strict=True):
        here = slice(end - bins.n.size, end)
        ece, null = known or (
            Estimate(error_of_bins(bins.confidence, bins.hit, bins.at), *_UNKNOWN),
            Null(np.nan, *_UNKNOWN),
        )
        low, high = _edges(bins.confidence, bins.kept, bins.at, bins.n_bins, bins.binning)
        found.append(
            Reliability(
                n_bins=bins.n_bins,
                binning=bins.binning,
                low=low,
                high=high,
                n=bins.n,
                confidence=np.bincount(bins.at, weights=bins.confidence) / bins.n,
                accuracy=bins.hits / bins.n,
                accuracy_low=of_accuracy[0][here],
                accuracy_high=of_accuracy[1][here],
                null_low=of_null[0][here],
                null_high=of_null[1][here],
                histogram=bins.histogram,
                ece=ece,
                ece_null=null,
                position=bins.position,
            )
        )
    return found


def _null_intervals(sets: Sequence[_Bins]) -> FloatArray:
    """Return the lower and the upper ends of the consistency bars of all bins, (2, bins)."""
    starts = np.cumsum([0, *(bins.n.size for bins in sets[:-1])])
    return np.stack(
        consistency_interval(
            np.concatenate([bins.confidence for bins in sets]),
            np.concatenate([bins.at + start for bins, start in zip(sets, starts, strict=True)]),
        )
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
