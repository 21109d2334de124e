"""SmoothECE (Błasiok and Nakkiran 2023), to the definition.

The residuals (confidence - correct) are smoothed with a Gaussian of width σ that is reflected
at 0 and 1; the error at that width is the mean size of the smoothed residual, ∫ |r_σ(t)| dt. It
does not grow with σ, so that it equals σ at one width only: that is the SmoothECE.

On [0, 1] a reflected Gaussian is a series of cosines,

    φ_σ(t, c) = 1 + 2 Σ_m exp(-(π m σ)² / 2) cos(π m c) cos(π m t),

and so is r_σ: its coefficients are those of the residuals, damped. The residuals' own
coefficients are computed once, each width costs one transform back. The authors' package relplot
sums a reflected grid instead; its version 1.0.3 counts the end nodes of that grid once, not twice,
and is off by up to a fifth where confidences reach 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, sparse

from calib_harness.core.answers import Answers, Choices
from calib_harness.core.bin_errors import Simulation, Statistic, point_value
from calib_harness.core.checks import FloatArray, IntArray, check_pairs
from calib_harness.core.registry import metric

#: The narrowest width: an error below it is that at this width, at most this far off.
SMALLEST_WIDTH = 0.001
_POINTS = 2**14  # that residuals are shared between: moves an error by less than a millionth
_REACH = 2.2  # divided by a width: the terms of the series that are not damped below 1e-10
_FEWEST_STRIPS = 2**12  # of the integral: those of a kink move it by a ten-millionth
_ACCURACY = 1e-9  # of the width
_MOST_STEPS = 60
_ROWS_AT_ONCE = 32  # per transform: bounds memory
_CURVE_STRIPS = 128  # between the places of a smooth curve
# Weight of a question a width away, of one that is there: less is too little for a mean.
_LEAST_WEIGHT = np.exp(-0.5)


def smece_of(answers: Answers) -> Statistic:
    """Return the function from (R, n) counts to (R,) SmoothECEs, each at its own width."""
    f = np.clip(answers.confidence, 0.0, 1.0)
    spread, residual = _shared_between_points(f), f - answers.correct

    def evaluate(counts: FloatArray) -> FloatArray:
        total = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        return _fixed_points(counts * (residual / total), spread)

    return evaluate


def smece_simulation(choices: Choices) -> Simulation:
    """Return the SmoothECE of the top label for simulated gold indices."""
    f = np.clip(choices.confidence, 0.0, 1.0)
    spread = _shared_between_points(f)

    def evaluate(gold: IntArray) -> FloatArray:
        return _fixed_points((f - (gold == choices.prediction)) / len(choices), spread)

    return evaluate


@metric(
    "smece",
    "lower",
    formula="∫ |smoothed (c − a)|, at the width equal to the error",
    source="Błasiok and Nakkiran 2023",
    statistic=smece_of,
    simulation=smece_simulation,
    has_interval=False,
)
def smece(probs: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Return the SmoothECE of the predicted choice (Błasiok and Nakkiran 2023).

    smECE = ∫ |Σ_i (c_i - a_i) φ_σ(t, c_i)| dt / N with a reflected Gaussian φ_σ, at the width σ
    equal to the error itself (and at .001 where that is narrower). It is at least the
    |`overconfidence`|. The authors' package relplot 1.0.3 differs, by up to a fifth of the value
    where confidences reach 1: it counts the ends of its reflected grid once instead of twice.

    There is a standard error of it but no interval: none that was tried holds the truth.

    Arguments, result and errors as for `ece`, without options.

    Examples
    --------
    >>> smece([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    0.0

    Confidences 1 and .6, only the second one right: above |(1 - .4) / 2|.

    >>> round(smece([[1.0, 0.0], [0.6, 0.4]], [1, 0]), 3)
    0.337
    """
    answers = Answers.of(probs, gold)
    return point_value(smece_of(answers), len(answers))


@dataclass(frozen=True, eq=False)
class SmoothCurve:
    """The share of right answers around each confidence: what `smece` finds miscalibrated.

    Attributes
    ----------
    confidence : ndarray, shape (129,)
        From 0 to 1.
    accuracy : ndarray, shape (129,)
        Mean of the outcomes, weighted by the kernel; NaN where no confidence is near.
    width : float
        Of the kernel, a reflected Gaussian: the SmoothECE itself, or .001 if that is narrower.
    """

    confidence: FloatArray
    accuracy: FloatArray
    width: float


