"""Whether a metric moves along a chain: a line through its stages, resampled over questions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib_harness.core.checks import FloatArray
from calib_harness.core.loss import mean_test
from calib_harness.core.resampling import Draws, interval_over, two_sided_over

#: What a trend says of a metric.
TREND_COLUMNS = ("change", "stderr", "low", "high", "p_value")


def line_weights(position: Sequence[float]) -> FloatArray:
    """Return the weights that make the values of the stages into their fitted change.

    The least squares line through values at these positions rises, from the first position to
    the last, by the weighted sum of the values.

    Parameters
    ----------
    position : sequence of float
        Of each stage, not all the same.

    Returns
    -------
    ndarray, shape (stages,)

    Examples
    --------
    >>> line_weights([0, 1, 2]).tolist()
    [-1.0, 0.0, 1.0]
    """
    x = np.asarray(position, dtype=np.float64)
    centred = x - x.mean()
    return np.asarray(centred * (x.max() - x.min()) / (centred**2).sum())


def trend_of_draws(stages: Sequence[Draws], position: Sequence[float]) -> dict[str, float]:
    """Return the fitted change of a metric along a chain, all stages resampled together.

    Parameters
    ----------
    stages : sequence of Draws
        Of one metric on the same questions, from resamples of one seed.
    position : sequence of float
        Of each stage.

    Returns
    -------
    dict of str to float
        ``change`` from the first position to the last along the line, its standard error, 95 %
        interval and two-sided p-value of a level line. The interval of a binned error holds those
        of the worlds in which all gaps are real, in which all small gaps are noise, and the two
        mixtures of them over the stages that tilt the line most either way.
    """
    weights = line_weights(position)
    change = float(weights @ [each.value for each in stages])
    worlds = []
    for chosen in _mixtures(stages, weights):
        parts = [
            w * each.deviations[:, v] for w, each, v in zip(weights, stages, chosen, strict=True)
        ]
        worlds.append(np.sum(parts, axis=0))
    most = float(np.abs(weights).sum() * max(np.abs(each.bounds).max() for each in stages))
    spread = interval_over(change, worlds, 0.95, (-most, most))
    return dict(zip(TREND_COLUMNS, (change, *spread, two_sided_over(change, worlds)), strict=True))


def trend_of_losses(losses: Sequence[FloatArray], position: Sequence[float]) -> dict[str, float]:
    """Return the fitted change of a mean of per-question losses, by Student's t.

    Parameters
    ----------
    losses : sequence of ndarray, each of shape (n,)
        Of each stage, on the same questions.
    position : sequence of float

    Returns
    -------
    dict of str to float
        As from `trend_of_draws`.
    """
    test = mean_test(line_weights(position) @ np.stack(losses))
    values = (test.mean, test.stderr, test.low, test.high, test.p_value)
    return dict(zip(TREND_COLUMNS, values, strict=True))


def _mixtures(stages: Sequence[Draws], weights: FloatArray) -> list[tuple[int, ...]]:
    """Return which world each stage is in: all in the same, or those that tilt the line most."""
    with np.errstate(invalid="ignore"):
        means = np.stack([each.deviations.mean(axis=0) for each in stages])
    tilts = weights[:, None] * means
    n_worlds = means.shape[1]
    mixtures = [(v,) * len(stages) for v in range(n_worlds)]
    mixtures += [tuple(map(int, tilts.argmax(axis=1))), tuple(map(int, tilts.argmin(axis=1)))]
    return list(dict.fromkeys(mixtures))
