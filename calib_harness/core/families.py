"""Across pairs of models that come in families: tests, shares and means that know of it.

Pairs of one family share data, recipe and makers, so that what alignment does to one of them says
something about the others: fifteen pairs of eight families are fewer than fifteen independent
ones. Every function here takes the family of each pair; where each pair is a family of its own,
they are the usual ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from calib_harness.core.checks import FloatArray, IntArray, as_floats, check_fraction, same_length
from calib_harness.core.shares import clopper_pearson

_ALL_FLIPS = 16  # families up to which every combination of signs is tried
_SOME_FLIPS = 50_000
# Standard deviations tried, as multiples of that of the changes: up to the widest, in so many
# points a side, drawn closer so many times.
_WIDEST, _GRID, _ROUNDS = 3.0, 21, 4


def sign_flip_test(
    values: npt.ArrayLike, families: npt.ArrayLike, *, rng: np.random.Generator | int = 0
) -> float:
    """Return the p-value of a mean of 0 when whole families may change their sign together.

    If alignment neither harms nor helps, a family's changes are as likely as the same changes
    with the opposite sign. The statistic is the mean of the families' means; the two-sided
    p-value is the share of all 2^F combinations of signs of F families in which it is at
    least as far from 0 as it is (Fisher's randomisation test with families as units; Canay,
    Romano and Shaikh 2017). It holds its level whatever pairs of one family have in common; with
    fewer than 6 families it cannot come below .05.

    Parameters
    ----------
    values : array_like, shape (pairs,)
        A change of each pair; NaN where there is none.
    families : array_like, shape (pairs,)
        The family of each pair.
    rng : numpy.random.Generator or int
        Source of combinations where there are more than 16 families: 50,000 are drawn then,
        and the one that was seen counts among them.

    Returns
    -------
    float
        NaN without any value.

    Raises
    ------
    ValueError
        If values and families differ in number.

    Examples
    --------
    Two of the eight combinations of three families are as extreme:

    >>> sign_flip_test([0.1, 0.3, 0.1, 0.2], ["f", "f", "g", "h"])
    0.25
    """
    y, at = _known(values, families)
    if not y.size:
        return float("nan")
    means = np.bincount(at, weights=y) / np.bincount(at)
    observed = abs(float(means.sum()))
    limit = observed - 1e-12 * max(1.0, observed)
    if means.size <= _ALL_FLIPS:
        sums = np.zeros(1)
        for mean in means:
            sums = np.concatenate([sums + mean, sums - mean])
        return float((np.abs(sums) >= limit).mean())
    signs = np.random.default_rng(rng).integers(2, size=(_SOME_FLIPS, means.size)) * 2 - 1
    return float((1 + (np.abs(signs @ means) >= limit).sum()) / (1 + _SOME_FLIPS))


def clustered_sign_test(harmed: npt.ArrayLike, families: npt.ArrayLike) -> float:
    """Return the exact p-value of as many pairs harmed as improved, families flipped as wholes.

    As `sign_flip_test` with the number of harmed minus improved pairs as statistic. Where each
    pair is a family of its own this is the exact sign test.

    Parameters
    ----------
    harmed : array_like, shape (pairs,)
        1 where a pair was harmed, -1 where it was improved, 0 or NaN where neither is known.
    families : array_like, shape (pairs,)

    Returns
    -------
    float
        1 if no pair changed.

    Raises
    ------
    ValueError
        As for `sign_flip_test`.

    Examples
    --------
    >>> clustered_sign_test([1, 1, 1, 1, 1], list("abcde"))  # 2 / 2**5
    0.0625
    >>> clustered_sign_test([1, 1, 1, 1, 1], list("aabbb"))  # 2 / 2**2
    0.5
    """
    sign, at = _known(harmed, families)
    totals = np.bincount(at, weights=np.sign(sign)).astype(int) if sign.size else np.zeros(0, int)
    # How often each sum comes about: a polynomial multiplied by x^-t + x^t for each family.
    ways = np.ones(1)
    for total in np.abs(totals[totals != 0]):
        wider = np.zeros(ways.size + 2 * total)
        wider[: ways.size] += ways / 2
        wider[2 * total :] += ways / 2
        ways = wider
    sums = np.arange(ways.size) - ways.size // 2
    return float(min(1.0, ways[np.abs(sums) >= abs(int(totals.sum()))].sum()))


def clustered_share(
    harmed: npt.ArrayLike, families: npt.ArrayLike, *, level: float = 0.95
) -> tuple[float, float]:
    """Return the interval of a share of pairs, those of one family counted as alike.

    Clopper and Pearson's at an effective number of pairs (Korn and Graubard 1998): as many
    independent pairs as would give the share the variance that is seen between families, but no
    more than there are pairs, and corrected for the few families that variance comes from. If
    all pairs agree, no variance is seen, and each family counts once.

    Parameters
    ----------
    harmed : array_like, shape (pairs,)
        1 where a pair was harmed, -1 where it was improved; others take no part.
    families : array_like, shape (pairs,)
    level : float

    Returns
    -------
    low, high : float
        NaN if no pair changed; the exact interval where each pair is a family of its own.

    Raises
    ------
    ValueError
        As for `sign_flip_test`.

    Examples
    --------
    >>> [round(end, 3) for end in clustered_share([1, 1, 1, -1], list("abcd"))]
    [0.194, 0.994]
    >>> [round(end, 3) for end in clustered_share([1, 1, 1, -1], list("aaab"))]
    [0.0, 1.0]
    """
    check_fraction("level", level)
    sign, at = _known(harmed, families)
    changed = sign != 0
    sign, at = sign[changed], np.unique(at[changed], return_inverse=True)[1]
    n = sign.size
    if n == 0:
        return float("nan"), float("nan")
    hit = sign > 0
    share, n_families = float(hit.mean()), int(at.max()) + 1
    effective = float(n)
    if n_families < n:
        effective = float(n_families)
        if 0 < share < 1 and n_families > 1:
            gaps = np.bincount(at, weights=hit - share)
            variance = n_families / (n_families - 1) * float((gaps**2).sum()) / n**2
            few = [float(stats.t.ppf((1 + level) / 2, df)) for df in (n - 1, n_families - 1)]
            ideal = share * (1 - share) / variance if variance else n
            effective = min(float(n), ideal * (few[0] / few[1]) ** 2)
    low, high = clopper_pearson([effective * share], [effective], level=level)
    return float(low[0]), float(high[0])


@dataclass(frozen=True)
class RandomEffects:
    """The mean of changes over pairs and families, and how much they differ.

    Attributes
    ----------
    mean, low, high : float
        Mean over families, and its 95 % interval.
    next_low, next_high : float
        Where the true change of a pair of a further family lies (prediction interval); NaN with
        fewer than 3 families.
    between_families, between_pairs : float
        Standard deviations of the true changes of families, and of pairs within a family.
    i_squared : float
        Share of the variance of the measured changes that is real: 0 if the pairs differ by
        chance only.
    n_pairs, n_families : int
    """

    n_pairs: int
    n_families: int
    mean: float = np.nan
    low: float = np.nan
    high: float = np.nan
    next_low: float = np.nan
    next_high: float = np.nan
    between_families: float = np.nan
    between_pairs: float = np.nan
    i_squared: float = np.nan


def random_effects(
    values: npt.ArrayLike,
    stderrs: npt.ArrayLike,
    families: npt.ArrayLike,
    *,
    level: float = 0.95,
) -> RandomEffects:
    """Return the mean change of pairs in families, each measured with an error of its own.

    The three-level model y = μ + family + pair + error (Cheung 2014): errors have the given
    variances, the other two are fitted by restricted maximum likelihood, and μ is the
    generalised least squares mean. Its interval is that of Hartung and Knapp over families, F - 1
    degrees of freedom, never narrower than the model's; the prediction interval for a pair of a
    further family is that of Higgins, Thompson and Spiegelhalter (2009), F - 2 degrees of freedom;
    I² is Higgins and Thompson's (2002).

    Parameters
    ----------
    values, stderrs : array_like, shape (pairs,)
        Change of each pair and its standard error, which may be 0; pairs where either is NaN are
        left out.
    families : array_like, shape (pairs,)
    level : float

    Returns
    -------
    RandomEffects
        NaN where there are too few families: 1 has neither interval nor `between_families`, 2 no
        prediction interval; of one pair only the mean is known.

    Raises
    ------
    ValueError
        If the arguments differ in number or a standard error is negative.

    Examples
    --------
    >>> found = random_effects([0.1, 0.3, 0.2], [0.0, 0.0, 0.0], ["a", "b", "c"])
    >>> round(found.mean, 6), round(found.between_families**2 + found.between_pairs**2, 4)
    (0.2, 0.01)
    """
    check_fraction("level", level)
    y, at, variance = _effects(values, stderrs, families)
    n_families = int(at.max()) + 1 if y.size else 0
    if n_families == 0:
        return RandomEffects(n_pairs=0, n_families=0)
    of_family, of_pair = _variances(y, variance, at)
    weights, means = _family_means(y, variance + of_pair, at, of_family)
    mean = float(weights @ means / weights.sum())
    low = high = next_low = next_high = float("nan")
    if n_families > 1:
        seen = float(weights @ (means - mean) ** 2) / (n_families - 1)
        error = float(np.sqrt(max(1.0, seen) / weights.sum()))
        half = float(stats.t.ppf((1 + level) / 2, n_families - 1)) * error
        low, high = mean - half, mean + half
        if n_families > 2:
            spread = np.sqrt(error**2 + of_family + of_pair)
            half = float(stats.t.ppf((1 + level) / 2, n_families - 2) * spread)
            next_low, next_high = mean - half, mean + half
    real = of_family + of_pair
    noise = _typical(variance)
    return RandomEffects(
        mean=mean,
        low=low,
        high=high,
        next_low=next_low,
        next_high=next_high,
        between_families=float(np.sqrt(of_family)) if n_families > 1 else np.nan,
        between_pairs=float(np.sqrt(of_pair)) if y.size > 1 else np.nan,
        i_squared=_share(real, noise) if y.size > 1 else np.nan,
        n_pairs=y.size,
        n_families=n_families,
    )


def _known(values: npt.ArrayLike, families: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    """Return the values that are known, with their families numbered from 0."""
    y = as_floats("values", values, ndim=1)
    names = np.asarray(families, dtype=object).astype(str)
    same_length(values=y, families=names)
    known = ~np.isnan(y)
    return y[known], np.unique(names[known], return_inverse=True)[1]


def _effects(
    values: npt.ArrayLike, stderrs: npt.ArrayLike, families: npt.ArrayLike
) -> tuple[FloatArray, IntArray, FloatArray]:
    y, errors = as_floats("values", values, ndim=1), as_floats("stderrs", stderrs, ndim=1)
    names = np.asarray(families, dtype=object).astype(str)
    same_length(values=y, stderrs=errors, families=names)
    known = ~np.isnan(y) & ~np.isnan(errors)
    if (errors[known] < 0).any():
        raise ValueError(f"stderrs must be at least 0; got {errors[known].min()}.")
    return y[known], np.unique(names[known], return_inverse=True)[1], errors[known] ** 2


def _family_means(
    y: FloatArray, variance: FloatArray, at: IntArray, of_family: float
) -> tuple[FloatArray, FloatArray]:
    """Return each family's mean of its pairs and the weight (1 / variance) of that mean."""
    inverse = 1 / variance
    within = np.bincount(at, weights=inverse)
    return 1 / (of_family + 1 / within), np.bincount(at, weights=inverse * y) / within


