"""Temperatures of runs: fitted on other questions of the task, or on another task."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from calib_harness.core.recalibration import (
    apply_temperature,
    cross_fit_temperature,
    fit_temperature,
    temperatures_of,
)
from calib_harness.errors import ArgumentError
from calib_harness.predictions.table import Floats, Predictions

logger = logging.getLogger(__name__)

#: Temperature by what a run was (`_transfer_key`) and its number of shots.
Temperatures: TypeAlias = dict[tuple[Any, ...], dict[int | None, float]]


def fit_temperatures(predictions: Iterable[Predictions], fit_on: str) -> Temperatures:
    """Fit one temperature per run × method on the task `fit_on`."""
    temperatures: Temperatures = defaultdict(dict)
    failed = False
    for p in predictions:
        if fit_on in (p.header.task, p.header.benchmark) and p.usable.any():
            try:
                with temperatures_of(p.header.title):
                    fitted = fit_temperature(p.scores[p.usable], p.gold[p.usable])
            except ValueError as error:  # no finite score at gold, for example
                logger.warning("%s has no temperature to transfer: %s", p.header.title, error)
                failed = True
                continue
            temperatures[_transfer_key(p)][p.header.n_shot] = fitted
    if failed and not temperatures:
        raise ArgumentError(f"fit_on {fit_on}: no log of it could be fitted; the warnings say why.")
    if not temperatures:
        raise ArgumentError(f"fit_on {fit_on}: no log of that task is among LOGS.")
    return temperatures


def _transfer_key(p: Predictions) -> tuple[Any, ...]:
    h = p.header
    return (h.label, h.method, h.chat_template, h.settings)


def _transferred(p: Predictions, temperatures: Temperatures, fit_on: str | None) -> float:
    """Return the temperature of the same shots, else the only one; NaN and a warning if none."""
    fitted = temperatures.get(_transfer_key(p), {})
    if p.header.n_shot in fitted:
        return fitted[p.header.n_shot]
    if len(fitted) == 1:
        return next(iter(fitted.values()))
    logger.warning(
        "%s on %s (%s) has no temperature: %s with the same settings%s",
        p.header.label,
        p.header.task,
        p.header.method,
        f"it was run on {fit_on}" if fitted else f"there is no log of {fit_on}",
        ", but with other numbers of shots only" if fitted else "",
    )
    return np.nan


def recalibrated(
    p: Predictions, seed: int, temperatures: Temperatures | None, fit_on: str | None
) -> tuple[float, Floats | None]:
    """Return a run's temperature and its probabilities at it, never fitted on their own questions.

    Parameters
    ----------
    p : Predictions
    seed : int
        Of the folds.
    temperatures : Temperatures or None
        As from `fit_temperatures`; None fits on the run's other questions, by folds, and returns
        the temperature of all questions.
    fit_on : str or None
        The task that they were fitted on.

    Returns
    -------
    temperature : float
        NaN where there is none.
    probs : ndarray, shape (usable questions, K), or None
        None where the temperature is missing, or was fitted on these very questions.
    """
    scores, gold = p.scores[p.usable], p.gold[p.usable]
    if temperatures is None:
        if len(gold) < 2:
            return np.nan, None
        _, probs = cross_fit_temperature(scores, gold, n_folds=min(5, len(gold)), rng=seed)
        return fit_temperature(scores, gold), probs
    temperature = _transferred(p, temperatures, fit_on)
    if fit_on in (p.header.task, p.header.benchmark) or np.isnan(temperature):
        return temperature, None
    return temperature, apply_temperature(scores, temperature)
