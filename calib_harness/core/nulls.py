"""What a perfectly calibrated model would show: what calibration errors are read against."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from calib_harness.core.answers import Answers, Choices
from calib_harness.core.binning import DEFAULT_N_BINS
from calib_harness.core.calibration import pairs_error
from calib_harness.core.checks import FloatArray, IntArray, check_fraction, check_pairs
from calib_harness.core.metrics import METRICS, metrics_named
from calib_harness.core.options import DEFAULT_N_RESAMPLES, check_options
from calib_harness.core.registry import Metric
from calib_harness.core.resampling import block_sizes, check_request, spread_of

#: Calibration errors: the metrics that a calibrated model would not show as 0, and `sce_ova`.
CALIBRATION_ERRORS = tuple(name for name, metric in METRICS.items() if metric.simulation)


def has_null(metric: str) -> bool:
    """Whether a metric is a calibration error, which is read against what calibrated models show.

    sce_ova is computed like one, and is none.
    """
    return metric in METRICS and METRICS[metric].simulation is not None and metric != "sce_ova"


@dataclass(frozen=True)
class Null:
    """What a metric shows for a perfectly calibrated model: mean, spread and interval."""

    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Excess:
    """A calibration error beside what a perfectly calibrated model would show.

    Attributes
    ----------
    value : float
        The error measured.
    null : Null
        The error of a calibrated model with the same probabilities.
    excess : float
        `value` minus the mean of the null: 0 on average for a calibrated model, however sharp.
    p_value : float
        One-sided, for calibration: how often a calibrated model shows as much.
    """

    value: float
    null: Null
    excess: float
    p_value: float


class Spiegelhalter(NamedTuple):
    """Spiegelhalter's z and its two-sided p-value."""

    z: float
    p_value: float


def calibrated_null(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike | None = None,
    *,
    metric: str = "ece",
    n_resamples: int = DEFAULT_N_RESAMPLES,
    rng: np.random.Generator | int,
    level: float = 0.95,
    **options: Any,
) -> Null:
    """Return what a perfectly calibrated model with these very probabilities would show.

    Each simulation draws every gold choice from the question's own probabilities; a
    prediction then comes true with probability c_i, its confidence. The metric of such
    golds is not 0 (a plug-in ECE is biased upwards), and the measured value has to be read
    against it. Where the mean has a formula (ECE, SCE, ACE, TACE: hits in a bin have a
    Poisson-binomial distribution) it is exact; spread and interval are simulated.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, optional
        Ignored; it lets metrics and null be called alike.
    metric : str
        A key of `METRICS`.
    n_resamples : int
        Number of simulations.
    rng, level, **options
        As for `bootstrap`.

    Returns
    -------
    Null

    Raises
    ------
    ValueError
        If the metric or an option is unknown, or a row cannot be used.

    Examples
    --------
    Two answers of confidence 1 are always right; of confidence 1/2, they are right 0, 1 or 2
    times, with gaps 1/2, 0 and 1/2 in a quarter, half and quarter of the cases.

    >>> calibrated_null([[1.0, 0.0], [1.0, 0.0]], rng=0).mean
    0.0
    >>> calibrated_null([[0.5, 0.5], [0.5, 0.5]], rng=0).mean
    0.25
    """
    n_resamples = check_request(n_resamples, rng)
    check_fraction("level", level)
    (chosen,) = metrics_named([metric])
    check_options(**options)
    choices = Choices.checked(probs)
    (draws,) = _simulated([chosen], choices, n_resamples, rng, options).values()
    return _null(chosen, choices, draws, level, options)


def excesses(
    names: Collection[str],
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_resamples: int = DEFAULT_N_RESAMPLES,
    rng: np.random.Generator | int,
    level: float = 0.95,
    **options: Any,
) -> dict[str, Excess]:
    """Return calibration errors beside their nulls; all share the simulations.

    Raw errors of two models must not be compared, for their biases differ: of two calibrated
    models the sharper one tends to show the smaller ECE. The excess of either is 0 on average.

    Parameters
    ----------
    names : collection of str
        Metrics of `CALIBRATION_ERRORS`.
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.
    n_resamples, rng, level, **options
        As for `bootstrap`.

    Returns
    -------
    dict of str to Excess
        In the order of `names`. p-values are (1 + number of simulations that show at least the
        value) / (1 + number of simulations).

    Raises
    ------
    ValueError
        If a metric is no calibration error or unknown, or a row or an option cannot be used.

    Examples
    --------
    Confidence 1, right once in two: never seen in a calibrated model.

    >>> found = excesses(["ece"], [[1.0, 0.0], [1.0, 0.0]], [0, 1], rng=0, n_resamples=99)["ece"]
    >>> found.value, found.null.mean, found.excess, found.p_value
    (0.5, 0.0, 0.5, 0.01)
    """
    n_resamples = check_request(n_resamples, rng)
    check_fraction("level", level)
    metrics = metrics_named(names)
    check_options(**options)
    for metric in metrics:
        if metric.simulation is None:
            known = ", ".join(CALIBRATION_ERRORS)
            raise ValueError(f"names must be calibration errors ({known}); got {metric.name!r}.")
    answers = Answers.of(probs, gold)
    simulated = _simulated(metrics, answers, n_resamples, rng, options)
    found = {}
    for metric in metrics:
        value = metric.value(answers, **metric.own(options))
        draws = simulated[metric.name]
        null = _null(metric, answers, draws, level, options)
        # Sums of the same numbers in another order may differ in the last digit.
        as_large = int((draws >= value - 1e-12).sum())
        found[metric.name] = Excess(
            value, null, value - null.mean, (1 + as_large) / (1 + draws.size)
        )
    return found


