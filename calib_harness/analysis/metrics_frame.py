"""One table of every run × task × method: metrics with standard errors, recomputed from logs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from calib_harness.analysis.against_nulls import (
    NULL_COLUMNS,
    errors_above_nulls,
    null_cells,
)
from calib_harness.analysis.transfer import Temperatures, fit_temperatures, recalibrated
from calib_harness.core.accuracy import choice_mass
from calib_harness.core.inference import bootstrap_draws
from calib_harness.core.loss import FEWEST_QUESTIONS, LOSSES, calibration_loss, mean_test
from calib_harness.core.metrics import METRICS, point_values
from calib_harness.core.nulls import Null
from calib_harness.core.options import Options
from calib_harness.core.recalibration import temperatures_of
from calib_harness.core.resampling import Draws, estimates_of
from calib_harness.errors import ArgumentError
from calib_harness.predictions.foreign.table_form import CONFIDENCE
from calib_harness.predictions.table import UNDECIDED, Bools, Floats, Ints, Predictions

logger = logging.getLogger(__name__)

#: What the metrics table shows unless told otherwise.
DEFAULT_METRICS = ("acc", "ece", "sce", "brier_score", "nll", "auroc", "overconfidence")
#: Columns that say which run a row is about.
RUN_COLUMNS = [
    *("model", "revision", "task", "method", "n_shot", "chat_template", "settings", "date"),
    *("source", "gold"),
]
COUNT_COLUMNS = ["n", "n_unusable", "n_tied", "n_distinct", "n_truncated", "n_subjects", "M"]
#: Metrics of each question's confidence and correctness alone.
TOP_LABEL_METRICS = frozenset(
    [
        *("acc", "ece", "ece_rms", "ece_debiased", "mce", "smece"),
        *("auroc", "aurc", "overconfidence"),
    ]
)
#: What the probabilities of a question's letters may exceed 1 by: rounding, in half precision too.
MASS_TOLERANCE = 0.01
VALUE_COLUMNS = ["metric", "value", "stderr", "low", "high"]


@dataclass(frozen=True)
class SummaryOptions(Options):
    """What to compute, and how.

    Attributes
    ----------
    metrics : tuple of str
        Names from ``METRICS`` or ``LOSSES``, or ``choice_mass`` (``choice`` only).
    n_bins, binning, n_resamples, seed, level
        See :class:`calib_harness.core.options.Options`.
    recalibrate : bool
        Add the temperature fitted on all questions, and the ECE after cross-fitted scaling
        (each fold of questions scaled by the temperature of the others).
    fit_on : str or None
        Task (or benchmark) of the same model on which the temperature is fitted instead.
    by_subject : bool
        Resample the subjects of a pool, each whole, instead of single questions: for errors over
        subjects like these. A run without subjects is resampled by questions.
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    recalibrate: bool = False
    fit_on: str | None = None
    by_subject: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        known = [*METRICS, "choice_mass", *LOSSES]
        unknown = [name for name in self.metrics if name not in known]
        if unknown or not self.metrics:
            got = ", ".join(unknown) or "none"
            raise ArgumentError(f"metrics must be among {', '.join(known)}; got {got}.")


