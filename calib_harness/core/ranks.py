"""Ranks, and how far several rankings agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from calib_harness.core.checks import FloatArray, as_floats


def min_ranks(values: npt.ArrayLike) -> FloatArray:
    """Return ranks from 1 for the smallest value; ties share the smaller rank.

    Parameters
    ----------
    values : array_like, shape (m,)
        Numbers; NaN gets no rank.

    Returns
    -------
    ndarray, shape (m,)
        Ranks, NaN where the value is.

    Examples
    --------
    >>> min_ranks([0.3, 0.1, 0.3, 0.5]).tolist()
    [2.0, 1.0, 2.0, 4.0]
    """
    array = as_floats("values", values, ndim=1)
    return np.asarray(stats.rankdata(array, method="min", nan_policy="omit"), dtype=np.float64)


def kendalls_w(rank_matrix: npt.ArrayLike) -> float:
    """Return Kendall's coefficient of concordance of several rankings, corrected for ties.

    W = 12 S / (m² (n³ − n) − m Σ T), S the sum of squared deviations of the n rank sums over
    m rankings, T the sum of t³ − t over runs of t ties in a ranking (Kendall and Smith 1939).

    Parameters
    ----------
    rank_matrix : array_like, shape (m, n)
        One ranking of the n things per row (ranks of any kind, or the values themselves).

    Returns
    -------
    float
        From 0, no agreement, to 1; NaN if every row ties everything.

    Raises
    ------
    ValueError
        If there are fewer than 2 rankings or things, or a NaN.

    Examples
    --------
    >>> kendalls_w([[1, 2, 3], [1, 2, 3]]), kendalls_w([[1, 2, 3], [3, 2, 1]])
    (1.0, 0.0)
    """
    ranks = np.apply_along_axis(stats.rankdata, 1, _rankings(rank_matrix))
    m, n = ranks.shape
    sums = ranks.sum(axis=0)
    ties = sum(int((c**3 - c).sum()) for c in (np.unique(r, return_counts=True)[1] for r in ranks))
    most = m**2 * (n**3 - n) - m * ties
    return float(12 * ((sums - sums.mean()) ** 2).sum() / most) if most else np.nan


def mean_pairwise_tau(rank_matrix: npt.ArrayLike) -> float:
    """Return the mean of Kendall's τ-b over all pairs of rankings.

    Parameters
    ----------
    rank_matrix : array_like, shape (m, n)
        One ranking of the n things per row.

    Returns
    -------
    float
        From -1 to 1; NaN if a row ties everything.

    Raises
    ------
    ValueError
        If there are fewer than 2 rankings or things, or a NaN.

    Examples
    --------
    >>> round(mean_pairwise_tau([[1, 2, 3], [1, 3, 2], [1, 2, 3]]), 4)  # 1/3, 1, 1/3
    0.5556
    """
    ranks = _rankings(rank_matrix)
    above, below = np.triu_indices(ranks.shape[1], k=1)
    order = np.sign(ranks[:, above] - ranks[:, below])  # 0 for ties
    agreements = order @ order.T  # concordant minus discordant; untied on the diagonal
    untied = np.diag(agreements)
    one, other = np.triu_indices(len(ranks), k=1)
    with np.errstate(invalid="ignore"):
        # The root of the product, not the product of roots: full agreement is exactly 1.
        return float(np.mean((agreements / np.sqrt(np.outer(untied, untied)))[one, other]))


def _rankings(rank_matrix: npt.ArrayLike) -> FloatArray:
    ranks = as_floats("rank_matrix", rank_matrix, ndim=2)
    if min(ranks.shape) < 2 or np.isnan(ranks).any():
        raise ValueError(
            "rank_matrix must have at least 2 rankings (rows) of 2 things (columns) and no NaN; "
            f"got shape {ranks.shape} with {int(np.isnan(ranks).sum())} NaN."
        )
    return ranks
