"""A metric with its resamples, and what is read off them: intervals, changes, p-values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from calib_harness.core.checks import FloatArray, check_fraction
from calib_harness.core.resampling import interval_over, two_sided_over


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

    def estimate(self, level: float = 0.95) -> Estimate:
        """Return the value with its standard error and interval."""
        worlds = list(self.deviations.T)
        return Estimate(self.value, *interval_over(self.value, worlds, level, self.bounds))


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
    result = {}
    for name, first in base.items():
        second = aligned[name]
        change = float(_minus(np.float64(second.value), np.float64(first.value)))
        span = first.bounds[1] - first.bounds[0]
        worlds = _pair_worlds(first.deviations, second.deviations, same=same)
        spread = interval_over(change, worlds, level, (-span, span))
        p_value = two_sided_over(change, worlds)
        result[name] = PairedChange(first.value, second.value, change, *spread, p_value=p_value)
    return result


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
