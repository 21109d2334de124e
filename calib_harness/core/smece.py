"""SmoothECE (Błasiok and Nakkiran 2023), to the numerics of the authors' package relplot.

The residuals (confidence - correct) are smoothed with a Gaussian of width σ that is reflected
at 0 and 1; the error at that width is the mean size of the smoothed residual. The width is
its own fixed point, found by bisection down to 1/1024: the error at it is not above it, and a
step below it is.

The value depends in its fourth digit on the mesh that stands for the integral. So that values
compare with published ones, grid, mesh and stabiliser are those of relplot.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import fft, sparse

from calib_harness.core.answers import Answers, Choices
from calib_harness.core.bin_errors import Simulation, Statistic, point_value
from calib_harness.core.checks import FloatArray, IntArray
from calib_harness.core.registry import metric

_HALVINGS = 10
_SMALLEST_WIDTH = 0.001
_DENSITY_FLOOR = 1e-4
_COARSEST_GRID = 1001
_COARSEST_MESH = 200
_ROWS_AT_ONCE = 64  # resamples per Fourier transform: bounds memory


def smece_of(answers: Answers) -> Statistic:
    """Return the function from (R, n) counts to (R,) SmoothECEs, each at its own width."""
    f = np.clip(answers.confidence, 0.0, 1.0)
    residual = f - answers.correct

    def evaluate(counts: FloatArray) -> FloatArray:
        return fixed_point(f, counts * residual, counts)[0]

    return evaluate


def smece_simulation(choices: Choices) -> Simulation:
    """Return the SmoothECE of the top label for simulated gold indices."""
    f = np.clip(choices.confidence, 0.0, 1.0)

    def evaluate(gold: IntArray) -> FloatArray:
        residuals = f - (gold == choices.prediction)
        return fixed_point(f, residuals, np.ones_like(residuals))[0]

    return evaluate


@metric(
    "smece",
    "lower",
    formula="∫ |smoothed (c − a)|, at the width equal to the error",
    source="Błasiok and Nakkiran 2023",
    statistic=smece_of,
    simulation=smece_simulation,
)
def smece(probs: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Return the SmoothECE of the predicted choice (Błasiok and Nakkiran 2023).

    smECE = ∫ |Σ_i (c_i - a_i) φ_σ(t - c_i)| dt / N with a reflected Gaussian φ_σ, at the
    width σ equal to the error itself; evaluated on the grid of the authors' package relplot.

    Arguments, result and errors as for `ece`, without options.

    Examples
    --------
    >>> smece([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    0.0
    """
    answers = Answers.of(probs, gold)
    return point_value(smece_of(answers), len(answers))


def fixed_point(
    f: FloatArray, residuals: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return SmoothECE and its width for each row of residuals.

    Parameters
    ----------
    f : ndarray, shape (n,)
        Confidences.
    residuals : ndarray, shape (R, n)
        Weighted (confidence - correct).
    weights : ndarray, shape (R, n)
        The weights.

    Returns
    -------
    error, width : ndarray, shape (R,)
    """
    grids = _Grids(f, residuals, weights)
    found = grids.error(1.0, np.arange(len(residuals)))
    high, low = np.ones_like(found), np.zeros_like(found)
    for _ in range(_HALVINGS):
        middle = (high + low) / 2
        value = np.full_like(found, np.inf)
        for width in np.unique(middle[middle >= _SMALLEST_WIDTH]):
            at = np.flatnonzero(middle == width)
            value[at] = grids.error(float(width), at)
        wide_enough = value <= middle
        found = np.where(wide_enough, value, found)
        high = np.where(wide_enough, middle, high)
        low = np.where(wide_enough, low, middle)
    return found, high


class _Grids:
    """Residuals and weights laid onto evenly spaced points, per number of points."""

    def __init__(self, f: FloatArray, residuals: FloatArray, weights: FloatArray) -> None:
        self._f = f
        self._tables = (residuals, weights)
        self._coarse: list[FloatArray] = []

    def error(self, width: float, rows: IntArray) -> FloatArray:
        """Return the error at one width for some rows."""
        n_points = max(_COARSEST_GRID, round(20 / width) // 2 + 1)
        mesh = np.linspace(0, 1, max(_COARSEST_MESH, round(10 / width)))
        errors = np.empty(len(rows))
        for part in np.array_split(np.arange(len(rows)), -(-len(rows) // _ROWS_AT_ONCE)):
            residual, density = (
                _at_mesh(_smooth(grid, width), mesh) for grid in self._laid(n_points, rows[part])
            )
            floor = _DENSITY_FLOOR * mesh.size
            errors[part] = np.abs(residual).sum(axis=1) / (density.sum(axis=1) + floor)
        return errors

    def _laid(self, n_points: int, rows: IntArray) -> Iterator[FloatArray]:
        # Every width from 0.01 up shares one grid: kept. Finer ones serve few rows each.
        if n_points == _COARSEST_GRID:
            if not self._coarse:
                spread = self._spread(n_points)
                self._coarse = [np.asarray(table @ spread) for table in self._tables]
            return (table[rows] for table in self._coarse)
        spread = self._spread(n_points)
        return (np.asarray(table[rows] @ spread) for table in self._tables)

    def _spread(self, n_points: int) -> sparse.csr_array:
        """Return the (n, n_points) table that shares each value between its two neighbours."""
        place = self._f * (n_points - 1)
        left = np.clip(place.astype(np.int64), 0, n_points - 2)
        right_share = place - left
        rows = np.arange(self._f.size)
        return sparse.csr_array(
            (
                np.concatenate([1.0 - right_share, right_share]),
                (np.concatenate([rows, rows]), np.concatenate([left, left + 1])),
            ),
            shape=(self._f.size, n_points),
        )


def _smooth(grid: FloatArray, width: float) -> FloatArray:
    """Convolve each row with a Gaussian of window length 1, the row reflected at both ends."""
    n_points = grid.shape[1]
    period = 2 * (n_points - 1)
    offsets = np.linspace(0, 1, n_points) - 0.5
    kernel = np.exp(-(offsets**2) / (2 * width**2)) / (np.sqrt(2 * np.pi) * width)
    wrapped = np.zeros(period)
    wrapped[(np.arange(n_points) - n_points // 2) % period] = kernel
    # A reflected row is periodic, so that the convolution is a product of its spectrum.
    periodic = np.concatenate([grid, grid[:, -2:0:-1]], axis=1)
    spectrum = fft.rfft(periodic, axis=1) * fft.rfft(wrapped)
    return np.asarray(fft.irfft(spectrum, n=period, axis=1)[:, :n_points])


def _at_mesh(grid: FloatArray, mesh: FloatArray) -> FloatArray:
    """Interpolate each row linearly at the points of the mesh."""
    place = mesh * (grid.shape[1] - 1)
    left = np.clip(place.astype(np.int64), 0, grid.shape[1] - 2)
    right_share = place - left
    return np.asarray(grid[:, left] * (1.0 - right_share) + grid[:, left + 1] * right_share)
