"""Resamples of questions, and what is read off them: intervals, changes, p-values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from calib_harness.core.bin_errors import Statistic
from calib_harness.core.checks import FloatArray, IntArray, check_count, check_fraction

_Key = TypeVar("_Key")

CELLS_AT_ONCE = 250_000  # cells of an (R, n) table of float64 held at a time: 2 MB, a cache
CELLS_KEPT = 32_000_000  # cells of a table of counts (two bytes each) kept for reuse


@dataclass(frozen=True)
class Estimate:
    """A metric with its bootstrap standard error and interval, see `bootstrap`."""

    value: float
    stderr: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Draws:
    """A metric of some questions and of their resamples.

    Attributes
    ----------
    value : float
    deviations : ndarray, shape (R, V)
        Resampled values minus what they were resampled from, in V worlds (see `bootstrap`).
    bounds : tuple of float
        The least and the largest value.
    has_interval : bool
        False for a metric that has a standard error only, see `Metric`.
    """

    value: float
    deviations: FloatArray
    bounds: tuple[float, float]
    has_interval: bool = True

    @property
    def worlds(self) -> list[FloatArray]:
        """The deviations in each world, (R,) each."""
        return list(self.deviations.T)


@dataclass(frozen=True)
class PairedChange:
    """A metric of two models on the same questions, and the change from base to aligned.

    `change` is aligned minus base; `stderr`, `low` and `high` are the bootstrap's for it;
    `p_value` is two-sided for no change.
    """

    base: float
    aligned: float
    change: float
    stderr: float
    low: float
    high: float
    p_value: float


def check_request(n_resamples: object, rng: object) -> int:
    """Return the number of resamples, or raise ValueError about it or its source."""
    if isinstance(rng, bool) or not isinstance(rng, np.random.Generator | int | np.integer):
        raise ValueError(f"rng must be a numpy.random.Generator or an int seed; got {rng!r}.")
    return check_count("n_resamples", n_resamples, least=2)


def block_sizes(n: int, n_resamples: int) -> list[int]:
    """Return how many resamples of n questions to hold at a time."""
    rows = max(1, CELLS_AT_ONCE // n)
    return [min(rows, n_resamples - start) for start in range(0, n_resamples, rows)]


def resample_counts(
    n: int,
    n_resamples: int,
    rng: np.random.Generator | int,
    clusters: IntArray | None = None,
) -> Iterator[FloatArray]:
    """Yield how often each of `n_resamples` resamples of n questions holds each question.

    Parameters
    ----------
    n : int
        Number of questions.
    n_resamples : int
        Number of resamples.
    rng : numpy.random.Generator or int
        Generator to draw from, or a seed. Counts of a seed are kept for the next call with
        the same n, number and seed, unless they are very many.
    clusters : ndarray of int, shape (n,), or None
        Number from 0 of the cluster of each question. Clusters are drawn whole then, as many as
        there are; as they differ in size, the counts of a row are scaled to sum to n.

    Yields
    ------
    ndarray, shape (r, n)
        Blocks of rows, `n_resamples` in all; each row sums to n. The rows do not depend on
        the size of the blocks.
    """
    if clusters is not None:
        sizes, generator = np.bincount(clusters), np.random.default_rng(rng)
        for size in block_sizes(n, n_resamples):
            drawn = np.stack([_draw(sizes.size, generator) for _ in range(size)])
            yield drawn[:, clusters] * (n / (drawn @ sizes))[:, None]
        return
    if isinstance(rng, np.random.Generator) or n * n_resamples > CELLS_KEPT:
        generator = np.random.default_rng(rng)
        for size in block_sizes(n, n_resamples):
            yield np.stack([_draw(n, generator) for _ in range(size)]).astype(np.float64)
        return
    kept, start = _kept_counts(n, n_resamples, int(rng)), 0
    for size in block_sizes(n, n_resamples):
        yield kept[start : start + size].astype(np.float64)
        start += size


def _draw(n: int, generator: np.random.Generator) -> IntArray:
    return np.bincount(generator.integers(n, size=n), minlength=n)


@lru_cache(maxsize=2)
def _kept_counts(n: int, n_resamples: int, seed: int) -> npt.NDArray[np.uint16]:
    generator = np.random.default_rng(seed)
    counts = np.empty((n_resamples, n), dtype=np.uint16)
    for row in counts:
        row[:] = _draw(n, generator)
    return counts


def resampled_values(
    statistics: dict[_Key, Statistic],
    n: int,
    n_resamples: int,
    rng: np.random.Generator | int,
    clusters: IntArray | None = None,
) -> dict[_Key, FloatArray]:
    """Return the values of each statistic of n questions, (R, ...); all share the resamples."""
    blocks: dict[_Key, list[FloatArray]] = {name: [] for name in statistics}
    for counts in resample_counts(n, n_resamples, rng, clusters):
        for name, statistic in statistics.items():
            blocks[name].append(statistic(counts))
    return {name: np.concatenate(parts) for name, parts in blocks.items()}


def spread_of(
    draws: FloatArray, level: float, bounds: tuple[float, float]
) -> tuple[float, float, float]:
    """Return standard deviation and central interval of the draws, the latter cut at bounds."""
    if draws.size < 2:
        return np.nan, np.nan, np.nan
    ends = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    low, high = np.clip(ends, *bounds)
    return float(np.std(draws, ddof=1)), float(low), float(high)


def interval_over(
    value: float, worlds: Sequence[FloatArray], level: float, bounds: tuple[float, float]
) -> tuple[float, float, float]:
    """Return standard deviation and interval of a value from its deviations in several worlds.

    Parameters
    ----------
    value : float
        What was measured.
    worlds : sequence of ndarray, each of shape (R,)
        Resampled deviations of the value from what it was resampled from, in each world that
        the data do not rule out. In each, the true value is the measured one minus a
        deviation: the basic interval of Davison and Hinkley (1997, section 5.2).
    level : float
        Nominal coverage.
    bounds : tuple of float
        Least and largest true value.

    Returns
    -------
    stderr, low, high : float
        The standard deviation in the first world; the ends of the smallest interval that holds
        the interval of each world and the value itself.
    """
    (found,) = intervals_over([value], [worlds], level, [bounds])
    return found


def intervals_over(
    values: Sequence[float],
    worlds: Sequence[Sequence[FloatArray]],
    level: float,
    bounds: Sequence[tuple[float, float]],
) -> list[tuple[float, float, float]]:
    """Do what `interval_over` does for several values of the same resamples, much faster."""
    table = np.stack([draws for of_value in worlds for draws in of_value])
    tails = [(1 + level) / 2, (1 - level) / 2]
    quantiles, spreads = np.full((len(table), 2), np.nan), np.full(len(table), np.nan)
    whole = np.isfinite(table).all(axis=1)
    if whole.any() and table.shape[1] >= 2:
        quantiles[whole] = np.quantile(table[whole], tails, axis=1).T
        spreads[whole] = np.std(table[whole], axis=1, ddof=1)
    for i in np.flatnonzero(~whole):
        known = table[i, np.isfinite(table[i])]
        if known.size >= 2:
            quantiles[i], spreads[i] = np.quantile(known, tails), np.std(known, ddof=1)
    found, start = [], 0
    for value, of_value, (least, most) in zip(values, worlds, bounds, strict=True):
        here = slice(start, start + len(of_value))
        start = here.stop
        ends = np.clip(value - quantiles[here], least, most)
        if not np.isfinite(value) or np.isnan(ends).any():
            found.append((np.nan, np.nan, np.nan))
            continue
        low, high = min(value, float(ends.min())), max(value, float(ends.max()))
        found.append((float(spreads[here.start]), low, high))
    return found


def two_sided_over(value: float, worlds: Sequence[FloatArray]) -> float:
    """Return the two-sided p-value for a true value of 0; arguments as for `interval_over`.

    In each world, a true value of 0 or of the other sign needs a deviation at least as large
    as the value; the world that makes this easiest decides. The p-value is below 1 - level
    where the interval leaves 0 out (but for the one that is added to the counts, because the
    data are a possible resample themselves).
    """
    known = [draws[np.isfinite(draws)] for draws in worlds]
    if not np.isfinite(value) or min(draws.size for draws in known) == 0:
        return np.nan
    if value == 0:
        return 1.0
    crossing = [(draws >= value if value > 0 else draws <= value) for draws in known]
    return float(min(1.0, max(2 * (1 + each.sum()) / (1 + each.size) for each in crossing)))


def estimates_of(draws: dict[str, Draws], level: float = 0.95) -> dict[str, Estimate]:
    """Return each value with its standard error and interval; all must share their resamples."""
    spreads = intervals_over(
        [each.value for each in draws.values()],
        [each.worlds for each in draws.values()],
        level,
        [each.bounds for each in draws.values()],
    )
    return {
        name: Estimate(each.value, *spread)
        if each.has_interval
        else Estimate(each.value, spread[0], np.nan, np.nan)
        for (name, each), spread in zip(draws.items(), spreads, strict=True)
    }


def changes_between(
    base: dict[str, Draws], aligned: dict[str, Draws], *, same: bool, level: float = 0.95
) -> dict[str, PairedChange]:
    """Return the changes of `paired_bootstrap` from draws that share their resamples.

    Parameters
    ----------
    base, aligned : dict of str to Draws
        Of the same metrics and questions, resamples of the same seed and number.
    same : bool
        Whether both models have the same predictions.
    level : float
    """
    check_fraction("level", level)
    both = [(first, aligned[name]) for name, first in base.items()]
    changes = [float(_minus(np.float64(b.value), np.float64(a.value))) for a, b in both]
    worlds = [_pair_worlds(a.deviations, b.deviations, same=same) for a, b in both]
    spans = [a.bounds[1] - a.bounds[0] for a, _ in both]
    spreads = intervals_over(changes, worlds, level, [(-span, span) for span in spans])
    return {
        name: PairedChange(
            a.value, b.value, change, *spread, p_value=two_sided_over(change, of_change)
        )
        if a.has_interval
        else PairedChange(a.value, b.value, change, spread[0], np.nan, np.nan, np.nan)
        for name, (a, b), change, of_change, spread in zip(
            base, both, changes, worlds, spreads, strict=True
        )
    }


def _pair_worlds(base: FloatArray, aligned: FloatArray, *, same: bool) -> list[FloatArray]:
    """Return the deviations of the change, (R,) in each pair of worlds of the two models.

    Models with the same predictions live in the same world.
    """
    worlds = range(base.shape[1])
    pairs = [(i, j) for i in worlds for j in worlds if i == j or not same]
    return [_minus(aligned[:, j], base[:, i]) for i, j in pairs]


def _minus(left: Any, right: Any) -> Any:
    with np.errstate(invalid="ignore"):  # inf - inf is undefined, and counted as such
        return left - right
