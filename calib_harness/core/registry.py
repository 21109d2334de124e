"""What a metric of the table is, and how a function becomes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from calib_harness.core.answers import Answers, Choices
from calib_harness.core.bin_errors import BinnedError, Simulation, Statistic, point_value
from calib_harness.core.checks import FloatArray, IntArray, check_choice_of, check_counts
from calib_harness.core.options import DEFAULTS, check_options

Direction: TypeAlias = Literal["lower", "higher", "zero"]
_Function = TypeVar("_Function", bound=Callable[..., float])

#: Every metric whose file was imported, by name; the table itself is in `metrics`.
REGISTERED: dict[str, Metric] = {}


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
    formula, source : str
        What it is and whose it is.
    statistic : callable
        ``statistic(answers, **options)``, options checked and complete, gives the function
        from (R, n) counts to (R,) values.
    simulation : callable, optional
        ``simulation(choices, **options)`` gives the function from (R, n) gold indices to (R,)
        values; calibration errors have one, and with it a null.
    null_mean : callable, optional
        ``null_mean(choices, **options)`` gives the exact mean over golds drawn from the
        probabilities, or None for options with which there is no formula.
    deviation : callable, optional
        ``deviation(answers, **options)`` gives the value and the function from (R, n) counts
        to the (R, V) deviations from it, in V worlds that the data do not tell apart; one by
        default.
    bounds : tuple of float
        The least and the largest value it can take.
    has_interval : bool
        False where no interval and no test of a change is known that holds its level; there is a
        standard error then, and NaN for the rest.
    needs_usable : bool
        False if rows that cannot be used may be passed in.
    """

    name: str
    function: Callable[..., float]
    direction: Direction
    formula: str
    source: str
    statistic: Callable[..., Statistic]
    simulation: Callable[..., Simulation] | None = None
    null_mean: Callable[..., float | None] | None = None
    deviation: Callable[..., tuple[float, Statistic]] | None = None
    bounds: tuple[float, float] = (0.0, 1.0)
    needs_usable: bool = True
    has_interval: bool = True

    @cached_property
    def options(self) -> tuple[str, ...]:
        """The options that `function` takes: its keywords."""
        keywords = inspect.signature(self.function).parameters.values()
        return tuple(each.name for each in keywords if each.kind is each.KEYWORD_ONLY)

    def answers(self, probs: npt.ArrayLike, gold: npt.ArrayLike) -> Answers:
        """Return the checked answers, rows that cannot be used let in where that is right."""
        return Answers.of(probs, gold, allow_unusable=not self.needs_usable)

    def value(self, answers: Answers, **options: Any) -> float:
        """Return what `function` does, of answers that were checked."""
        return point_value(self.statistic(answers, **self.complete(options)), len(answers))

    def value_and_deviations(self, answers: Answers, **options: Any) -> tuple[float, Statistic]:
        """Return the value and the function from (R, n) counts to (R, V) deviations from it."""
        complete = self.complete(options)
        if self.deviation is not None:
            return self.deviation(answers, **complete)
        statistic = self.statistic(answers, **complete)
        value = point_value(statistic, len(answers))

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
        complete = self.complete(options)
        answers = self.answers(probs, gold)
        return self.statistic(answers, **complete)(check_counts(counts, len(answers)))

    def simulate(self, choices: Choices, **options: Any) -> Simulation:
        """Return the function from (R, n) gold indices to the (R,) values they would give."""
        complete = self.complete(options)
        if self.simulation is not None:
            return self.simulation(choices, **complete)

        def one_by_one(golds: IntArray) -> FloatArray:
            return np.array([self.function(choices.probs, gold, **complete) for gold in golds])

        return one_by_one

    def own(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of the options that this metric takes."""
        return {name: value for name, value in options.items() if name in self.options}

    def complete(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return `options` with defaults added, or raise ArgumentError about one of them."""
        for name in options:
            check_choice_of(f"option of {self.name}", name, self.options)
        complete = {name: DEFAULTS[name] for name in self.options} | dict(options)
        check_options(**complete)
        return complete


def metric(name: str, direction: Direction, **known: Any) -> Callable[[_Function], _Function]:
    """Enter the function below into the table of metrics; the rest as for `Metric`."""

    def enter(function: _Function) -> _Function:
        REGISTERED[name] = Metric(name=name, function=function, direction=direction, **known)
        return function

    return enter


def binned_metric(
    name: str, error: Callable[..., BinnedError], *, formula: str, source: str
) -> Callable[[_Function], _Function]:
    """Enter the function below, a binned calibration error, into the table of metrics.

    Parameters
    ----------
    name : str
    error : callable
        ``error(choices, **options)`` says what is binned together, and how.
    formula, source : str
        As for `Metric`.
    """
    return metric(name, "lower", formula=formula, source=source, **of_bins(error))


def of_bins(error: Callable[..., BinnedError]) -> dict[str, Any]:
    """Return how a binned error resamples and is simulated, as `Metric` takes it."""

    def statistic(answers: Answers, **options: Any) -> Statistic:
        return error(answers, **options).resampled(answers.gold)

    def simulation(choices: Choices, **options: Any) -> Simulation:
        return error(choices, **options).simulated()

    def null_mean(choices: Choices, **options: Any) -> float | None:
        return error(choices, **options).null_mean()

    def deviation(answers: Answers, **options: Any) -> tuple[float, Statistic]:
        return error(answers, **options).value_and_deviations(answers.gold)

    return {
        "statistic": statistic,
        "simulation": simulation,
        "null_mean": null_mean,
        "deviation": deviation,
    }
