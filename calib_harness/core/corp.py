"""The Brier score of confidence taken apart by isotonic regression (CORP)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calib_harness.core.checks import check_pairs
from calib_harness.core.loss import MeanTest, mean_test
from calib_harness.core.recalibration import folds
from calib_harness.core.recalibrators import isotonic_fit


@dataclass(frozen=True)
class Decomposition:
    """A binary score taken apart: score = miscalibration - discrimination + uncertainty.

    Attributes
    ----------
    score : MeanTest
        Mean (confidence - correct)², the Brier score of the predicted choice.
    miscalibration : MeanTest
        What a monotone recalibration of confidence saves.
    discrimination : MeanTest
        What recalibrated confidence saves over one constant confidence.
    uncertainty : MeanTest
        The score of that constant: accuracy × (1 - accuracy).
    """

    score: MeanTest
    miscalibration: MeanTest
    discrimination: MeanTest
    uncertainty: MeanTest


def corp(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    *,
    n_folds: int | None = None,
    rng: np.random.Generator | int = 0,
    level: float = 0.95,
) -> Decomposition:
    """Return the CORP decomposition of the Brier score (Dimitriadis, Gneiting, Jordan 2021).

    Parameters
    ----------
    confidence : array_like, shape (n,)
        Probability of the predicted choice.
    correct : array_like, shape (n,)
        1 where the prediction is gold, else 0.
    n_folds : int, optional
        None gives the decomposition as published: the isotonic fit is judged on the questions
        it was fitted on, so that miscalibration is never below 0, is biased upwards, and has no
        interval. With folds, fit and constant come from the other folds: each part is a mean
        over questions, with Student's t interval, and a calibrated model's miscalibration is
        about 0. Both add up exactly.
    rng : numpy.random.Generator or int
        Source of the folds.
    level : float
        Coverage of the intervals.

    Returns
    -------
    Decomposition

    Raises
    ------
    ValueError
        If the pairs are not probabilities and 0/1, or there are fewer questions than folds.

    Examples
    --------
    >>> found = corp([0.6, 0.6, 0.9, 0.9], [0, 1, 1, 1])
    >>> parts = (found.miscalibration, found.discrimination, found.uncertainty)
    >>> [round(part.mean, 4) for part in parts], round(found.score.mean, 4)
    ([0.01, 0.0625, 0.1875], 0.135)
    """
    conf, hit = check_pairs(confidence, correct)
    fitted, constant = np.empty_like(conf), np.empty_like(conf)
    if n_folds is None:
        fitted[:] = np.interp(conf, *isotonic_fit(conf, hit))
        constant[:] = hit.mean()
    else:
        if conf.size < n_folds:
            raise ValueError(f"confidence must have at least n_folds={n_folds}; got {conf.size}.")
        fold = folds(conf.size, n_folds, rng)
        for k in range(n_folds):
            out = fold == k
            fitted[out] = np.interp(conf[out], *isotonic_fit(conf[~out], hit[~out]))
            constant[out] = hit[~out].mean()
    raw, after, at_constant = ((each - hit) ** 2 for each in (conf, fitted, constant))
    parts = (raw, raw - after, at_constant - after, at_constant)
    found = [mean_test(part, level=level) for part in parts]
    if n_folds is None:
        found = [MeanTest(each.mean, *(np.nan,) * 4) for each in found]
    return Decomposition(*found)
