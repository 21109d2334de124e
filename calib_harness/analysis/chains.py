"""Chains of stages (base → sft → dpo → …) and checkpoints of one model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from calib_harness.analysis.harm import clear_changes
from calib_harness.analysis.joining import SharedQuestions, shared_questions
from calib_harness.analysis.matching import Models, match_runs, shared_settings
from calib_harness.analysis.metrics_frame import SummaryOptions, whole_numbers
from calib_harness.analysis.multiplicity import corrected, enough_resamples, family_sizes
from calib_harness.analysis.paired import check_options, paired_rows, report_questions
from calib_harness.analysis.pairs_file import read_chain
from calib_harness.analysis.results import DEFAULT_METRICS, ChainComparison
from calib_harness.analysis.sides import side_of
from calib_harness.analysis.trends import TREND_COLUMNS, trend_of_draws, trend_of_losses
from calib_harness.core.loss import LOSSES, mean_test
from calib_harness.core.recalibration import temperatures_of
from calib_harness.core.resampling import estimates_of
from calib_harness.errors import UserError
from calib_harness.predictions.table import Predictions

logger = logging.getLogger(__name__)


def compare_chain(
    predictions: Iterable[Predictions],
    chain: str | Path | pd.DataFrame,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    n_bins: int = 15,
    binning: str = "uniform",
    n_resamples: int | None = None,
    seed: int = 0,
) -> ChainComparison:
    """Follow metrics along chains of models, on the questions all stages share.

    Parameters
    ----------
    predictions : iterable of Predictions
    chain : str, Path or DataFrame
        Columns ``model`` and ``stage`` (in the order of the lines) or ``step`` (a number);
        optional ``family`` and ``revision``.
    metrics, n_bins, binning, n_resamples, seed
        As for ``compare``.

    Returns
    -------
    ChainComparison

    Raises
    ------
    UserError
        If an option or the chain is wrong, or fewer than two of its models have comparable
        runs. A stage without logs is named in a warning and left out of its chain.

    Examples
    --------
    >>> import tempfile
    >>> from calib_harness.predictions import load_predictions
    >>> from calib_harness.predictions.samples import write_example_log
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, sharpness in (("base", 1.0), ("sft", 2.0), ("dpo", 3.0)):
    ...         write_example_log(folder, model=name, task="toy", sharpness=sharpness)
    ...     runs = load_predictions(folder, cache=False)
    >>> chain = pd.DataFrame({"stage": ["base", "sft", "dpo"], "model": ["base", "sft", "dpo"]})
    >>> result = compare_chain(runs, chain, metrics=["overconfidence"])
    >>> result.values[["stage", "value"]].round(2).values.tolist()
    [['base', -0.02], ['sft', 0.15], ['dpo', 0.23]]
    >>> result.changes[["reference", "from_stage", "to_stage"]].values.tolist()
    [['previous', 'base', 'sft'], ['previous', 'sft', 'dpo'], ['first', 'base', 'dpo']]
    """
    options = check_options(metrics, n_bins, binning, n_resamples, seed)
    models = Models(predictions)
    matched = [
        match
        for family, stages in read_chain(chain).groupby("family", sort=False)
        for match in _matched(models, str(family), stages)
    ]
    n_tests = sum(2 * len(stages) - 3 for _, stages, _ in matched)
    if matched:
        options = replace(options, n_resamples=enough_resamples(n_tests, n_resamples))
    values: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    for names, stages, runs in matched:
        shared = shared_questions(runs)
        report_questions(shared, list(stages["label"]), names["task"], names["method"])
        if len(shared):
            told = _Stages(names, stages, shared, options)
            rows = told.value_rows()
            values += rows
            changes += told.change_rows()
            lines += told.trend_rows(pd.DataFrame(rows))
    if not changes:
        raise UserError(
            "no chain has two stages with comparable runs (same task, method and questions): "
            f"check chain against the models in the logs, {', '.join(models.labels[:8])}."
        )
    table = pd.DataFrame(changes)
    table["p_holm"] = corrected(table)
    table["n_tests"] = family_sizes(table)
    table["clear"] = clear_changes(table)
    frame = pd.DataFrame(values)
    trends = pd.DataFrame(lines)
    trends["p_holm"] = corrected(trends)
    for each in (frame, table, trends):
        each["n_shot"] = whole_numbers(each["n_shot"])
    return ChainComparison(values=frame, changes=table, trends=trends, options=options)


def _matched(
    models: Models, family: str, stages: pd.DataFrame
) -> list[tuple[dict[str, Any], pd.DataFrame, tuple[Predictions, ...]]]:
    """Return the comparable runs of a chain, with the stages that have logs."""
    labels = [models.find(name) for name in stages["model"]]
    for name, label in zip(stages["model"], labels, strict=True):
        if label is None:
            logger.warning("chain %s: stage left out, %s", family, models.unknown(name))
    known = [label for label in labels if label is not None]
    if len(known) < 2:
        return []
    present = stages[[label is not None for label in labels]].assign(label=known)
    matched = []
    for runs in match_runs([models.of(label) for label in known]):
        matched.append(({"family": family} | shared_settings(runs), present, runs))
    return matched


class _Stages:
    """The stages of a chain on their shared questions, resampled once for all that is told."""

    def __init__(
        self,
        common: dict[str, Any],
        stages: pd.DataFrame,
        shared: SharedQuestions,
        options: SummaryOptions,
    ) -> None:
        self.common, self.stages, self.shared, self.options = common, stages, shared, options
        with temperatures_of("{family} on {task} ({method})".format_map(common)):
            self.sides = [side_of(probs, shared.gold, options) for probs in shared.probs]

    def value_rows(self) -> list[dict[str, Any]]:
        rows = []
        for number, stage in enumerate(self.stages.itertuples(index=False)):
            side = self.sides[number]
            found = estimates_of(side.draws) if side.draws else {}
            estimates = {name: vars(estimate) for name, estimate in found.items()}
            for name, losses in side.losses.items():
                test = vars(mean_test(losses))
                keys = ("stderr", "low", "high")
                estimates[name] = {"value": test["mean"]} | {key: test[key] for key in keys}
            place = {"position": stage.position, "stage": stage.stage, "model": stage.label}
            for name in self.options.metrics:
                values = place | estimates[name] | {"n": len(self.shared)}
                rows.append(self.common | {"metric": name} | values)
        return rows

    def change_rows(self) -> list[dict[str, Any]]:
        """Each stage against the one before it, and against the first."""
        names = list(self.stages["stage"])
        links = [("previous", i - 1, i) for i in range(1, len(names))]
        links += [("first", 0, i) for i in range(2, len(names))]
        rows = []
        for reference, base, aligned in links:
            place = {"reference": reference, "from_stage": names[base], "to_stage": names[aligned]}
            both = self.sides[base], self.sides[aligned]
            for row in paired_rows(self.shared, base, aligned, self.options, both):
                rows.append(self.common | place | row | {"n": len(self.shared)})
        return rows

    def trend_rows(self, values: pd.DataFrame) -> list[dict[str, Any]]:
        """Lay a line through the values of the stages, of at least three."""
        position = [float(each) for each in self.stages["position"]]
        rows = []
        for name in self.options.metrics:
            found: dict[str, float] = dict.fromkeys(("tau", *TREND_COLUMNS), np.nan)
            if len(position) >= 3:
                value = values.loc[values["metric"] == name, "value"]
                found["tau"] = float(stats.kendalltau(position, value).statistic)
                if name in LOSSES:
                    found |= trend_of_losses([side.losses[name] for side in self.sides], position)
                else:
                    found |= trend_of_draws([side.draws[name] for side in self.sides], position)
            rows.append(self.common | {"metric": name, "n_stages": len(position)} | found)
        return rows
