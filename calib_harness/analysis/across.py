"""Across pairs and families: the mean change, how much changes differ, and the next family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from calib_harness.analysis.multiplicity import corrected
from calib_harness.analysis.results import settings_in
from calib_harness.core.families import RandomEffects, random_effects, sign_flip_test

_OF_EFFECTS = (
    *("n_pairs", "n_families", "mean", "low", "high"),
    *("next_low", "next_high", "between_families", "between_pairs", "i_squared"),
)


def mean_over_pairs(
    changes: pd.DataFrame, *, effect: str = "excess_change", strata: Sequence[str] = ()
) -> pd.DataFrame:
    """Fit the random-effects model of families and pairs to the changes of each metric.

    Parameters
    ----------
    changes : DataFrame
        ``Comparison.changes``: ``family, task, method, metric``, the prompt settings, the effect
        and its ``stderr``.
    effect : str
        The column of the changes.
    strata : sequence of str
        Further columns whose values are kept apart.

    Returns
    -------
    DataFrame
        One row per task × method × prompt settings × metric: ``n_pairs``, ``n_families``; the
        ``mean`` change with its 95 % interval ``low, high``; ``p_value`` of no change on average
        from flipping the signs of whole families, and ``p_holm`` over the metric's rows;
        ``next_low`` and ``next_high``, where the true change of a pair of a further family lies;
        ``between_families`` and ``between_pairs``, standard deviations of the true changes, and
        ``i_squared``. See `core.families`. The effect of a calibration error is the change of its
        excess; what is measured of one question set is taken as the truth about that task.
    """
    keys = ["task", "method", *settings_in(changes), *strata, "metric"]
    rows = []
    for key, group in changes.groupby(keys, sort=False, dropna=False):
        found = _effects(group, effect)
        rows.append(
            dict(zip(keys, key, strict=True))
            | {name: getattr(found, name) for name in _OF_EFFECTS}
            | {"p_value": sign_flip_test(group[effect], group["family"])}
        )
    table = pd.DataFrame(rows)
    return table.assign(p_holm=corrected(table))


def _effects(group: pd.DataFrame, effect: str) -> RandomEffects:
    """Fit the model; where there are no resamples, changes count as measured without error."""
    errors = group["stderr"]
    return random_effects(
        group[effect], np.zeros(len(group)) if errors.isna().all() else errors, group["family"]
    )
