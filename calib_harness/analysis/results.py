"""What comparisons give back: frozen dataclasses of frames."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from calib_harness.analysis.metrics_frame import SummaryOptions
from calib_harness.core.loss import LOSSES, PRIMARY
from calib_harness.core.metrics import METRICS

#: Metrics compared unless told otherwise.
DEFAULT_METRICS = (PRIMARY, "acc", "ece", "sce", "sce_ova")

CHANGE_COLUMNS = [
    *("family", "base", "aligned", "task", "method", "n_shot", "metric"),
    *("base_value", "aligned_value", "change", "stderr", "low", "high", "p_value", "p_holm"),
    *("change_ratio", "rank"),
    *("n", "n_base_only", "n_aligned_only", "n_unusable", "n_changed"),
    *("base_null", "aligned_null", "chat_template", "clear"),
    *("excess_change", "bias_low", "bias_high", "harm", "n_tests"),
    "gold",
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
        ``stderr, low, high, p_value`` of the change from the paired bootstrap (of the
        calibration losses: Student's t) and ``p_holm``, corrected over the ``n_tests`` of its
        metric (see `multiplicity`); ``change_ratio`` (change / base value), as the paper has it;
        ``n`` questions used, ``n_base_only`` and ``n_aligned_only`` that one side lacks,
        ``n_unusable`` and ``n_changed`` (shared, but without finite scores or gold on some
        side, or with other choices or gold); ``base_null`` and ``aligned_null``, what a
        perfectly calibrated model with these probabilities would show on average (calibration
        errors only, NaN elsewhere); ``chat_template``; ``excess_change``, the change less that
        of the nulls, and its ``rank`` within task × method × metric × prompt settings (1 is the
        largest, ties share the smaller rank); ``bias_low`` and ``bias_high``, by how much the
        measured change is too large on average (too small below 0), if the measured gaps between
        confidence and accuracy are real or noise on either side; ``harm``, 1 for worse (by the
        excess), -1 for better; ``clear``, whether that is evidence (see `clear_changes`). The
        prompt settings, ``n_shot`` and ``chat_template``, are None where they are unknown or the
        two sides differ. ``gold`` is the lesser of what is known of either side's gold
        (``Header.gold``).
    over_families : DataFrame
        One row per task × method × prompt settings × metric: ``n_pairs, n_families, n_harmed,
        n_improved, n_tied, share_harmed`` (of the pairs that changed, by their excess), its 95 %
        interval ``low, high``, the two-sided exact sign test's ``p_value``, both with pairs of
        one family as alike as they are (`core.families`), and ``p_holm`` over the metric's rows.
    across_pairs : DataFrame
        The mean over pairs and families, one row as above: see `across.mean_over_pairs`.
    over_tasks : DataFrame
        See :func:`calib_harness.analysis.rank_agreement`.
    decomposition : DataFrame
        One row per pair × task × method. ECE is the sum of a part from bins whose confidence
        exceeds their accuracy (over) and a part from the others (under): ``ece_change =
        over_change + under_change``, with the 95 % intervals ``over_low, over_high, under_low,
        under_high`` of the two parts from the paired bootstrap. Beside it
        ``overconfidence_change = confidence_change − accuracy_change``, the changes of mean
        confidence and of accuracy, tells "more certain" from "more accurate".
    equal_accuracy : DataFrame
        Changes adjusted for the change of accuracy, see `across.at_equal_accuracy`.
    ladder : DataFrame
        What a temperature and a bias of each letter mend, see `ladder.climb`; empty unless asked
        for.
    options : SummaryOptions
        What was used: metrics, bins, seed, and the resamples that were chosen for as many tests.
    """

    changes: pd.DataFrame
    over_families: pd.DataFrame
    across_pairs: pd.DataFrame
    over_tasks: pd.DataFrame
    decomposition: pd.DataFrame
    equal_accuracy: pd.DataFrame
    ladder: pd.DataFrame
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
        ``family, task, method, n_shot, chat_template, metric, n_stages``; ``change, stderr, low,
        high, p_value``: by how much the least squares line through the values rises from the
        first position to the last, all stages resampled together over questions, and
        ``p_holm``; ``tau``, Kendall's τ of the value against the position. NaN with fewer than
        three stages. The test asks whether these stages' true values rise, of the questions
        that were drawn; a wandering series rises or falls, too.
    options : SummaryOptions
        As of a Comparison.
    """

    values: pd.DataFrame
    changes: pd.DataFrame
    trends: pd.DataFrame
    options: SummaryOptions


def better_is(metric: str) -> str:
    """Return which values of a metric are better: "lower", "higher" or "zero"."""
    return "lower" if metric in LOSSES else METRICS[metric].direction


def is_clear(base: pd.Series, low: pd.Series, high: pd.Series, metric: str) -> pd.Series:
    """Whether the interval of a change tells worse from better.

    It must leave out 0 and, of metrics whose best value is zero (overconfidence), the change
    from `base` to the other side of zero, as far from it: from .02 to -.03 is a change of -.05
    that may be clear, but hardly one for the worse.
    """
    clear = (low > 0) | (high < 0)
    if better_is(metric) == "zero":
        clear &= (low > -2 * base) | (high < -2 * base)
    return clear


def is_harmed(base: pd.Series, aligned: pd.Series, metric: str) -> pd.Series:
    """Sign of the harm: 1 where the metric got worse, -1 better, 0 the same, NaN unknown.

    Metrics whose best value is zero (overconfidence) are worse the further they are from it.
    """
    direction = better_is(metric)
    if direction == "zero":
        base, aligned = base.abs(), aligned.abs()
    sign = (aligned - base).map(lambda change: (change > 0) * 1.0 - (change < 0) * 1.0)
    sign = sign.where((aligned - base).notna())
    return -sign if direction == "higher" else sign
