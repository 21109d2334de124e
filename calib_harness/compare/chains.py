"""Chains of stages (base → sft → dpo → …) and checkpoints of one model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from calib_harness.compare.changes import _check, logger, report_questions
from calib_harness.compare.pairs import Models, match_runs, read_chain
from calib_harness.compare.questions import SharedQuestions, shared_questions
from calib_harness.compare.results import DEFAULT_METRICS, ChainComparison
from calib_harness.core.inference import bootstrap, holm, paired_bootstrap
from calib_harness.errors import UserError
from calib_harness.predictions.table import Predictions
from calib_harness.summary import SummaryOptions

_KEYS = ["family", "task", "method", "metric"]


def compare_chain(
    predictions: Iterable[Predictions],
    chain: str | Path | pd.DataFrame,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    n_bins: int = 15,
    binning: str = "uniform",
    n_resamples: int = 1000,
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
    >>> result = compare_chain(runs, chain, metrics=["overconfidence"], n_resamples=100)
    >>> result.values[["stage", "value"]].round(2).values.tolist()
    [['base', -0.03], ['sft', 0.11], ['dpo', 0.16]]
    >>> result.changes[["reference", "from_stage", "to_stage"]].values.tolist()
    [['previous', 'base', 'sft'], ['previous', 'sft', 'dpo'], ['first', 'base', 'dpo']]
    """
    options = _check(metrics, n_bins, binning, n_resamples, seed)
    models = Models(predictions)
    values: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    for family, stages in read_chain(chain).groupby("family", sort=False):
        present = _with_logs(models, str(family), stages)
        if len(present) < 2:
            continue
        for runs in match_runs([models.of(label) for label in present["label"]]):
            shared = shared_questions(runs)
            header = runs[0].header
            report_questions(shared, list(present["label"]), header.task, header.method)
            if len(shared):
                common = {"family": family, "task": header.task, "method": header.method}
                values += _value_rows(common, present, shared, options)
                changes += _change_rows(common, present, shared, options)
    if not changes:
        raise UserError(
            "no chain has two stages with comparable runs (same task, method and questions): "
            f"check --chain against the models in LOGS, {', '.join(models.labels[:8])}."
        )
    table = pd.DataFrame(changes)
    table["p_holm"] = holm(table["p_value"].to_numpy())
    frame = pd.DataFrame(values)
    return ChainComparison(values=frame, changes=table, trends=_trends(frame))


def _with_logs(models: Models, family: str, stages: pd.DataFrame) -> pd.DataFrame:
    """Return the stages that have logs, with the label of their model."""
    labels = [models.find(name) for name in stages["model"]]
    for name, label in zip(stages["model"], labels, strict=True):
        if label is None:
            logger.warning("chain %s: stage left out, %s", family, models.unknown(name))
    return stages.assign(label=labels)[[label is not None for label in labels]]


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
            rows.append(
                common | {"metric": metric} | place | vars(estimate) | {"n": len(shared)}
            )
    return rows


def _change_rows(
    common: dict[str, Any], stages: pd.DataFrame, shared: SharedQuestions, options: SummaryOptions
) -> list[dict[str, Any]]:
    """Each stage against the one before it, and against the first."""
    names = list(stages["stage"])
    links = [("previous", i - 1, i) for i in range(1, len(names))]
    links += [("first", 0, i) for i in range(2, len(names))]
    rows = []
    for reference, before, after in links:
        found = paired_bootstrap(
            options.metrics,
            shared.probs[before],
            shared.probs[after],
            shared.gold,
            n_resamples=options.n_resamples,
            rng=options.seed,
            n_bins=options.n_bins,
            binning=options.binning,
        )
        for metric, e in found.items():
            place = {
                "reference": reference,
                "from_stage": names[before],
                "to_stage": names[after],
                "from_value": e.base,
                "to_value": e.aligned,
            }
            numbers = {
                "change": e.change,
                "stderr": e.stderr,
                "low": e.low,
                "high": e.high,
                "p_value": e.p_value,
                "change_ratio": e.change / e.base if e.base else np.nan,
                "n": len(shared),
            }
            rows.append(common | {"metric": metric} | place | numbers)
    return rows


def _trends(values: pd.DataFrame) -> pd.DataFrame:
    """Kendall's τ of the value against the position along the chain."""
    rows = []
    for key, group in values.groupby(_KEYS, sort=False):
        tau, p_value = np.nan, np.nan
        if len(group) >= 3:
            result = stats.kendalltau(group["position"], group["value"])
            tau, p_value = float(result.statistic), float(result.pvalue)
        rows.append(
            dict(zip(_KEYS, key, strict=True))
            | {"n_stages": len(group), "tau": tau, "p_value": p_value}
        )
    return pd.DataFrame(rows)
