"""Base against aligned models on the same questions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from calib_harness.analysis.decomposition import decompose
from calib_harness.analysis.harm import share_harmed
from calib_harness.analysis.joining import SharedQuestions, shared_questions
from calib_harness.analysis.matching import Models, match_runs, shared_settings
from calib_harness.analysis.metrics_frame import SummaryOptions, whole_numbers
from calib_harness.analysis.paired import (
    calibrated_nulls,
    check_options,
    enough_resamples,
    paired_rows,
    report_questions,
)
from calib_harness.analysis.pairs_file import PairsLike, read_pairs
from calib_harness.analysis.results import (
    CHANGE_COLUMNS,
    DECOMPOSITION_COLUMNS,
    DEFAULT_METRICS,
    Comparison,
    clear_changes,
    settings_in,
)
from calib_harness.analysis.task_agreement import rank_agreement
from calib_harness.core.ranks import min_ranks
from calib_harness.core.resampling import Draws
from calib_harness.core.significance import holm
from calib_harness.errors import UserError
from calib_harness.predictions.table import Predictions

logger = logging.getLogger(__name__)

Detail: TypeAlias = Literal["all", "tests", "changes"]
_Match: TypeAlias = tuple[dict[str, Any], tuple[Predictions, ...]]
_BothDraws: TypeAlias = tuple[dict[str, Draws], dict[str, Draws]]


def compare(
    predictions: Iterable[Predictions],
    pairs: PairsLike | None = None,
    *,
    base: str | None = None,
    aligned: str | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    n_bins: int = 15,
    binning: str = "uniform",
    n_resamples: int | None = None,
    seed: int = 0,
    detail: Detail = "all",
    draws: Mapping[Predictions, dict[str, Draws]] | None = None,
) -> Comparison:
    """Compare aligned models with their base models on the same questions.

    Parameters
    ----------
    predictions : iterable of Predictions
        From ``load_predictions``.
    pairs : str, Path, DataFrame or iterable of (family, base, aligned), optional
        See :func:`calib_harness.analysis.pairs_file.read_pairs`. Models are named as lm-eval was
        given them, or by the last part of that name, ``@revision`` appended if there are
        several.
    base, aligned : str, optional
        A single pair, instead of `pairs`.
    metrics : sequence of str
        Names from ``METRICS``.
    n_bins, binning
        Options of the binned metrics.
    n_resamples : int, optional
        Of the paired bootstrap over questions. By default 200 per p-value of the table, within
        1,000 and 10,000: fewer could not give a small p-value after Holm's correction.
    seed : int
    detail : {"all", "tests", "changes"}
        How much to compute: "tests" leaves out ``base_null`` and ``aligned_null`` (NaN then) and
        the decomposition (empty then), which take several times as long as the rest; "changes"
        also leaves out the bootstrap (``stderr``, ``low``, ``high`` and p-values are NaN then).
    draws : mapping of Predictions to dict of str to Draws, optional
        Resamples made before, as ``summarise`` leaves them, with the same options and number;
        used where base and aligned model answered exactly the same questions.

    Returns
    -------
    Comparison

    Raises
    ------
    UserError
        If an option is wrong or no pair has comparable runs. Pairs without logs, and questions
        that only one side has, are named in warnings.

    Examples
    --------
    >>> import tempfile
    >>> from calib_harness.predictions import load_predictions
    >>> from calib_harness.predictions.samples import write_example_log
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_example_log(folder, model="m", task="toy", n=200)
    ...     write_example_log(folder, model="m-chat", task="toy", n=200, sharpness=3.0)
    ...     runs = load_predictions(folder, cache=False)
    >>> result = compare(runs, base="m", aligned="m-chat", metrics=["acc", "ece"])
    >>> result.changes[["metric", "change", "p_holm"]].round(3)  # doctest: +NORMALIZE_WHITESPACE
      metric  change  p_holm
    0    acc    0.00   1.000
    1    ece    0.12   0.004
    """
    options = check_options(metrics, n_bins, binning, n_resamples, seed)
    if detail not in get_args(Detail):
        raise UserError(f"detail must be one of {', '.join(get_args(Detail))}; got {detail!r}.")
    table = read_pairs(_one_source(pairs, base, aligned))
    models = Models(predictions)
    matched = [m for pair in table.to_numpy() for m in _matched(models, *pair)]
    n_tests = len(matched) * len(options.metrics)
    if detail == "changes":
        options = replace(options, n_resamples=0)
    elif matched:
        options = replace(options, n_resamples=enough_resamples(n_tests, n_resamples))
    changes: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for names, runs in matched:
        shared = shared_questions(runs)
        report_questions(shared, [names["base"], names["aligned"]], names["task"], names["method"])
        if len(shared):
            given = _known_draws(runs, shared, draws)
            rows = _change_rows(names, shared, options, given)
            if detail != "all":
                changes += rows
                continue
            nulls = calibrated_nulls(shared, options)
            changes += [row | nulls.get(row["metric"], {}) for row in rows]
            parts.append(names | decompose(shared, options))
    if not changes:
        raise UserError(
            f"none of {len(table)} pair(s) has comparable runs: {_why_none(models, table)}; "
            "check --pairs (or --base and --aligned) against the models in LOGS."
        )
    frame = _finish(pd.DataFrame(changes))
    decomposition = pd.DataFrame(parts, columns=DECOMPOSITION_COLUMNS)
    decomposition["n_shot"] = whole_numbers(decomposition["n_shot"])
    return Comparison(
        changes=frame,
        over_families=share_harmed(frame),
        over_tasks=rank_agreement(frame, seed=seed),
        decomposition=decomposition,
        options=options,
    )


def _one_source(pairs: PairsLike | None, base: str | None, aligned: str | None) -> PairsLike:
    if pairs is not None and base is None and aligned is None:
        return pairs
    if pairs is None and base is not None and aligned is not None:
        return [(base, base, aligned)]
    raise UserError("give either --pairs FILE, or both --base MODEL and --aligned MODEL.")


def _matched(models: Models, family: str, base: str, aligned: str) -> list[_Match]:
    """Return the comparable runs of a pair, with what names their rows."""
    labels = []
    for name in (base, aligned):
        label = models.find(name)
        if label is None:
            why = models.unknown(name)
            logger.warning("pair %s / %s was left out: %s", base, aligned, why)
            return []
        labels.append(label)
    if labels[0] == labels[1]:
        logger.warning("pair %s / %s was left out: both are the model %s", base, aligned, labels[0])
        return []
    names: dict[str, Any] = {"family": family, "base": labels[0], "aligned": labels[1]}
    matched = []
    for runs in match_runs([models.of(label) for label in labels]):
        matched.append((names | shared_settings(runs), runs))
    if not matched:
        logger.warning("%s and %s have no task and method in common", *labels)
    return matched


def _known_draws(
    runs: Sequence[Predictions],
    shared: SharedQuestions,
    draws: Mapping[Predictions, dict[str, Draws]] | None,
) -> _BothDraws | None:
    """Return the resamples of both runs if they are of the shared questions, in their order."""
    if draws is None or any(len(run) != len(shared) for run in runs):
        return None
    if not all(np.array_equal(run.doc_hash, shared.doc_hash) for run in runs):
        return None
    return draws[runs[0]], draws[runs[1]]


def _change_rows(
    names: dict[str, Any],
    shared: SharedQuestions,
    options: SummaryOptions,
    draws: _BothDraws | None,
) -> list[dict[str, Any]]:
    counts = {
        "n": len(shared),
        "n_base_only": shared.only[0],
        "n_aligned_only": shared.only[1],
        "n_unusable": shared.n_unusable,
        "n_changed": shared.n_changed,
    }
    return [names | counts | row for row in paired_rows(shared, 0, 1, options, draws)]


def _finish(changes: pd.DataFrame) -> pd.DataFrame:
    """Add what depends on the whole table: Holm's correction and the ranks."""
    changes["p_holm"] = holm(changes["p_value"].to_numpy())
    changes["rank"] = ratio_ranks(changes)
    changes["clear"] = clear_changes(changes)
    changes["n_shot"] = whole_numbers(changes["n_shot"])
    several = changes.duplicated([*CHANGE_COLUMNS[:7], "chat_template"], keep=False)
    if several.any():
        first = changes[several].iloc[0]
        logger.warning(
            "%s and %s were run on %s with several settings of the model: each counts as a pair "
            "of its own in ranks, over_families and over_tasks; give the logs of one setting",
            *first[["base", "aligned", "task"]],
        )
    return changes.reindex(columns=CHANGE_COLUMNS)


def ratio_ranks(changes: pd.DataFrame) -> pd.Series:
    """Rank the change ratios within task × method × metric (× shots × chat template, if given).

    Returns
    -------
    Series
        1 for the largest ratio; ties share the smaller rank; NaN where there is no ratio.
    """
    keys = [*("task", "method", "metric"), *settings_in(changes)]
    groups = changes.groupby(keys, dropna=False)["change_ratio"]
    return groups.transform(lambda ratios: min_ranks(-ratios.to_numpy(dtype=float)))


def _why_none(models: Models, table: pd.DataFrame) -> str:
    for base, aligned in zip(table["base"], table["aligned"], strict=True):
        for name in (base, aligned):
            if models.find(name) is None:
                return models.unknown(name)
        if models.find(base) == models.find(aligned):
            return f"base and aligned are the same model, {models.find(base)}"
    return "their logs share no task and method, or no question (the warnings say which)"
