"""A metric with its resamples, and what is read off them: intervals, changes, p-values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from calib_harness.core.checks import FloatArray, check_fraction
from calib_harness.core.resampling import intervals_over, two_sided_over


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
    """

    value: float
    deviations: FloatArray
    bounds: tuple[float, float]

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
