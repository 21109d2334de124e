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

from calib_harness.analysis.joining import SharedQuestions, shared_questions
from calib_harness.analysis.matching import Models, match_runs, shared_settings
from calib_harness.analysis.metrics_frame import SummaryOptions, whole_numbers
from calib_harness.analysis.paired import (
    check_options,
    enough_resamples,
    paired_rows,
    report_questions,
)
from calib_harness.analysis.pairs_file import read_chain
from calib_harness.analysis.results import DEFAULT_METRICS, ChainComparison, clear_changes
from calib_harness.core.inference import bootstrap
from calib_harness.core.significance import holm
from calib_harness.errors import UserError
from calib_harness.predictions.table import Predictions

logger = logging.getLogger(__name__)

_KEYS = ["family", "task", "method", "n_shot", "chat_template", "metric"]


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
    n_tests = len(options.metrics) * sum(2 * len(stages) - 3 for _, stages, _ in matched)
    if matched:
        options = replace(options, n_resamples=enough_resamples(n_tests, n_resamples))
    values: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    for names, stages, runs in matched:
        shared = shared_questions(runs)
        report_questions(shared, list(stages["label"]), names["task"], names["method"])
        if len(shared):
            values += _value_rows(names, stages, shared, options)
            changes += _change_rows(names, stages, shared, options)
    if not changes:
        raise UserError(
            "no chain has two stages with comparable runs (same task, method and questions): "
            f"check --chain against the models in LOGS, {', '.join(models.labels[:8])}."
        )
    table = pd.DataFrame(changes)
    table["p_holm"] = holm(table["p_value"].to_numpy())
    table["clear"] = clear_changes(table)
    frame = pd.DataFrame(values)
    trends = _trends(frame)
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


def _value_rows(
    common: dict[str, Any], stages: pd.DataFrame, shared: SharedQuestions, options: SummaryOptions
) -> list[dict[str, Any]]:
    rows = []
    for stage, probs in zip(stages.itertuples(index=False), shared.probs, strict=True):
        found = bootstrap(
            options.metrics,
            probs,
            shared.gold,
            n_resamples=options.n_resamples,
            rng=options.seed,
            n_bins=options.n_bins,
            binning=options.binning,
        )
        for metric, estimate in found.items():
            place = {"position": stage.position, "stage": stage.stage, "model": stage.label}
            rows.append(common | {"metric": metric} | place | vars(estimate) | {"n": len(shared)})
    return rows


def _change_rows(
    common: dict[str, Any], stages: pd.DataFrame, shared: SharedQuestions, options: SummaryOptions
) -> list[dict[str, Any]]:
    """Each stage against the one before it, and against the first."""
    names = list(stages["stage"])
    links = [("previous", i - 1, i) for i in range(1, len(names))]
    links += [("first", 0, i) for i in range(2, len(names))]
    rows = []
    for reference, base, aligned in links:
        place = {"reference": reference, "from_stage": names[base], "to_stage": names[aligned]}
        for row in paired_rows(shared, base, aligned, options):
            rows.append(common | place | row | {"n": len(shared)})
    return rows


def _trends(values: pd.DataFrame) -> pd.DataFrame:
    """Kendall's τ of the value against the position along the chain."""
    rows = []
    for key, group in values.groupby(_KEYS, sort=False, dropna=False):
        tau, p_value = np.nan, np.nan
        if len(group) >= 3:
            result = stats.kendalltau(group["position"], group["value"])
            tau, p_value = float(result.statistic), float(result.pvalue)
        rows.append(
            dict(zip(_KEYS, key, strict=True))
            | {"n_stages": len(group), "tau": tau, "p_value": p_value}
        )
    return pd.DataFrame(rows)
