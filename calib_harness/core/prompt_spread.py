"""How far a metric depends on how questions are asked, and how much of a change is of that kind."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calib_harness.core.checks import FloatArray
from calib_harness.core.resampling import interval_over, two_sided_over

_LEVEL = 0.95


@dataclass(frozen=True)
class PromptSpread:
    """A metric of two models under the same prompts, on the same questions.

    Attributes
    ----------
    base_mean, aligned_mean : float
        Mean over the prompts.
    change, low, high, p_value : float
        Change of the mean, aligned minus base, for these prompts and questions like these.
    base_spread, aligned_spread : float
        Standard deviation over the prompts, without what drawing the questions adds to it.
    spread_change, spread_low, spread_high, spread_p_value : float
        Change of that standard deviation: whether the model depends more on its prompt.
    change_spread : float
        Standard deviation over the prompts of the change under each, noise taken off as well.
    share, share_low, share_high : float
        Part of the mean squared change that is not common to all prompts: 0 if the change is the
        same under each, 1 if its mean over the prompts is 0. NaN where the mean squared change is
        no larger than drawing the questions makes it: there is nothing to have a share of.
    """

    base_mean: float
    aligned_mean: float
    change: float
    low: float
    high: float
    p_value: float
    base_spread: float
    aligned_spread: float
    spread_change: float
    spread_low: float
    spread_high: float
    spread_p_value: float
    change_spread: float
    share: float
    share_low: float
    share_high: float


def prompt_spread(
    values: npt.ArrayLike, deviations: npt.ArrayLike, worlds: npt.ArrayLike | None = None
) -> PromptSpread:
    """Compare a metric of two models over several prompts.

    Questions are resampled together for all prompts and both models. A variance over prompts is
    too large by the variance that drawing the questions adds; resamples tell how large that is,
    and it is taken off (down to 0). Intervals are basic ones: the truth lies as far from what was
    measured as that lies from its resamples. Spreads and shares end at 0 or 1, where resamples can
    lie on one side only: their intervals hold the percentile interval as well. All are for the
    prompts that were asked: what other prompts would give, `change_spread` tells.

    Parameters
    ----------
    values : array_like, shape (2, J)
        The metric of base and aligned model under each of J >= 2 prompts.
    deviations : array_like, shape (R, 2, J)
        The same of R resamples of the questions, minus `values`.
    worlds : array_like, shape (R, 2, J, V), optional
        How far `values` may lie from the truth in each of V worlds, for metrics whose bias is not
        known (`core.resampling.Draws`). The interval of the change holds those of all pairs of
        worlds then. Of spreads and shares it is not known what such a bias does to them: they
        have no intervals.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = prompt_spread([[0.5, 0.6], [0.7, 0.9]], rng.normal(0, 0.01, (500, 2, 2)))
    >>> round(found.change, 2), round(found.change_spread, 2), round(found.spread_change, 2)
    (0.25, 0.07, 0.07)
    """
    table, moved = np.asarray(values, dtype=np.float64), np.asarray(deviations, dtype=np.float64)
    moved = moved[np.isfinite(moved).all(axis=(1, 2))]
    change = float(table[1].mean() - table[0].mean())
    of_change = moved[:, 1].mean(axis=1) - moved[:, 0].mean(axis=1)
    changes = [of_change] if worlds is None else _changes_in_worlds(np.asarray(worlds))
    _, low, high = interval_over(change, changes, _LEVEL, (-np.inf, np.inf))
    spreads = [_spread(table[side], moved[:, side]) for side in (0, 1)]
    grown = spreads[1].value - spreads[0].value
    of_grown = _both_ways(spreads[1].deviations - spreads[0].deviations)
    _, spread_low, spread_high = interval_over(grown, of_grown, _LEVEL, (-np.inf, np.inf))
    apart = _spread(table[1] - table[0], moved[:, 1] - moved[:, 0])
    share, share_low, share_high = _share(apart, change, of_change, table.shape[1])
    if not _is_any(table[1] - table[0], moved[:, 1] - moved[:, 0]):
        share, share_low, share_high = (np.nan,) * 3
    spread_p_value = two_sided_over(grown, of_grown)
    if worlds is not None:
        spread_low, spread_high, spread_p_value, share_low, share_high = (np.nan,) * 5
    return PromptSpread(
        base_mean=float(table[0].mean()),
        aligned_mean=float(table[1].mean()),
        change=change,
        low=low,
        high=high,
        p_value=two_sided_over(change, changes),
        base_spread=spreads[0].value,
        aligned_spread=spreads[1].value,
        spread_change=grown,
        spread_low=spread_low,
        spread_high=spread_high,
        spread_p_value=spread_p_value,
        change_spread=apart.value,
        share=share,
        share_low=share_low,
        share_high=share_high,
    )


def _changes_in_worlds(worlds: FloatArray) -> list[FloatArray]:
    """Return how far the change of the mean may be off, (R,) in each pair of worlds."""
    means = worlds[np.isfinite(worlds).all(axis=(1, 2, 3))].mean(axis=2)
    pairs = itertools.product(range(means.shape[2]), repeat=2)
    return [means[:, 1, j] - means[:, 0, i] for i, j in pairs]


@dataclass(frozen=True)
class _Spread:
    """A standard deviation over prompts, and how far its resamples lie from it."""

    value: float
    deviations: FloatArray
    measured: float  # as measured, with the noise of the questions
    resampled: FloatArray


def _spread(values: FloatArray, moved: FloatArray) -> _Spread:
    """Take the questions' noise off the variance of (J,) values and of (R, J) resamples."""
    noise = (moved - moved.mean(axis=0)).var(axis=1, ddof=1).mean()
    measured = float(values.std(ddof=1))
    resampled = np.sqrt(np.maximum((values + moved).var(axis=1, ddof=1) - noise, 0.0))
    value = float(np.sqrt(max(measured**2 - noise, 0.0)))
    return _Spread(value, resampled - measured, measured, resampled)


def _both_ways(deviations: FloatArray) -> list[FloatArray]:
    """Return deviations as they are, for the basic interval, and mirrored, for the percentiles."""
    return [deviations, -deviations]


def _is_any(changes: FloatArray, moved: FloatArray) -> bool:
    """Tell whether (J,) changes are larger than their (R, J) resamples' noise makes them."""
    noise = ((moved - moved.mean(axis=0)) ** 2).mean(axis=1)
    return bool((changes**2).mean() > np.quantile(noise, _LEVEL))


def _share(
    apart: _Spread, change: float, of_change: FloatArray, n_prompts: int
) -> tuple[float, float, float]:
    """Return the part of the mean squared change that differs between prompts, with an interval."""
    factor = (n_prompts - 1) / n_prompts  # of the variance over these prompts, not of a sample
    noise = of_change.var()

    def part(spread: FloatArray, squared: FloatArray) -> FloatArray:
        own, common = factor * spread**2, np.maximum(squared, 0.0)
        return np.divide(own, own + common, out=np.zeros_like(own), where=own + common > 0)

    value = part(np.array(apart.value), np.array(change**2 - noise))
    measured = part(np.array(apart.measured), np.array(change**2))
    resampled = part(apart.resampled, (change + of_change - of_change.mean()) ** 2 - noise)
    _, low, high = interval_over(float(value), _both_ways(resampled - measured), _LEVEL, (0.0, 1.0))
    return float(value), low, high
