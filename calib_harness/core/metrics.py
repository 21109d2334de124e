"""The table of metrics: what each is, how it resamples, which way is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from calib_harness.core import accuracy as scores
from calib_harness.core import calibration
from calib_harness.core.accuracy import (
    accuracy,
    aurc,
    auroc,
    brier_score,
    choice_mass,
    nll,
    overconfidence,
)
from calib_harness.core.bin_errors import BinnedError, Simulation, Statistic, point_value
from calib_harness.core.calibration import (
    ace,
    calibration_error,
    ece,
    ece_debiased,
    ece_rms,
    mce,
    sce,
    sce_ova,
    smece,
    tace,
)
from calib_harness.core.checks import (
    FloatArray,
    IntArray,
    check_choice_of,
    check_counts,
    check_probs,
    check_rows,
)
from calib_harness.core.options import DEFAULTS, check_options

__all__ = [
    "METRICS",
    "Metric",
    "accuracy",
    "ace",
    "aurc",
    "auroc",
    "brier_score",
    "calibration_error",
    "choice_mass",
    "ece",
    "ece_debiased",
    "ece_rms",
    "mce",
    "metrics_named",
    "nll",
    "overconfidence",
    "point_values",
    "sce",
    "sce_ova",
    "smece",
    "tace",
]

Direction: TypeAlias = Literal["lower", "higher", "zero"]


@dataclass(frozen=True)
class Metric:
    """One metric and everything that is known about it.

    Attributes
    ----------
    name : str
        Its name in tables, results and `metric_list`.
    function : callable
        ``function(probs, gold, **options) -> float``.
    direction : {"lower", "higher", "zero"}
        Which values are better.
    options : tuple of str
        The options that `function` takes.
    formula, source : str
        What it is and whose it is.
    bounds : tuple of float
        The least and the largest value it can take.
    statistic : callable
        ``statistic(probs, gold, **options)``, arguments checked and complete, gives the
        function from (R, n) counts to (R,) values.
    simulation : callable, optional
        ``simulation(probs, **options)`` gives the function from (R, n) gold indices to (R,)
        values.
    deviation : callable, optional
        ``deviation(probs, gold, **options)`` gives the value and the function from (R, n) counts
        to the (R, V) deviations from it, in V worlds that the data do not tell apart; one by
        default.
    needs_usable : bool
        False if rows that cannot be used may be passed in.
    """

    name: str
    function: Callable[..., float]
    direction: Direction
    options: tuple[str, ...]
    formula: str
    source: str
    statistic: Callable[..., Statistic]
    simulation: Callable[..., Simulation] | None = None
    deviation: Callable[..., tuple[float, Statistic]] | None = None
    bounds: tuple[float, float] = (0.0, 1.0)
    needs_usable: bool = True

    def prepare(self, probs: npt.ArrayLike, gold: npt.ArrayLike, **options: Any) -> Statistic:
        """Return the function from (R, n) counts to the (R,) values of those resamples."""
        complete = self.complete(options)
        p, g = check_rows(probs, gold, allow_unusable=not self.needs_usable)
        return self.statistic(p, g, **complete)

    def prepare_deviations(
        self, probs: npt.ArrayLike, gold: npt.ArrayLike, **options: Any
    ) -> Statistic:
        """Return the function from (R, n) counts to (R, V) deviations, see `deviation`."""
        p, g = check_rows(probs, gold, allow_unusable=not self.needs_usable)
        return self.value_and_deviations(p, g, **options)[1]

    def value_and_deviations(
        self, probs: FloatArray, gold: IntArray, **options: Any
    ) -> tuple[float, Statistic]:
        """Return the value and what `prepare_deviations` does, of rows that were checked."""
        complete = self.complete(options)
        if self.deviation is not None:
            return self.deviation(probs, gold, **complete)
        statistic = self.statistic(probs, gold, **complete)
        value = point_value(statistic, len(probs))

        def evaluate(counts: FloatArray) -> FloatArray:
            with np.errstate(invalid="ignore"):  # inf - inf is undefined, and counted as such
                return np.asarray(statistic(counts) - value)[:, None]

        return value, evaluate

    def resampled(
        self, probs: npt.ArrayLike, gold: npt.ArrayLike, counts: npt.ArrayLike, **options: Any
    ) -> FloatArray:
        """Return the metric of resampled questions.

        Parameters
        ----------
        probs : array_like, shape (n, K)
            Probabilities of the choices, NaN where a choice does not exist.
        gold : array_like, shape (n,)
            Index of the right choice.
        counts : array_like, shape (R, n)
            How often each resample holds each question, whole numbers.
        **options
            As for `function`.

        Returns
        -------
        ndarray, shape (R,)
            Row r equals ``function(np.repeat(probs, counts[r], axis=0), ...)``.
        """
        statistic = self.prepare(probs, gold, **options)
        return statistic(check_counts(counts, len(np.asarray(probs))))

    def simulate(self, probs: npt.ArrayLike, **options: Any) -> Simulation:
        """Return the function from (R, n) gold indices to the (R,) values they would give."""
        complete = self.complete(options)
        p = check_probs(probs)
        if self.simulation is not None:
            return self.simulation(p, **complete)

        def one_by_one(golds: IntArray) -> FloatArray:
            return np.array([self.function(p, gold, **complete) for gold in golds])

        return one_by_one

    def own(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of the options that this metric takes."""
        return {name: value for name, value in options.items() if name in self.options}

    def complete(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return `options` with defaults added, or raise ValueError about one of them."""
        for name in options:
            check_choice_of(f"option of {self.name}", name, self.options)
        complete = {name: DEFAULTS[name] for name in self.options} | options
        check_options(**complete)
        return complete


def _binned(
    name: str,
    function: Callable[..., float],
    options: tuple[str, ...],
    error: Callable[..., BinnedError],
    formula: str,
    source: str,
) -> Metric:
    def statistic(probs: FloatArray, gold: IntArray, **given: Any) -> Statistic:
        return error(probs, **given).resampled(gold)

    def simulation(probs: FloatArray, **given: Any) -> Simulation:
        return error(probs, **given).simulated()

    def deviation(probs: FloatArray, gold: IntArray, **given: Any) -> tuple[float, Statistic]:
        return error(probs, **given).value_and_deviations(gold)

    return Metric(
        name, function, "lower", options, formula, source, statistic, simulation, deviation
    )


_BINS = ("n_bins", "binning")
_GUO, _NIXON = "Guo et al. 2017", "Nixon et al. 2019"

_ALL = (
    Metric("acc", accuracy, "higher", (), "mean a_i", "", scores.acc_of, needs_usable=False),
    _binned(
        "ece",
        ece,
        (*_BINS, "norm"),
        calibration.ece_error,
        "Σ_b (n_b/N) |acc_b − conf_b|",
        _GUO,
    ),
    _binned(
        "ece_rms",
        ece_rms,
        _BINS,
        partial(calibration.ece_error, norm="l2"),
        "√ Σ_b (n_b/N) (acc_b − conf_b)²",
        "Kumar et al. 2019",
    ),
    _binned(
        "ece_debiased",
        ece_debiased,
        _BINS,
        partial(calibration.ece_error, norm="debiased"),
        "√ max(0, Σ_b (n_b/N) [(acc_b − conf_b)² − acc_b (1 − acc_b)/(n_b − 1)])",
        "Kumar et al. 2019",
    ),
    _binned(
        "mce",
        mce,
        _BINS,
        partial(calibration.ece_error, norm="max"),
        "max_b |acc_b − conf_b|",
        "Naeini et al. 2015",
    ),
    _binned(
        "sce",
        sce,
        _BINS,
        calibration.sce_error,
        "Σ_k Σ_b (n_bk/Σ_i K_i) |freq_bk − conf_bk|",
        _NIXON,
    ),
    _binned(
        "sce_ova",
        sce_ova,
        _BINS,
        calibration.sce_ova_error,
        "sce with the share of [prediction = k] = [gold = k] for freq_bk; no calibration error",
        "widely copied code",
    ),
    _binned(
        "ace",
        ace,
        ("n_bins",),
        partial(calibration.tace_error, threshold=0.0),
        "sce over bins of equal mass, probabilities of 0 left out",
        _NIXON,
    ),
    _binned(
        "tace",
        tace,
        ("n_bins", "threshold"),
        calibration.tace_error,
        "ace over probabilities above a threshold",
        _NIXON,
    ),
    Metric(
        "brier_score",
        brier_score,
        "lower",
        (),
        "mean Σ_k (p_ik − [gold = k])²",
        "Brier 1950",
        scores.brier_of,
        bounds=(0.0, 2.0),
    ),
    Metric(
        "nll",
        nll,
        "lower",
        (),
        "−mean log p_i,gold",
        "",
        scores.nll_of,
        bounds=(0.0, math.inf),
    ),
    Metric(
        "auroc",
        auroc,
        "higher",
        (),
        "P(c of a right answer > c of a wrong one) + ½ P(equal)",
        "Mann and Whitney 1947",
        scores.auroc_of,
    ),
    Metric(
        "aurc",
        aurc,
        "lower",
        (),
        "mean_k error rate among the k most confident",
        "Geifman et al. 2019",
        scores.aurc_of,
    ),
    Metric(
        "overconfidence",
        overconfidence,
        "zero",
        (),
        "mean c_i − mean a_i",
        "",
        scores.overconfidence_of,
        bounds=(-1.0, 1.0),
    ),
    Metric(
        "smece",
        smece,
        "lower",
        (),
        "∫ |smoothed (c − a)|, at the width equal to the error",
        "Błasiok and Nakkiran 2023",
        calibration.smece_of,
        calibration.smece_simulation,
    ),
)


def _part(norm: str) -> Metric:
    error = partial(calibration.ece_error, norm=norm)

    def function(probs: npt.ArrayLike, gold: npt.ArrayLike, **options: Any) -> float:
        p, g = check_rows(probs, gold)
        return point_value(error(p, **options).resampled(g), len(p))

    formula = "Σ_b (n_b/N) |acc_b − conf_b| over bins of one sign"
    return _binned(norm, function, _BINS, error, formula, "")


#: What bins with conf_b > acc_b, and the others, contribute to ECE; compared, not reported alone.
ECE_PARTS = (_part("over"), _part("under"))

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def point_values(
    names: Collection[str], probs: npt.ArrayLike, gold: npt.ArrayLike, **options: Any
) -> dict[str, float]:
    """Return several metrics without resamples, each given those of the options that it takes."""
    return {
        metric.name: float(metric.function(probs, gold, **metric.own(options)))
        for metric in metrics_named(names)
    }


def metrics_named(names: Collection[str]) -> list[Metric]:
    """Return the metrics of these names, or raise ValueError naming the unknown one."""
    if isinstance(names, str):
        raise ValueError(f"names must be a list of metrics; got the string {names!r}.")
    for name in names:
        check_choice_of("metric", name, METRICS)
    return [METRICS[name] for name in names]
