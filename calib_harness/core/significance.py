"""Many comparisons at once: corrected p-values, shares of pairs, agreement of rankings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from calib_harness.core.checks import FloatArray, as_floats, check_count


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Return p-values corrected for testing all of them (Holm 1979).

    Parameters
    ----------
    p_values : array_like, shape (m,)
        P-values; NaN where a test gave none, which then counts as no test.

    Returns
    -------
    ndarray, shape (m,)
        Corrected p-values, in the order given, NaN where there was none.

    Raises
    ------
    ValueError
        If a p-value lies outside [0, 1].

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = as_floats("p_values", p_values, ndim=1)
    known = np.flatnonzero(~np.isnan(p))
    if ((p[known] < 0) | (p[known] > 1)).any():
        raise ValueError(f"p_values must lie in [0, 1]; got {p.tolist()}.")
    order = known[np.argsort(p[known], kind="stable")]
    corrected = np.full_like(p, np.nan)
    remaining = np.arange(known.size, 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * remaining), 1.0)
    return corrected


def sign_test(n_harmed: int, n: int) -> float:
    """Return the exact two-sided p-value of `n_harmed` of n pairs being harmed.

    Under the null, each pair is harmed with probability 1/2, independently. Leave pairs
    without a change out of both numbers.

    Parameters
    ----------
    n_harmed, n : int
        Pairs harmed, and pairs in all.

    Returns
    -------
    float
        1 if there are no pairs.

    Raises
    ------
    ValueError
        If `n_harmed` is not between 0 and n.

    Examples
    --------
    >>> sign_test(5, 5)  # 2 / 2**5
    0.0625
    """
    n = check_count("n", n, least=0)
    if check_count("n_harmed", n_harmed, least=0) > n:
        raise ValueError(f"n_harmed must be at most n; got {n_harmed} of {n}.")
    return float(stats.binomtest(n_harmed, n).pvalue) if n else 1.0


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