def _variances(y: FloatArray, variance: FloatArray, at: IntArray) -> tuple[float, float]:
    """Return the restricted maximum likelihood variances of families and of pairs.

    Found on a grid that is drawn closer around its best point, which has no start to depend on.
    Where every family is one pair the two cannot be told apart, and all of it is called the
    pairs'; of a single family nothing is known but its pairs.
    """
    n_families = int(at.max()) + 1
    scale = float(np.var(y, ddof=1)) if y.size > 1 else 0.0
    if scale == 0:
        return 0.0, _floor(variance, 1.0)
    floor = _floor(variance, scale)
    told_apart = 1 < n_families < y.size
    steps = np.linspace(0.0, _WIDEST, _GRID)
    spacing = steps[1]
    of_family, of_pair = (steps if told_apart else np.zeros(1)), steps
    best = (0.0, 0.0)
    for _ in range(_ROUNDS):
        # Squared, so that points lie close together near 0, where most variances are.
        grid = np.stack(np.meshgrid(of_family, of_pair, indexing="ij"), axis=-1).reshape(-1, 2)
        found = _deviances(y, variance + floor, at, scale * grid**2)
        best = tuple(grid[int(found.argmin())])
        around = np.linspace(-spacing, spacing, _GRID)
        spacing = around[1] - around[0]
        of_pair = np.maximum(best[1] + around, 0.0)
        of_family = np.maximum(best[0] + around, 0.0) if told_apart else np.zeros(1)
    return best[0] ** 2 * scale, best[1] ** 2 * scale + floor


