"""What comparisons give back: frozen dataclasses of frames."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from calib_harness.analysis.metrics_frame import SummaryOptions
from calib_harness.core.metrics import METRICS

#: Metrics compared unless told otherwise.
DEFAULT_METRICS = ("acc", "ece", "sce", "sce_ova")

CHANGE_COLUMNS = [
    *("family", "base", "aligned", "task", "method", "n_shot", "metric"),
    *("base_value", "aligned_value", "change", "stderr", "low", "high", "p_value", "p_holm"),
    *("change_ratio", "rank"),
    *("n", "n_base_only", "n_aligned_only", "n_unusable", "n_changed"),
    *("base_null", "aligned_null", "chat_template", "clear"),
]
DECOMPOSITION_COLUMNS = [
    *("family", "base", "aligned", "task", "method", "n_shot"),
    *("ece_change", "over_change", "under_change"),
    *("base_over", "aligned_over", "base_under", "aligned_under"),
    *("overconfidence_change", "confidence_change", "accuracy_change", "n"),
    *("over_low", "over_high", "under_low", "under_high", "chat_template"),
]


def settings_in(changes: pd.DataFrame) -> list[str]:
    """Columns of prompt settings: the same pair under others is no further pair."""
    return [name for name in ("n_shot", "chat_template") if name in changes.columns]


@dataclass(frozen=True)
class Comparison:
    """Base against aligned models, over families, tasks and metrics.

    Attributes
    ----------
    changes : DataFrame
        One row per pair × task × method × metric: ``family, base, aligned, task, method,
        n_shot, metric``; ``base_value, aligned_value, change`` (aligned minus base);
        ``stderr, low, high, p_value`` of the change from the paired bootstrap and ``p_holm``,
        corrected over the table; ``change_ratio`` (change / base value) and its ``rank`` within
        task × method × metric × prompt settings (1 is the largest ratio, ties share the smaller
        rank); ``n``
        questions used, ``n_base_only`` and ``n_aligned_only`` that one side lacks,
        ``n_unusable`` and ``n_changed`` (shared, but without finite scores or gold on some
        side, or with other choices or gold); ``base_null`` and ``aligned_null``, what a
        perfectly calibrated model with these probabilities would show on average (calibration
        errors only, NaN elsewhere); ``chat_template``; ``clear``, whether the change can be told
        from one for neither worse nor better (see `is_clear`). The prompt settings, ``n_shot``
        and ``chat_template``, are None where they are unknown or the two sides differ.
    over_families : DataFrame
        One row per task × method × prompt settings × metric: ``n_pairs, n_harmed, n_improved,
        n_tied, share_harmed`` (of the pairs that changed), its exact 95 % interval ``low, high``
        and the two-sided exact sign test's ``p_value``.
    over_tasks : DataFrame
        See :func:`calib_harness.analysis.rank_agreement`.
    decomposition : DataFrame
        One row per pair × task × method. ECE is the sum of a part from bins whose confidence
        exceeds their accuracy (over) and a part from the others (under): ``ece_change =
        over_change + under_change``, with the 95 % intervals ``over_low, over_high, under_low,
        under_high`` of the two parts from the paired bootstrap. Beside it
        ``overconfidence_change = confidence_change − accuracy_change``, the changes of mean
        confidence and of accuracy, tells "more certain" from "more accurate".
    options : SummaryOptions
        What was used: metrics, bins, seed, and the resamples that were chosen for as many tests.
    """

    changes: pd.DataFrame
    over_families: pd.DataFrame
    over_tasks: pd.DataFrame
    decomposition: pd.DataFrame
    options: SummaryOptions


@dataclass(frozen=True)
class ChainComparison:
    """A chain of stages, or checkpoints of one model, on the questions all of them share.

    Attributes
    ----------
    values : DataFrame
        ``family, task, method, n_shot, chat_template, metric, position, stage, model``, ``value,
        stderr, low, high, n``.
    changes : DataFrame
        ``family, task, method, n_shot, chat_template, metric``, ``reference`` (``previous`` or
        ``first``), ``from_stage, to_stage, base_value, aligned_value, change, stderr, low, high,
        p_value, p_holm, change_ratio, n, clear``: the earlier stage is the base of the later;
        paired bootstrap as in :class:`Comparison`, Holm over the table. The step from the first
        stage to the second is listed once, under ``previous``.
    trends : DataFrame
        ``family, task, method, n_shot, chat_template, metric, n_stages, tau, p_value``: Kendall's
        τ of the value against the position, where a chain has at least three stages.
    options : SummaryOptions
        As of a Comparison.
    """

    values: pd.DataFrame
    changes: pd.DataFrame
    trends: pd.DataFrame
    options: SummaryOptions


def clear_changes(changes: pd.DataFrame) -> pd.Series:
    """Return `is_clear` of the changes of a frame, whichever metric they are of."""
    clear = pd.Series(False, index=changes.index)
    for metric, rows in changes.groupby("metric", sort=False):
        clear[rows.index] = is_clear(rows["base_value"], rows["low"], rows["high"], str(metric))
    return clear


def is_clear(base: pd.Series, low: pd.Series, high: pd.Series, metric: str) -> pd.Series:
    """Whether the interval of a change tells worse from better.

    It must leave out 0 and, of metrics whose best value is zero (overconfidence), the change
    from `base` to the other side of zero, as far from it: from .02 to -.03 is a change of -.05
    that may be clear, but hardly one for the worse.
    """
    clear = (low > 0) | (high < 0)
    if METRICS[metric].direction == "zero":
        clear &= (low > -2 * base) | (high < -2 * base)
    return clear


def is_harmed(base: pd.Series, aligned: pd.Series, metric: str) -> pd.Series:
    """Sign of the harm: 1 where the metric got worse, -1 better, 0 the same, NaN unknown.

    Metrics whose best value is zero (overconfidence) are worse the further they are from it.
    """
    direction = METRICS[metric].direction
    if direction == "zero":
        base, aligned = base.abs(), aligned.abs()
    sign = (aligned - base).map(lambda change: (change > 0) * 1.0 - (change < 0) * 1.0)
    sign = sign.where((aligned - base).notna())
    return -sign if direction == "higher" else sign
