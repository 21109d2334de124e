"""Across pairs and families: the mean change, how much changes differ, and the next family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from calib_harness.analysis.multiplicity import corrected
from calib_harness.analysis.results import settings_in
from calib_harness.core.families import RandomEffects, random_effects, sign_flip_test
from calib_harness.predictions.table import Floats

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


def at_equal_accuracy(
    changes: pd.DataFrame, *, effect: str = "excess_change", strata: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the mean change of each metric for a pair whose accuracy did not change.

    A model that got worse at a task is not thereby worse calibrated, but often is. The changes are
    regressed on the changes of accuracy over pairs (least squares); what the line says at no change
    of accuracy has the interval of the jackknife over families, F - 1 degrees of freedom.

    Parameters
    ----------
    changes : DataFrame
        ``Comparison.changes``, with rows of ``acc``.
    effect, strata
        As for `mean_over_pairs`.

    Returns
    -------
    DataFrame
        One row per task × method × prompt settings × metric other than ``acc``: ``n_pairs``,
        ``n_families``, ``plain_mean`` of the changes (each pair counts the same, unlike the
        ``mean`` of `mean_over_pairs`), ``slope`` (per unit of accuracy), ``at_equal`` with ``low,
        high``. Empty without ``acc``; NaN with fewer than 4 pairs or 3 families.
    """
    keys = ["task", "method", *settings_in(changes), *strata]
    places = [*keys, *(name for name in ("family", "base", "aligned") if name not in keys)]
    is_acc = changes["metric"] == "acc"
    both = changes[~is_acc].merge(
        changes.loc[is_acc, [*places, "change"]], on=places, suffixes=("", "_of_acc")
    )
    both = both[np.isfinite(both[effect].to_numpy(dtype=float))]
    rows = []
    for key, group in both.groupby([*keys, "metric"], sort=False, dropna=False):
        found = _regressed(
            group["change_of_acc"].to_numpy(), group[effect].to_numpy(), group["family"].to_numpy()
        )
        rows.append(dict(zip([*keys, "metric"], key, strict=True)) | found)
    return pd.DataFrame(rows, columns=[*keys, "metric", *_OF_REGRESSION])


_OF_REGRESSION = ("n_pairs", "n_families", "plain_mean", "slope", "at_equal", "low", "high")


def _regressed(x: Floats, y: Floats, families: np.ndarray) -> dict[str, float]:
    names = list(dict.fromkeys(families))
    found: dict[str, float] = dict.fromkeys(_OF_REGRESSION, np.nan)
    found |= {"n_pairs": len(y), "n_families": len(names), "plain_mean": float(y.mean())}
    if len(y) < 4 or len(names) < 3 or np.ptp(x) == 0:
        return found
    slope, at_equal = np.polyfit(x, y, 1)
    found |= {"slope": float(slope), "at_equal": float(at_equal)}
    without = [families != name for name in names]
    if all(kept.sum() >= 2 and np.ptp(x[kept]) > 0 for kept in without):
        left_out = np.array([np.polyfit(x[kept], y[kept], 1)[1] for kept in without])
        n = len(names)
        stderr = np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
        half = float(stats.t.ppf(0.975, n - 1) * stderr)
        found |= {"low": float(at_equal) - half, "high": float(at_equal) + half}
    return found