def _deviances(y: FloatArray, variance: FloatArray, at: IntArray, parts: FloatArray) -> FloatArray:
    """Return -2 log restricted likelihood at each (families, pairs) variance, but for a constant.

    Pairs of a family are independent given the family, so that a family enters by the weighted
    mean of its pairs and by their spread around it.
    """
    member = (at[:, None] == np.arange(at.max() + 1)).astype(np.float64)
    total = variance + parts[:, 1:]
    within = (1 / total) @ member
    means = (y / total) @ member / within
    weights = 1 / (parts[:, :1] + 1 / within)
    mean = (weights * means).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
    return np.asarray(
        np.log(total).sum(axis=1)
        + np.log(within).sum(axis=1)
        - np.log(weights).sum(axis=1)
        + np.log(weights.sum(axis=1))
        + ((y - means[:, at]) ** 2 / total).sum(axis=1)
        + (weights * (means - mean) ** 2).sum(axis=1)
    )


def _floor(variance: FloatArray, scale: float) -> float:
    """Return what keeps weights finite where a change has no error of its own."""
    return 1e-9 * scale if not variance.all() else 0.0


def _share(real: float, noise: float) -> float:
    return float(real / (real + noise)) if real + noise else 0.0


def _typical(variance: FloatArray) -> float:
    """Return the variance of a typical measurement (Higgins and Thompson 2002, equation 9)."""
    if variance.size < 2 or not variance.all():
        return float(variance.mean())
    w = 1 / variance
    return float((w.size - 1) * w.sum() / (w.sum() ** 2 - (w**2).sum()))
