"""Recalibrators of runs: what they save on questions they were not fitted on, kept and applied."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from calib_harness.analysis.joining import shared_questions
from calib_harness.core.accuracy import brier_losses
from calib_harness.core.answers import Answers
from calib_harness.core.checks import check_choice_of
from calib_harness.core.confidence import softmax_scores
from calib_harness.core.loss import DEFAULT_N_FOLDS, MeanTest, mean_test, t_test
from calib_harness.core.metrics import point_values
from calib_harness.core.nulls import excesses
from calib_harness.core.options import Options
from calib_harness.core.recalibration import temperatures_of
from calib_harness.core.recalibrators import (
    RECALIBRATORS,
    Recalibrator,
    cross_fit,
    fit_recalibrator,
)
from calib_harness.core.refitting import Questions, spread_by_folds, spread_by_transfer
from calib_harness.errors import ArgumentError, UserError
from calib_harness.predictions.table import Floats, Predictions

logger = logging.getLogger(__name__)

#: Where the probabilities of a row were recalibrated from.
OTHER_FOLDS, SAME_QUESTIONS = "other folds", "these questions"
_MEASURED = ("acc", "brier_score", "nll", "ece")
_FILE_VERSION = 1
COLUMNS = [
    *("model", "task", "method", "recalibration", "fitted_on", "n"),
    *(f"{name}{side}" for name in _MEASURED for side in ("", "_after")),
    *("ece_excess", "ece_excess_after", "p_calibrated_after"),
    *("saved", "low", "high", "p_value", "verdict"),
]

#: Model, task, method of scoring.
Key: TypeAlias = tuple[str, str, str]
Fitted: TypeAlias = dict[Key, Recalibrator]
#: The base model of all runs, or of each aligned model.
BaseLike: TypeAlias = str | Mapping[str, str] | None


def recalibration_frame(
    predictions: Iterable[Predictions],
    method: str = "temperature",
    *,
    base: BaseLike = None,
    fitted: Fitted | None = None,
    fit_on: str | None = None,
    options: Options | None = None,
    n_folds: int = DEFAULT_N_FOLDS,
) -> pd.DataFrame:
    """Tell for every run what recalibrating does to questions that it was not fitted on.

    Parameters
    ----------
    predictions : iterable of Predictions
        From ``load_predictions``.
    method : str
        A key of ``RECALIBRATORS``.
    base : str or mapping of str to str, optional
        For ``agreement``: the base model of all runs, or that of each aligned model, named as in
        the logs or by the last part of that. Runs without one are left out.
    fitted : dict, optional
        Recalibrators from `read_recalibrators`, applied as they are.
    fit_on : str, optional
        Task (or benchmark) of the same model and method to fit on; its own rows are left out.
    options : Options, optional
        Bins, simulations of the null, and the seed of the folds.
    n_folds : int
        Folds where a run is recalibrated by its own other questions.

    Returns
    -------
    DataFrame
        One row per run × task × method: metrics before and after, the ECE in excess of its
        calibrated null, ``p_calibrated_after`` (one-sided, from that null), and ``saved``: Brier
        score before minus after, with Student's 95 % interval and p-value. Their standard error
        is that of a bootstrap of questions in which recalibrators are fitted anew, or the one
        over questions if that is larger. For fits from a file it is the latter. ``verdict`` is
        "better" or "worse" where the interval leaves 0 out, else "open".

    Raises
    ------
    UserError
        If the method or what it needs is wrong, or no run can be recalibrated.
    """
    check_choice_of("method", method, RECALIBRATORS)
    options = options or Options()
    runs = [run for run in predictions if run.usable.any()]
    if RECALIBRATORS[method].needs == "base" and base is None and fitted is None:
        raise ArgumentError(f"base must name the base model for method {method}; got none.")
    sources: dict[Key, Questions] = {}
    if fit_on is not None:
        sources = _fitted_on(runs, method, base, fit_on)
        fitted = _fits(method, sources)
        if not fitted:
            raise ArgumentError(f"fit_on {fit_on}: no log of that task is among LOGS.")
        runs = [run for run in runs if fit_on not in (run.header.task, run.header.benchmark)]
    rows = []
    for run in runs:
        try:
            with temperatures_of(run.header.title):
                if fitted is not None:
                    done = _by_kept(run, fitted, sources, options.seed)
                else:
                    done = _by_folds(run, runs, method, base, n_folds, options.seed)
        except UserError:
            raise
        except ValueError as error:  # of this run: more choices than were fitted, for example
            logger.warning("%s on %s is left out: %s", *_named(run), error)
            continue
        if done is not None:
            rows.append(_row(run, done, options))
    if not rows:
        raise UserError("no run could be recalibrated; the warnings say why.")
    return pd.DataFrame(rows, columns=COLUMNS)


@dataclass(frozen=True, eq=False)
class _Recalibrated:
    """Questions of a run with new probabilities, and the spread of what refits save (or 0)."""

    method: str
    fitted_on: str
    asked: Questions
    probs: Floats
    spread: float


def _by_kept(
    run: Predictions, fitted: Fitted, sources: Mapping[Key, Questions], seed: int
) -> _Recalibrated | None:
    """Apply what was fitted on another task, refitted if its questions are at hand."""
    found = _kept_for(run, fitted)
    if found is None:
        return None
    task, recalibrator = found
    asked = Questions(run.scores[run.usable], run.gold[run.usable])
    there = sources.get((run.header.label, task, run.header.method))
    method, spread = recalibrator.method, 0.0
    probs = recalibrator.apply(asked.scores)
    if there is not None:
        spread = spread_by_transfer(method, there, asked, seed=seed)
    fitted_on = SAME_QUESTIONS if task == run.header.task else task
    return _Recalibrated(method, fitted_on, asked, probs, spread)


def _by_folds(
    run: Predictions,
    runs: Sequence[Predictions],
    method: str,
    base: BaseLike,
    n_folds: int,
    seed: int,
) -> _Recalibrated | None:
    asked = _questions(run, runs, method, base)
    if asked is None:
        return None
    if len(asked.gold) < n_folds:
        logger.warning("%s on %s has fewer than %d questions", *_named(run), n_folds)
        return None
    options = {"n_folds": n_folds}
    _, probs = cross_fit(method, asked.scores, asked.gold, rng=seed, base=asked.base, **options)
    spread = spread_by_folds(method, asked, seed=seed, **options)
    return _Recalibrated(method, OTHER_FOLDS, asked, probs, spread)


def _questions(
    run: Predictions, runs: Sequence[Predictions], method: str, base: BaseLike
) -> Questions | None:
    """Return what a run offers to fit the method on; None, and a warning, without its base."""
    if RECALIBRATORS[method].needs == "base":
        return _beside_base(run, runs, base)
    return Questions(run.scores[run.usable], run.gold[run.usable])


def _row(run: Predictions, done: _Recalibrated, options: Options) -> dict[str, Any]:
    h, gold = run.header, done.asked.gold
    before = Answers.of(softmax_scores(done.asked.scores), gold)
    after = Answers.of(done.probs, gold)
    values, values_after = (
        point_values(_MEASURED, each.probs, gold, **options.bins) for each in (before, after)
    )
    draws = {"n_resamples": max(options.n_resamples, 2), "rng": options.seed}
    above, above_after = (
        excesses(["ece"], each.probs, gold, **draws, **options.bins)["ece"]
        for each in (before, after)
    )
    saved = _saved(brier_losses(before) - brier_losses(after), done.spread, options.level)
    verdict = "better" if saved.low > 0 else "worse" if saved.high < 0 else "open"
    row: dict[str, Any] = {
        "model": h.label,
        "task": h.task,
        "method": h.method,
        "recalibration": done.method,
    }
    row |= {"fitted_on": done.fitted_on, "n": len(gold)}
    for name in _MEASURED:
        row |= {name: values[name], f"{name}_after": values_after[name]}
    return row | {
        "ece_excess": above.excess,
        "ece_excess_after": above_after.excess,
        "p_calibrated_after": above_after.p_value,
        "saved": saved.mean,
        "low": saved.low,
        "high": saved.high,
        "p_value": saved.p_value,
        "verdict": verdict,
    }


def _saved(savings: Floats, spread: float, level: float) -> MeanTest:
    """Return the mean of savings with an interval from the larger of two standard errors."""
    fixed = mean_test(savings, level=level)
    return t_test(fixed.mean, float(np.maximum(fixed.stderr, spread)), savings.size, level=level)


def fit_all(
    runs: Iterable[Predictions], method: str, *, base: BaseLike = None, only: str | None = None
) -> Fitted:
    """Fit a recalibrator on all questions of each run, by (model, task, method of scoring).

    Raises
    ------
    UserError
        If none of the runs can be fitted; a warning names each that cannot.
    """
    usable = [run for run in runs if run.usable.any()]
    return _fits(method, _fitted_on(usable, method, base, only))


def _fits(method: str, sources: Mapping[Key, Questions]) -> Fitted:
    fits = {}
    for key, q in sources.items():
        title = "{} on {} ({})".format(*key)
        try:
            with temperatures_of(title):
                fits[key] = fit_recalibrator(method, q.scores, q.gold, base=q.base)
        except ValueError as error:  # of this run: no finite score at gold, for example
            logger.warning("%s cannot be fitted: %s", title, error)
    if sources and not fits:
        raise UserError(f"no run could be fitted by {method}; the warnings say why.")
    return fits


def _fitted_on(
    runs: Sequence[Predictions], method: str, base: BaseLike, only: str | None
) -> dict[Key, Questions]:
    """Return the questions of each run (of the task `only`) that the method can be fitted on."""
    sources: dict[Key, Questions] = {}
    for run in runs:
        h = run.header
        if only is not None and only not in (h.task, h.benchmark):
            continue
        found = _questions(run, runs, method, base)
        if found is None:
            continue
        key = (h.label, h.task, h.method)
        if key in sources:
            raise UserError(
                f"{h.label} was run on {h.task} ({h.method}) several times; give the logs of one."
            )
        sources[key] = found
    return sources


def _beside_base(run: Predictions, runs: Sequence[Predictions], base: BaseLike) -> Questions | None:
    """Return the questions that a run and its base model's have both."""
    h = run.header
    if isinstance(base, Mapping):
        base = next((base[name] for name in _names(run) if name in base), None)
    if base is None or base in _names(run):
        return None
    for other in runs:
        o = other.header
        same = (o.task, o.method, o.n_shot) == (h.task, h.method, h.n_shot)
        if same and base in _names(other):
            shared = shared_questions([run, other])
            if not len(shared):
                break
            with np.errstate(divide="ignore"):
                return Questions(np.log(shared.probs[0]), shared.gold, shared.probs[1])
    logger.warning("%s on %s has no log of its base model, %s, beside it", *_named(run), base)
    return None