def spiegelhalter(probs: npt.ArrayLike, gold: npt.ArrayLike) -> Spiegelhalter:
    """Return Spiegelhalter's test that confidences come true (Spiegelhalter 1986).

    z = Σ_i (a_i - c_i)(1 - 2 c_i) / √(Σ_i (1 - 2 c_i)² c_i (1 - c_i)), the standardised Brier
    score of the predicted choice, normal under calibration. Without bins, but blind to errors
    that leave the Brier score where it would be.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.

    Returns
    -------
    Spiegelhalter
        NaN where every confidence is 1/2 or 1.

    Raises
    ------
    ValueError
        If a row is no distribution or has no gold choice.

    Examples
    --------
    One answer, right with confidence .8: .2 (-.6) / (.6 × .4), half a standard deviation.

    >>> round(spiegelhalter([[0.8, 0.2]], [0]).z, 6)
    -0.5
    """
    answers = Answers.of(probs, gold)
    c = np.clip(answers.confidence, 0.0, 1.0)
    spread = float(np.sqrt(((1 - 2 * c) ** 2 * c * (1 - c)).sum()))
    if spread == 0:
        return Spiegelhalter(np.nan, np.nan)
    z = float(((answers.correct - c) * (1 - 2 * c)).sum()) / spread
    return Spiegelhalter(z, float(2 * stats.norm.sf(abs(z))))


def null_of_pairs(
    confidence: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
    n_resamples: int = DEFAULT_N_RESAMPLES,
    rng: np.random.Generator | int,
    level: float = 0.95,
) -> Null:
    """Return the calibration error that would be seen if these confidences came true.

    Each simulation draws a_i ~ Bernoulli(c_i), independently; the mean is exact.

    Parameters
    ----------
    confidence : array_like, shape (n,)
        Probabilities.
    n_bins, binning, n_resamples, rng, level
        As for `calibrated_null`.

    Returns
    -------
    Null

    Raises
    ------
    ValueError
        If an option is unknown or a confidence lies outside [0, 1].

    Examples
    --------
    >>> null_of_pairs([1.0, 0.0], rng=0).mean
    0.0
    """
    n_resamples = check_request(n_resamples, rng)
    conf, _ = check_pairs(confidence, np.zeros(np.shape(confidence)))
    error = pairs_error(conf, n_bins=n_bins, binning=binning)
    simulate, exact = error.simulated(), error.null_mean()
    generator = np.random.default_rng(rng)
    draws = np.concatenate(
        [
            simulate((generator.random((size, conf.size)) < conf).astype(np.int64))
            for size in block_sizes(conf.size, n_resamples)
        ]
    )
    mean = float(draws.mean()) if exact is None else exact
    return Null(mean, *spread_of(draws, level, (0.0, 1.0)))


def _simulated(
    metrics: Collection[Metric],
    choices: Choices,
    n_resamples: int,
    rng: np.random.Generator | int,
    options: dict[str, Any],
) -> dict[str, FloatArray]:
    """Return each metric of the same golds, drawn from the probabilities, (n_resamples,) each."""
    simulations = {m.name: m.simulate(choices, **m.own(options)) for m in metrics}
    blocks: dict[str, list[FloatArray]] = {name: [] for name in simulations}
    generator = np.random.default_rng(rng)
    for size in block_sizes(len(choices), n_resamples):
        golds = _draw_gold(choices.probs, size, generator)
        for name, simulate in simulations.items():
            blocks[name].append(simulate(golds))
    return {name: np.concatenate(parts) for name, parts in blocks.items()}


def _null(
    metric: Metric, choices: Choices, draws: FloatArray, level: float, options: dict[str, Any]
) -> Null:
    known = draws[np.isfinite(draws)]
    mean = None
    if metric.null_mean is not None:
        mean = metric.null_mean(choices, **metric.complete(metric.own(options)))
    if mean is None:
        mean = float(np.mean(known)) if known.size else np.nan
    return Null(mean, *spread_of(known, level, metric.bounds))


def _draw_gold(probs: FloatArray, size: int, generator: np.random.Generator) -> IntArray:
    """Draw (size, n) gold indices, each from its question's probabilities."""
    edges = np.cumsum(np.nan_to_num(np.maximum(probs, 0.0)), axis=1)
    draws = generator.random((size, len(probs)))
    draws *= edges[:, -1]
    # As small as they can be: ten million of them pass through memory several times.
    gold = np.zeros(draws.shape, dtype=np.min_scalar_type(-probs.shape[1]))
    beyond = np.empty(draws.shape, dtype=bool)
    for edge in np.ascontiguousarray(edges.T[:-1]):
        gold += np.greater_equal(draws, edge, out=beyond)
    return gold
