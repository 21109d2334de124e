"""Which changes are for the worse, which of them are clear, and which share of the pairs is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from calib_harness.analysis.multiplicity import corrected, is_evidence
from calib_harness.analysis.results import is_clear, is_harmed, settings_in
from calib_harness.core.families import clustered_share, clustered_sign_test
from calib_harness.core.loss import LOSSES


def harm_of_changes(changes: pd.DataFrame) -> pd.Series:
    """Return `is_harmed` of every change of a frame, calibration errors by their excess.

    A measured calibration error is biased upwards, the more the less sharp a model is: two
    calibrated models of different sharpness differ in it. What is above the value that a calibrated
    model would show may be compared (columns ``base_null`` and ``aligned_null``, 0 where a metric
    has no such value).
    """
    harm = pd.Series(np.nan, index=changes.index)
    for metric, rows in changes.groupby("metric", sort=False):
        base, aligned = _excess(rows, "base"), _excess(rows, "aligned")
        harm[rows.index] = is_harmed(base, aligned, str(metric))
    return harm


def _excess(rows: pd.DataFrame, side: str) -> pd.Series:
    null = rows[f"{side}_null"].fillna(0.0) if f"{side}_null" in rows else 0.0
    return rows[f"{side}_value"] - null


def clear_changes(changes: pd.DataFrame) -> pd.Series:
    """Whether each change is told from one for neither worse nor better; others are no evidence.

    The Holm-corrected p-value is below .05, the interval is clear (see `is_clear`), and the
    excess, where a metric has one, changed in the same direction as the value. Of the calibration
    losses the p-value decides, whose test is sharper than their interval.
    """
    clear = is_evidence(changes["p_holm"])
    for metric, rows in changes[~changes["metric"].isin(LOSSES)].groupby("metric", sort=False):
        clear[rows.index] &= is_clear(rows["base_value"], rows["low"], rows["high"], str(metric))
    if "excess_change" in changes:
        clear &= changes["excess_change"] * changes["change"] > 0
    return clear


def share_harmed(changes: pd.DataFrame, *, strata: Sequence[str] = ()) -> pd.DataFrame:
    """Count harmed pairs per task × method × prompt settings × metric; test the share against ½.

    Parameters
    ----------
    changes : DataFrame
        With the columns ``task, method, metric, base_value, aligned_value``, one row per pair;
        ``family``, without which every pair is its own; ``base_null`` and ``aligned_null``,
        which are taken off (see `harm_of_changes`); and ``n_shot`` and ``chat_template`` where
        pairs were run with several.
    strata : sequence of str
        Further columns whose values are kept apart.

    Returns
    -------
    DataFrame
        See :class:`calib_harness.analysis.Comparison`. Pairs without any change take no part
        in the test (they are counted in ``n_tied``).
    """
    keys = ["task", "method", *settings_in(changes), *strata, "metric"]
    changes = changes.assign(_harm=harm_of_changes(changes))
    if "family" not in changes:
        changes = changes.assign(family=np.arange(len(changes)))
    rows = []
    for key, group in changes.groupby(keys, sort=False, dropna=False):
        harm, families = group["_harm"].to_numpy(), group["family"].to_numpy()
        n_harmed, n_improved = int((harm > 0).sum()), int((harm < 0).sum())
        n_changed = n_harmed + n_improved
        low, high = clustered_share(harm, families)
        rows.append(
            dict(zip(keys, key, strict=True))
            | {
                "n_pairs": int((~np.isnan(harm)).sum()),
                "n_families": len(set(families[~np.isnan(harm)])),
                "n_harmed": n_harmed,
                "n_improved": n_improved,
                "n_tied": int((harm == 0).sum()),
                "share_harmed": n_harmed / n_changed if n_changed else np.nan,
                "low": low,
                "high": high,
                "p_value": clustered_sign_test(harm, families),
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(p_holm=corrected(table))
