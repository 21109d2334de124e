"""How far what a recalibration saves would vary if it were fitted on other questions as well."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from calib_harness.core.accuracy import brier_losses
from calib_harness.core.answers import Answers
from calib_harness.core.checks import FloatArray, IntArray
from calib_harness.core.confidence import softmax_scores
from calib_harness.core.recalibration import folds
from calib_harness.core.recalibration import logger as temperature_logger
from calib_harness.core.recalibrators import fit_recalibrator

# A standard error from as many is itself known to a tenth.
N_REFITS = 50


@dataclass(frozen=True, eq=False)
class Questions:
    """What a recalibrator is fitted on, or applied to.

    Attributes
    ----------
    scores : ndarray, shape (n, K)
        NaN where a choice does not exist.
    gold : ndarray of int, shape (n,)
    base : ndarray, shape (n, K), or None
        Probabilities of the base model, for ``agreement``.
    """

    scores: FloatArray
    gold: IntArray
    base: FloatArray | None = None

    def at(self, rows: IntArray) -> Questions:
        """Return the questions of these rows, in their order and as often as they are named."""
        base = None if self.base is None else self.base[rows]
        return Questions(self.scores[rows], self.gold[rows], base)

    def drawn(self, rng: np.random.Generator) -> IntArray:
        """Return as many rows as there are, drawn with replacement."""
        return rng.integers(len(self.gold), size=len(self.gold))


def spread_by_folds(
    method: str, asked: Questions, *, n_folds: int, seed: int, n_refits: int = N_REFITS
) -> float:
    """Return the standard error of the mean Brier score saved by folds, by the bootstrap.

    Questions are drawn with replacement and recalibrators fitted anew. Every copy of a question
    stays in the fold that `cross_fit` with this seed puts it in, so that none is recalibrated by
    a copy of itself.

    Returns
    -------
    float
        NaN if nothing can be fitted on most of the drawn questions.
    """
    fold = folds(len(asked.gold), n_folds, seed)

    def saved(rng: np.random.Generator) -> float:
        rows = asked.drawn(rng)
        by_fold = [
            _savings(method, asked.at(rows[fold[rows] != k]), asked.at(rows[fold[rows] == k]))
            for k in np.unique(fold[rows])
        ]
        return float(np.concatenate(by_fold).mean())

    return _spread(saved, seed, n_refits)


def spread_by_transfer(
    method: str, there: Questions, here: Questions, *, seed: int, n_refits: int = N_REFITS
) -> float:
    """Return that standard error where one is fitted `there` and applied `here`.

    Both are drawn anew, independently.
    """

    def saved(rng: np.random.Generator) -> float:
        fitted_on = there.at(there.drawn(rng))
        return float(_savings(method, fitted_on, here.at(here.drawn(rng))).mean())

    return _spread(saved, seed, n_refits)


def _savings(method: str, there: Questions, here: Questions) -> FloatArray:
    """Return the Brier score of each question here, before minus after."""
    fitted = fit_recalibrator(method, there.scores, there.gold, base=there.base)
    before = brier_losses(Answers.of(softmax_scores(here.scores), here.gold))
    return before - brier_losses(Answers.of(fitted.apply(here.scores), here.gold))


def _spread(saved: Callable[[np.random.Generator], float], seed: int, n_refits: int) -> float:
    found = []
    with _unsaid():
        for rng in np.random.default_rng(seed).spawn(n_refits):
            try:
                found.append(saved(rng))
            except ValueError:  # nothing to fit on in these questions, such as no agreement
                continue
    return float(np.std(found, ddof=1)) if len(found) > n_refits / 2 else float("nan")


@contextmanager
def _unsaid() -> Iterator[None]:
    """Keep to itself that a temperature lies at its bound, which the fit itself has said."""

    def nothing(_: logging.LogRecord) -> bool:
        return False

    temperature_logger.addFilter(nothing)
    try:
        yield
    finally:
        temperature_logger.removeFilter(nothing)
