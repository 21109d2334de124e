"""Many comparisons at once: corrected p-values, and shares of pairs."""

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
