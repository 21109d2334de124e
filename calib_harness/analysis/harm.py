"""Over families: which share of the pairs alignment harmed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from scipy import stats

from calib_harness.analysis.results import is_harmed, settings_in
from calib_harness.core.significance import sign_test


def share_harmed(changes: pd.DataFrame) -> pd.DataFrame:
    """Count harmed pairs per task × method × prompt settings × metric; test the share against ½.

    Parameters
    ----------
    changes : DataFrame
        With the columns ``task, method, metric, base_value, aligned_value``, one row per pair,
        and ``n_shot`` and ``chat_template`` where pairs were run with several.

    Returns
    -------
    DataFrame
        See :class:`calib_harness.analysis.Comparison`. Pairs without any change take no part
        in the test (they are counted in ``n_tied``).
    """
    keys = ["task", "method", *settings_in(changes), "metric"]
    rows = []
    for key, group in changes.groupby(keys, sort=False, dropna=False):
        harm = is_harmed(group["base_value"], group["aligned_value"], str(key[-1]))
        n_harmed, n_improved = int((harm > 0).sum()), int((harm < 0).sum())
        n_changed = n_harmed + n_improved
        low, high = _exact_interval(n_harmed, n_changed)
        rows.append(
            dict(zip(keys, key, strict=True))
            | {
                "n_pairs": int(harm.notna().sum()),
                "n_harmed": n_harmed,
                "n_improved": n_improved,
                "n_tied": int((harm == 0).sum()),
                "share_harmed": n_harmed / n_changed if n_changed else np.nan,
                "low": low,
                "high": high,
                "p_value": sign_test(n_harmed, n_changed),
            }
        )
    return pd.DataFrame(rows)


@cache  # large tables ask for the same few counts again and again
def _exact_interval(k: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share.

    scipy's own, like the p-value beside it. It searches for a millisecond, too long for columns
    of bins: those have `core.intervals.clopper_pearson`, equal but for rounding.
    """
    if n == 0:
        return np.nan, np.nan
    interval = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)
