"""The one rule that says which bin a value belongs to; plots and numbers both use it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calib_harness.core.checks import (
    FloatArray,
    IntArray,
    as_floats,
    check_choice_of,
    check_count,
    check_unit_interval,
)

DEFAULT_N_BINS = 15
BINNINGS = ("uniform", "equal_mass", "adaptive")


def check_binning(n_bins: object, binning: object) -> int:
    """Return `n_bins` as an int, or raise ValueError about either option."""
    check_choice_of("binning", binning, BINNINGS)
    return check_count("n_bins", n_bins)


def uniform_edges(n_bins: int) -> FloatArray:
    """Return the n_bins + 1 edges m / n_bins of uniform bins.

    Division gives the float nearest to m / n_bins, which is what a literal such as 0.3 is
    too; multiples of a rounded step (numpy.linspace) are not: 3 * 0.1 > 0.3.
    """
    return np.arange(n_bins + 1) / n_bins


def bin_index(
    values: npt.ArrayLike, *, n_bins: int = DEFAULT_N_BINS, binning: str = "uniform"
) -> IntArray:
    """Return the bin of each value.

    - ``"uniform"``: bin m is (m / n_bins, (m + 1) / n_bins], the first bin closed at 0
      (Guo et al. 2017).
    - ``"equal_mass"``: the sorted values are cut into `n_bins` runs whose sizes differ by at
      most one, longer runs first. Equal values go together, to the run that holds the first
      of them (as in Kumar et al. 2019, whose bins are (lo, hi]).
    - ``"adaptive"``: runs start at the ranks round(m n / n_bins), halves to even, and equal
      values go together to the run that holds the last of them (bins [lo, hi)). It is the
      rule of Google's reference for ACE and TACE (Nixon et al. 2019).

    Parameters
    ----------
    values : array_like, shape (n,)
        Numbers in [0, 1].
    n_bins : int
        Number of bins; some may stay empty.
    binning : {"uniform", "equal_mass", "adaptive"}
        The rule.

    Returns
    -------
    ndarray of int, shape (n,)
        Bins from 0 to n_bins - 1.

    Raises
    ------
    ValueError
        If an option is unknown or a value is NaN or outside [0, 1].

    Examples
    --------
    >>> bin_index([0.0, 0.25, 0.26, 1.0], n_bins=4).tolist()
    [0, 0, 1, 3]
    >>> bin_index([0.9, 0.2, 0.2, 0.2], n_bins=2, binning="equal_mass").tolist()
    [1, 0, 0, 0]
    """
    n_bins = check_binning(n_bins, binning)
    array = as_floats("values", values, ndim=1)
    check_unit_interval("values", array)
    if binning == "uniform":
        above = np.searchsorted(uniform_edges(n_bins)[1:], array, side="left")
        return np.minimum(above, n_bins - 1).astype(np.int64)
    _, group, size = np.unique(array, return_inverse=True, return_counts=True)
    size_up_to = np.append(0.0, np.cumsum(size))
    starts = run_starts(size_up_to[None, :], n_bins, binning)[0]
    return (np.searchsorted(starts, group, side="right") - 1).astype(np.int64)


def number_occupied(bins: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Give the bins that hold something numbers from 0, without gaps.

    Parameters
    ----------
    bins : ndarray of int, shape (n,)
        The bin of each entry.

    Returns
    -------
    kept : ndarray of int, shape (B,)
        The bins that hold something, in their order.
    at : ndarray of int, shape (n,)
        The new number of each entry's bin: ``kept[at]`` is `bins`.
    size : ndarray of int, shape (B,)
        Entries in each of `kept`.

    Examples
    --------
    >>> [each.tolist() for each in number_occupied(np.array([4, 1, 4]))]
    [[1, 4], [1, 0, 1], [1, 2]]
    """
    size = np.bincount(bins)
    kept = np.flatnonzero(size)
    number = np.zeros_like(size)
    number[kept] = np.arange(kept.size)
    return kept, number[bins], size[kept]


def run_starts(size_up_to: FloatArray, n_bins: int, binning: str) -> IntArray:
    """Return where each run of equal mass starts, for many weightings of the same values.

    Parameters
    ----------
    size_up_to : ndarray, shape (R, G + 1)
        Per weighting, the number of values among the g smallest distinct values, g = 0..G.
    n_bins : int
        Number of runs.
    binning : {"equal_mass", "adaptive"}
        The rule, see `bin_index`.

    Returns
    -------
    ndarray of int, shape (R, n_bins)
        Index of the first distinct value of each run; G where no value is left for it.
    """
    total = size_up_to[:, -1:]
    m = np.arange(n_bins)
    if binning == "equal_mass":
        shortest, longer = np.divmod(total, n_bins)
        first_rank = m * shortest + np.minimum(m, longer)
        ranks = size_up_to[:, :-1]  # a value's smallest rank: how many values are smaller
    else:
        first_rank = np.minimum(np.round(m * (total / n_bins)), total - 1)
        ranks = size_up_to[:, 1:] - 1  # a value's largest rank
    starts = [np.searchsorted(r, first) for r, first in zip(ranks, first_rank, strict=True)]
    return np.asarray(starts, dtype=np.int64).reshape(len(size_up_to), n_bins)