def _names(run: Predictions) -> tuple[str, str]:
    """Return the label of a run's model and the last part of it."""
    return run.header.label, run.header.label.rsplit("/", 1)[-1]


def _kept_for(run: Predictions, fitted: Fitted) -> tuple[str, Recalibrator] | None:
    """Return the recalibrator of the same task, else the only one of the model and method."""
    h = run.header
    of_run = {
        task: found
        for (model, task, method), found in fitted.items()
        if (model, method) == (h.label, h.method)
    }
    if h.task in of_run:
        logger.warning(
            "%s on %s is recalibrated by a fit on that task: where the questions are the same, "
            "what is saved is overstated",
            *_named(run),
        )
        return h.task, of_run[h.task]
    if len(of_run) == 1:
        return next(iter(of_run.items()))
    logger.warning(
        "%s on %s (%s) is left out: %s",
        *_named(run),
        h.method,
        f"fits of several tasks were kept ({', '.join(of_run)})" if of_run else "no fit was kept",
    )
    return None


def _named(run: Predictions) -> tuple[str, str]:
    return run.header.label, run.header.task


def recalibrators_text(fitted: Fitted) -> str:
    """Return recalibrators as JSON, as `read_recalibrators` reads them."""
    entries = [
        {"model": model, "task": task, "method": method}
        | {"recalibration": r.method, "params": dict(r.params)}
        for (model, task, method), r in fitted.items()
    ]
    return json.dumps({"version": _FILE_VERSION, "fitted": entries}, indent=1) + "\n"


def read_recalibrators(path: Path) -> Fitted:
    """Return the recalibrators of a file that `recalibrate` saved.

    Raises
    ------
    UserError
        If it cannot be read or is no such file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _FILE_VERSION:
            raise ValueError(f"its version is {content['version']}, not {_FILE_VERSION}")
        fitted = {
            (each["model"], each["task"], each["method"]): Recalibrator(
                each["recalibration"], each["params"]
            )
            for each in content["fitted"]
        }
        for recalibrator in fitted.values():
            recalibrator.apply([[0.0]])  # raises what numbers that it cannot use raise
        return fitted
    except OSError as error:
        raise ArgumentError(f"apply {path} cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArgumentError(
            f"apply {path} is no file that `recalibrate --save` wrote ({error})."
        ) from error
