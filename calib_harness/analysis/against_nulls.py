"""Calibration errors of a run beside what a perfectly calibrated model would show."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from calib_harness.core.nulls import Excess, excesses, has_null
from calib_harness.core.options import Options
from calib_harness.predictions.table import Floats, Ints

#: Columns of a table of metrics, in rows of calibration errors.
NULL_COLUMNS = ["null", "excess", "p_calibrated", "too_few"]
#: An error of confidence that should be seen: see `too_few`.
_TELLING_GAP = 0.1
_OF_CLASSES = frozenset(["sce", "ace", "tace"])


def errors_above_nulls(
    metrics: Collection[str], probs: Floats, gold: Ints, options: Options
) -> dict[str, Excess]:
    """Return the calibration errors among the metrics with their nulls, all of one simulation.

    Parameters
    ----------
    metrics : collection of str
        Others are passed over.
    probs : ndarray, shape (n, K)
    gold : ndarray, shape (n,)
    options : Options
        Without resamples, or without questions, there is nothing to return.
    """
    names = [name for name in metrics if has_null(name)]
    if not names or not options.n_resamples or not len(gold):
        return {}
    return excesses(names, probs, gold, **options.draws, level=options.level, **options.bins)


def null_cells(name: str, found: Excess, probs: Floats) -> dict[str, Any]:
    """Return what stands in `NULL_COLUMNS` of an error."""
    cells = (found.null.mean, found.excess, found.p_value, too_few(name, found.null.mean, probs))
    return dict(zip(NULL_COLUMNS, cells, strict=True))


def too_few(name: str, null_mean: float, probs: Floats) -> bool:
    """Whether questions are too few for an error to decide anything.

    They are where a calibrated model shows at least as much as one whose every prediction is .1
    too sure: .1 for errors of predictions, and .2 / K for those of classes, which spread the .1
    of the prediction and the .1 that the others lack over K classes.
    """
    n_choices = float((~np.isnan(probs)).sum(axis=1).mean())
    return null_mean >= (2 * _TELLING_GAP / n_choices if name in _OF_CLASSES else _TELLING_GAP)