def smooth_curve(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> SmoothCurve:
    """Smooth the outcomes at the width of `smece` (the diagram of Błasiok and Nakkiran 2023).

    The Nadaraya-Watson mean Σ_i a_i φ_σ(t, c_i) / Σ_i φ_σ(t, c_i). It is left out where all
    questions together weigh less than one does at a distance of σ.

    Parameters
    ----------
    confidence, correct : array_like, shape (n,)
        Probabilities, and 1 where they came true, else 0.

    Returns
    -------
    SmoothCurve

    Raises
    ------
    ValueError
        If the pairs are not probabilities and 0/1.

    Examples
    --------
    Always sure and right every other time: an error of .5, at whose width the mean is ½.

    >>> curve = smooth_curve([1.0, 1.0], [1, 0])
    >>> round(curve.width, 3), round(float(curve.accuracy[-1]), 3)
    (0.5, 0.5)
    """
    c, hit = check_pairs(confidence, correct)
    rows = np.stack([c - hit, hit, np.ones(c.size)]) / max(c.size, 1)
    coefficients = _coefficients(np.asarray(rows @ _shared_between_points(c)))
    width = np.maximum(_own_widths(coefficients[:1]), SMALLEST_WIDTH)
    hits, density = _smoothed(coefficients[1:], np.repeat(width, 2))
    step = (density.size - 1) // _CURVE_STRIPS
    hits, density = hits[::step], density[::step]
    near = density * c.size * width * np.sqrt(2 * np.pi) >= _LEAST_WEIGHT
    accuracy = np.full(near.size, np.nan)
    accuracy[near] = np.clip(hits[near] / density[near], 0.0, 1.0)
    return SmoothCurve(np.arange(near.size) / _CURVE_STRIPS, accuracy, float(width[0]))


def _shared_between_points(f: FloatArray) -> sparse.csr_array:
    """Return the (n, points) table that shares each value between its two neighbours."""
    place = f * _POINTS
    left = np.minimum(place.astype(np.int64), _POINTS - 1)
    right_share = place - left
    rows = np.arange(f.size)
    return sparse.csr_array(
        (
            np.concatenate([1.0 - right_share, right_share]),
            (np.concatenate([rows, rows]), np.concatenate([left, left + 1])),
        ),
        shape=(f.size, _POINTS + 1),
    )


def _fixed_points(residuals: FloatArray, spread: sparse.csr_array) -> FloatArray:
    """Return the SmoothECE of each row of residuals, shape (R, n), divided by their number."""
    found = np.empty(len(residuals))
    for start in range(0, len(residuals), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        found[part] = _own_widths(_coefficients(np.asarray(residuals[part] @ spread)))
    return found


def _coefficients(grid: FloatArray) -> FloatArray:
    """Return Σ_j grid_j cos(π m j / points) of each row, for the first terms m."""
    # The transform counts all but the two ends twice.
    halved = grid * 0.5
    halved[:, [0, -1]] *= 2.0
    return np.asarray(fft.dct(halved, type=1, axis=1)[:, : round(_REACH / SMALLEST_WIDTH)])


def _own_widths(coefficients: FloatArray) -> FloatArray:
    """Return the error of each row at the width that equals it.

    The error minus the width falls with the width, so that it has one zero: above the size of
    the mean residual, which no error falls below, and at most at the error of a narrower width.
    It is drawn in by the Illinois variant of regula falsi (Dowell and Jarratt 1971).
    """
    rows = np.arange(len(coefficients))
    low = np.clip(np.abs(coefficients[:, 0]), SMALLEST_WIDTH, 1.0)
    found = _errors(coefficients, low)
    open_ = found > low + _ACCURACY
    high = np.clip(found, low, 1.0)
    above, below = found - low, _errors(coefficients, high) - high
    for _ in range(_MOST_STEPS):
        open_ &= high - low > _ACCURACY
        at = rows[open_]
        if not at.size:
            break
        width = high[at] - below[at] * (high[at] - low[at]) / (below[at] - above[at])
        gap = _errors(coefficients[at], width) - width
        found[at] = width + gap
        open_[at[np.abs(gap) <= _ACCURACY]] = False
        wider = gap > 0  # the zero lies at a larger width
        up, down = at[wider], at[~wider]
        low[up], above[up] = width[wider], gap[wider]
        high[down], below[down] = width[~wider], gap[~wider]
        # An end that stays loses half of its weight, so that the other one moves past the zero.
        below[up] *= 0.5
        above[down] *= 0.5
    return found


def _errors(coefficients: FloatArray, widths: FloatArray) -> FloatArray:
    """Return ∫ |r_σ(t)| dt of each row at its width, by the trapezoidal rule."""
    smoothed = np.abs(_smoothed(coefficients, widths))
    n_strips = smoothed.shape[1] - 1
    return np.asarray((smoothed.sum(axis=1) - 0.5 * (smoothed[:, 0] + smoothed[:, -1])) / n_strips)


def _smoothed(coefficients: FloatArray, widths: FloatArray) -> FloatArray:
    """Return each row smoothed at its width, at the ends of 2^k strips of [0, 1]."""
    n_terms = min(int(_REACH / widths.min()) + 1, coefficients.shape[1])
    n_strips = max(_FEWEST_STRIPS, 2 ** (n_terms - 1).bit_length())
    m = np.arange(n_terms)
    damped = np.zeros((len(coefficients), n_strips + 1))
    damped[:, :n_terms] = coefficients[:, :n_terms]
    damped[:, :n_terms] *= np.exp(-0.5 * (np.pi * widths[:, None] * m) ** 2)
    return np.asarray(fft.dct(damped, type=1, axis=1))
