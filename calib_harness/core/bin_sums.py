"""Sums over the entries in each bin, and how they become one error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from calib_harness.core.checks import FloatArray


@dataclass(frozen=True)
class BinSums:
    """Sums over the entries in each bin, one row per resample; empty bins may be missing.

    Attributes
    ----------
    total : ndarray, shape (R,)
        Number of entries in all bins.
    gap : ndarray, shape (R, bins)
        Sum of (probability - outcome).
    size, hits : callable
        Number of entries and sum of outcomes, shape (R, bins); few norms need them.
    """

    total: FloatArray
    gap: FloatArray
    size: Callable[[], FloatArray]
    hits: Callable[[], FloatArray]


def combine(sums: BinSums, norm: str) -> FloatArray:
    """Return one error per resample from the sums over its bins; 0 where there are no entries."""
    if norm == "l1":
        return ratio(np.abs(sums.gap).sum(axis=1), sums.total)
    if norm in ("over", "under"):
        gap = sums.gap if norm == "over" else -sums.gap
        return ratio(np.maximum(gap, 0.0).sum(axis=1), sums.total)
    size = sums.size()
    if norm == "max":
        return np.asarray(ratio(np.abs(sums.gap), size).max(axis=1, initial=0.0))
    squared = ratio(sums.gap**2, size)
    if norm == "debiased":
        # Kumar et al. 2019: take the sampling variance of a bin's accuracy off its squared
        # gap. A bin of one entry has no such estimate and counts as 0, as in their code.
        hits = sums.hits()
        bias = ratio(hits * (size - hits), size * (size - 1))
        squared = np.where(size > 1, squared - bias, 0.0)
    return np.sqrt(np.maximum(ratio(squared.sum(axis=1), sums.total), 0.0))


def ratio(above: FloatArray, below: FloatArray, *, otherwise: float = 0.0) -> FloatArray:
    """Divide elementwise, `otherwise` where there is nothing to divide by."""
    out = np.full(np.broadcast_shapes(above.shape, below.shape), otherwise)
    return np.asarray(np.divide(above, below, out=out, where=below > 0))