def metrics_frame(
    predictions: Iterable[Predictions],
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    n_bins: int = 15,
    binning: str = "uniform",
    n_resamples: int = 1000,
    seed: int = 0,
    recalibrate: bool = False,
    fit_on: str | None = None,
    by_subject: bool = False,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Compute metrics of every run × task × method, one row per metric.

    Parameters
    ----------
    predictions : iterable of Predictions
        From ``load_predictions``, or a ``PredictionStream``, which holds one log at a time, so
        that memory does not grow with the number of runs. `fit_on` goes through it twice; an
        iterator, which can be gone through once only, is then held as a whole.
    metrics, n_bins, binning, n_resamples, seed, recalibrate, fit_on, by_subject
        See :class:`SummaryOptions`.
    n_jobs : int
        Threads.

    Returns
    -------
    DataFrame
        Columns ``model, revision, task, method, n_shot, chat_template, settings, date,
        source, gold`` (which run, and why its gold may be believed), ``n`` (questions),
        ``n_unusable``, ``n_tied`` (with several best choices), ``n_distinct`` (different
        prompts), ``n_truncated`` (contexts cut off), ``n_subjects`` (that were resampled; None
        where questions were), ``M`` (bins), ``metric``, ``value``,
        ``stderr``, ``low``, ``high`` (95 % bootstrap interval over questions; NaN without
        resamples). Beside ``ece`` stands the metric ``ece_null``: the ECE that a perfectly
        calibrated model with these confidences would show, its standard deviation and its
        central 95 %. Calibration errors have ``null`` (the mean of a calibrated model), ``excess``
        over it, ``p_calibrated`` (how often a calibrated model shows as much) and ``too_few``
        (questions, for the error to decide anything). With `recalibrate` also ``temperature``
        and ``ece_recalibrated``.

    Raises
    ------
    UserError
        If an option is wrong, or no run is of the task named by `fit_on`. Runs without a
        temperature, because their model was not run on that task, are named in a warning.
    """
    options = SummaryOptions(
        tuple(metrics),
        n_bins=n_bins,
        binning=binning,
        n_resamples=n_resamples,
        seed=seed,
        recalibrate=recalibrate or bool(fit_on),
        fit_on=fit_on,
        by_subject=by_subject,
    )
    temperatures = None
    if fit_on is not None:
        if isinstance(predictions, Iterator):
            predictions = list(predictions)
        temperatures = fit_temperatures(predictions, fit_on)
    rows: list[dict[str, Any]] = []
    for part in _in_parallel(predictions, options, temperatures, n_jobs):
        rows.extend(part)
    columns = [*RUN_COLUMNS, *COUNT_COLUMNS, *VALUE_COLUMNS, *NULL_COLUMNS]
    frame = pd.DataFrame(rows, columns=columns)
    whole = ("n_shot", "n_distinct", "n_truncated", "n_subjects")
    return frame.assign(**{name: whole_numbers(frame[name]) for name in whole})


def whole_numbers(values: pd.Series) -> pd.Series:
    """Return a column whose missing values turned it into floats as whole numbers and None."""
    if values.dtype.kind != "f":
        return values
    numbers = [None if np.isnan(value) else int(value) for value in values]
    return pd.Series(numbers, index=values.index, dtype=object)


def wide_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Spread a metrics frame: one row per run × task × method.

    Returns
    -------
    DataFrame
        The columns of the run and counts, then for every metric ``NAME``, ``NAME_stderr``,
        ``NAME_low`` and ``NAME_high``, in the order in which the metrics first appear; of
        calibration errors also ``NAME_null``, ``NAME_excess``, ``NAME_p_calibrated`` and
        ``NAME_too_few``.
    """
    keys = [*RUN_COLUMNS, *COUNT_COLUMNS]
    again = frame.groupby([*keys, "metric"], dropna=False, sort=False).cumcount()
    by = [*(frame[key] for key in keys), again]
    row = frame.groupby(by, dropna=False, sort=False).ngroup()
    wide = frame.assign(_row=row).drop_duplicates("_row").set_index("_row")[keys]
    for metric in frame["metric"].unique():
        part = frame.assign(_row=row)[frame["metric"] == metric].set_index("_row")
        wide[metric] = part["value"]
        for column in ("stderr", "low", "high"):
            wide[f"{metric}_{column}"] = part[column]
        for column in NULL_COLUMNS if part["null"].notna().any() else ():
            if f"{metric}_{column}" not in frame["metric"].to_numpy():  # as ece_null is
                wide[f"{metric}_{column}"] = part[column]
    return wide.reset_index(drop=True)


def _in_parallel(
    predictions: Iterable[Predictions],
    options: SummaryOptions,
    temperatures: Temperatures | None,
    n_jobs: int,
) -> Iterator[list[dict[str, Any]]]:
    """Summarise in order, a few at a time, so that an iterator is never drained ahead."""

    def work(p: Predictions) -> list[dict[str, Any]]:
        return summarise(p, options, temperatures, nulls=options.metrics)

    if n_jobs <= 1:
        yield from map(work, predictions)
        return
    queue = iter(predictions)
    # One thread each: products that wait for one another's threads take three times the CPU time.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_jobs) as pool:
        pending = [pool.submit(work, p) for p in islice(queue, n_jobs + 1)]
        while pending:
            yield pending.pop(0).result()
            pending.extend(pool.submit(work, p) for p in islice(queue, 1))


def summarise(
    p: Predictions,
    options: SummaryOptions,
    temperatures: Temperatures | None = None,
    draws: dict[str, Draws] | None = None,
    *,
    nulls: Collection[str] = ("ece",),
) -> list[dict[str, Any]]:
    """Return the rows of one run × task × method; see :func:`metrics_frame`.

    A dict given as `draws` is filled with the resamples of every metric. `nulls` are the
    calibration errors whose null is simulated.
    """
    h = p.header
    clusters = _clusters(p, p.usable, options)
    common = {
        **{name: getattr(h, name) for name in RUN_COLUMNS},
        "n": len(p),
        "n_unusable": int((~p.usable).sum()),
        "n_tied": int(p.tied.sum()),
        "n_distinct": p.n_distinct,
        "n_truncated": p.n_truncated,
        "n_subjects": None if clusters is None else len(np.unique(clusters)),
        "M": options.n_bins,
    }
    probs, gold = p.probs[p.usable], p.gold[p.usable]
    recalibrates = options.recalibrate and len(gold) and h.method != CONFIDENCE
    with temperatures_of(h.title):
        estimates = _estimates(p, probs, gold, options, draws)
        after = _recalibrated(p, options, temperatures) if recalibrates else {}
    measured = [name for name in options.metrics if name in nulls and name in estimates]
    measured = [name for name in measured if np.isfinite(estimates[name][0])]
    above = errors_above_nulls(measured, probs, gold, options)
    if "ece" in above:
        estimates = _insert_null(estimates, above["ece"].null)
    estimates |= after
    return [
        common
        | dict(zip(VALUE_COLUMNS, (name, *values), strict=True))
        | (null_cells(name, above[name], probs) if name in above else {})
        for name, values in estimates.items()
    ]


_Row: TypeAlias = tuple[float, float, float, float]


def _estimates(
    p: Predictions,
    probs: Floats,
    gold: Ints,
    options: SummaryOptions,
    draws: dict[str, Draws] | None,
) -> dict[str, _Row]:
    """Value, standard error and interval of each metric, in the order asked for."""
    result: dict[str, _Row] = {}
    without: list[str] = []  # what confidence and correctness alone do not give
    for name in options.metrics:
        if name == "choice_mass":  # of letters only
            if p.header.method == "choice":
                result[name] = _choice_mass(p, options)
        elif p.header.method == CONFIDENCE and name not in TOP_LABEL_METRICS:
            without.append(name)
        elif name in LOSSES:
            result[name] = _mean_loss(name, p, options)
        elif name == "acc" and len(gold) < len(p):
            result[name] = _accuracy(p, options, draws)
        else:
            result[name] = (np.nan,) * 4
    named = [name for name, row in result.items() if name in METRICS and np.isnan(row[0])]
    if len(gold) and named:
        result.update(
            _evaluate(named, probs, gold, options, draws, _clusters(p, p.usable, options))
        )
    return result | dict.fromkeys(without, (np.nan,) * 4)


def _accuracy(p: Predictions, options: SummaryOptions, draws: dict[str, Draws] | None) -> _Row:
    """Accuracy where some questions cannot be used: they are wrong, unless gold is not known."""
    decided = p.gold != UNDECIDED
    if not (p.gold[decided] >= 0).any():
        return (np.nan,) * 4
    clusters = _clusters(p, decided, options)
    return _evaluate(["acc"], p.probs[decided], p.gold[decided], options, draws, clusters)["acc"]


def _clusters(p: Predictions, rows: Bools, options: SummaryOptions) -> Ints | None:
    """Return the subject of some questions as a number from 0; None if questions are resampled."""
    if not (options.by_subject and options.n_resamples) or p.subject is None or not rows.any():
        return None
    return np.asarray(np.unique(p.subject[rows].astype(str), return_inverse=True)[1])


def _evaluate(
    names: list[str],
    probs: Floats,
    gold: Ints,
    options: SummaryOptions,
    draws: dict[str, Draws] | None = None,
    clusters: Ints | None = None,
) -> dict[str, _Row]:
    if options.n_resamples:
        # The seed itself, not a generator: rows of equal n then share one table of resamples.
        found = bootstrap_draws(
            names, probs, gold, clusters=clusters, **options.draws, **options.bins
        )
        if draws is not None:
            draws.update(found)
        estimates = estimates_of(found, options.level)
        n_drawn = len(gold) if clusters is None else len(np.unique(clusters))
        if n_drawn > 1:  # one question, or subject, tells nothing of another
            # What a gap may be by chance is known of independent questions only, so that the
            # interval of a calibration error would be too narrow where subjects are drawn.
            known = {n for n in names if clusters is None or METRICS[n].simulation is None}
            return {
                name: (e.value, e.stderr, *((e.low, e.high) if name in known else (np.nan,) * 2))
                for name, e in estimates.items()
            }
    values = point_values(names, probs, gold, **options.bins)
    return {name: (value, np.nan, np.nan, np.nan) for name, value in values.items()}


def _choice_mass(p: Predictions, options: SummaryOptions) -> _Row:
    """Mean probability of answering in letters at all; it is a mean, so its error is exact."""
    scores = p.scores[p.usable]
    clusters = _clusters(p, p.usable, options)
    if not len(scores):
        return (np.nan,) * 4
    value = float(choice_mass(scores))
    largest = float(np.exp(scores).sum(axis=1, where=~np.isnan(scores)).max())
    if largest > 1.0 + MASS_TOLERANCE:
        logger.warning(
            "%s on %s: choice_mass is left out, because the probabilities of the letters add up "
            "to %.3g: these scores are no log-probabilities (logits?)",
            p.header.label,
            p.header.task,
            largest,
        )
        return (np.nan,) * 4
    if not options.n_resamples:
        return value, np.nan, np.nan, np.nan
    masses = np.exp(scores).sum(axis=1, where=~np.isnan(scores))
    stderr = mean_test(masses, clusters=clusters).stderr
    return value, stderr, value - 1.96 * stderr, value + 1.96 * stderr


def _mean_loss(name: str, p: Predictions, options: SummaryOptions) -> _Row:
    """Mean calibration loss over questions, with its interval."""
    probs, gold = p.probs[p.usable], p.gold[p.usable]
    if len(gold) < FEWEST_QUESTIONS:
        return (np.nan,) * 4
    clusters = _clusters(p, p.usable, options)
    found = calibration_loss(
        probs, gold, score=LOSSES[name], level=options.level, clusters=clusters
    )
    if not options.n_resamples:
        return found.mean, np.nan, np.nan, np.nan
    return found.mean, found.stderr, found.low, found.high


def _insert_null(estimates: dict[str, _Row], null: Null) -> dict[str, _Row]:
    """Put the calibrated null right after the ECE it belongs to."""
    result: dict[str, _Row] = {}
    for name, row in estimates.items():
        result[name] = row
        if name == "ece":
            result["ece_null"] = (null.mean, null.std, null.low, null.high)
    return result


def _recalibrated(
    p: Predictions, options: SummaryOptions, temperatures: Temperatures | None
) -> dict[str, _Row]:
    """Temperature and the ECE after it; never fitted on the questions it is judged on."""
    temperature, probs = recalibrated(p, options.seed, temperatures, options.fit_on)
    if probs is None:
        known = temperatures is not None  # without any, a single question has no row at all
        return {"temperature": (temperature,) + (np.nan,) * 3} if known else {}
    clusters = _clusters(p, p.usable, options)
    ece = _evaluate(["ece"], probs, p.gold[p.usable], options, clusters=clusters)["ece"]
    return {"temperature": (temperature, np.nan, np.nan, np.nan), "ece_recalibrated": ece}
