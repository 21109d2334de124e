"""Base against aligned models on the same questions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from calib_harness.compare.agreement import rank_agreement
from calib_harness.compare.decomposition import decompose
from calib_harness.compare.pairs import Models, PairsLike, match_runs, read_pairs
from calib_harness.compare.questions import SharedQuestions, shared_questions
from calib_harness.compare.results import (
    CHANGE_COLUMNS,
    DECOMPOSITION_COLUMNS,
    DEFAULT_METRICS,
    Comparison,
)
from calib_harness.compare.share import share_harmed
from calib_harness.core.inference import holm, min_ranks, paired_bootstrap
from calib_harness.errors import UserError
from calib_harness.predictions.table import Predictions
from calib_harness.summary import SummaryOptions

logger = logging.getLogger(__name__)


def compare(
    predictions: Iterable[Predictions],
    pairs: PairsLike | None = None,
    *,
    base: str | None = None,
    aligned: str | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    n_bins: int = 15,
    binning: str = "uniform",
    n_resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare aligned models with their base models on the same questions.

    Parameters
    ----------
    predictions : iterable of Predictions
        From ``load_predictions``.
    pairs : str, Path, DataFrame or iterable of (family, base, aligned), optional
        See :func:`calib_harness.compare.pairs.read_pairs`. Models are named as lm-eval was
        given them, or by the last part of that name, ``@revision`` appended if there are
        several.
    base, aligned : str, optional
        A single pair, instead of `pairs`.
    metrics : sequence of str
        Names from ``METRICS``.
    n_bins, binning
        Options of the binned metrics.
    n_resamples : int
        Of the paired bootstrap over questions.
    seed : int

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
    0    acc   0.000   1.000
    1    ece   0.162   0.004
    """
    options = _check(metrics, n_bins, binning, n_resamples, seed)
    table = read_pairs(_one_source(pairs, base, aligned))
    models = Models(predictions)
    changes: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for pair in table.itertuples(index=False):
        for common, shared in _comparable(models, pair.family, pair.base, pair.aligned):
            changes += change_rows(common, shared, options)
            parts.append(common | decompose(shared, options))
    if not changes:
        raise UserError(
            f"no pair of {len(table)} has comparable runs: {_why_none(models, table)}. "
            "Check --pairs (or --base and --aligned) against the models in LOGS."
        )
    frame = _finish(pd.DataFrame(changes))
    return Comparison(
        changes=frame,
        over_families=share_harmed(frame),
        over_tasks=rank_agreement(frame, seed=seed),
        decomposition=pd.DataFrame(parts)[DECOMPOSITION_COLUMNS],
    )


def _check(
    metrics: Sequence[str], n_bins: int, binning: str, n_resamples: int, seed: int
) -> SummaryOptions:
    if "choice_mass" in metrics:
        raise UserError("--metrics choice_mass has no change test; see `calib-harness metrics`.")
    options = SummaryOptions(tuple(metrics), n_bins, binning, n_resamples, seed)
    if n_resamples < 2:
        raise UserError(f"--resamples must be at least 2 for comparisons; got {n_resamples}.")
    return options


def _one_source(pairs: PairsLike | None, base: str | None, aligned: str | None) -> PairsLike:
    if pairs is not None and base is None and aligned is None:
        return pairs
    if pairs is None and base is not None and aligned is not None:
        return [(base, base, aligned)]
    raise UserError("give either --pairs FILE, or both --base MODEL and --aligned MODEL.")


def _comparable(
    models: Models, family: str, base: str, aligned: str
) -> Iterable[tuple[dict[str, Any], SharedQuestions]]:
    """Yield what is common to the rows of each comparable task × method of a pair."""
    labels = []
    for name in (base, aligned):
        label = models.find(name)
        if label is None:
            logger.warning(
                "pair %s / %s was left out: %s", base, aligned, models.unknown(name)
            )
            return
        labels.append(label)
    for runs in match_runs([models.of(label) for label in labels]):
        header = runs[0].header
        common = {
            "family": family,
            "base": labels[0],
            "aligned": labels[1],
            "task": header.task,
            "method": header.method,
            "n_shot": header.n_shot,
        }
        shared = shared_questions(runs)
        report_questions(shared, labels, header.task, header.method)
        if len(shared):
            yield common, shared


def report_questions(
    shared: SharedQuestions, labels: Sequence[str], task: str, method: str
) -> None:
    """Say which questions were left out of a comparison, and why none is left."""
    title = f"{task}, {method}: {' and '.join(labels)}"
    if not len(shared):
        cause = (
            "their choices or gold answers differ"
            if shared.n_changed
            else "none of the shared ones can be used"
            if shared.n_unusable
            else "the task's name is the same but its questions are not (another version, "
            "split, --limit or --samples); score both on the same ones"
        )
        logger.warning("%s share no usable question and are not compared: %s", title, cause)
        return
    for label, count, named in zip(labels, shared.only, shared.only_named, strict=True):
        if count:
            logger.warning(
                "%s: %d questions of %s alone are left out (doc_id %s%s)",
                title,
                count,
                label,
                ", ".join(map(str, named)),
                ", …" if count > len(named) else "",
            )
    if shared.n_changed:
        logger.warning(
            "%s: %d shared questions have other choices or another gold on one side; left out",
            title,
            shared.n_changed,
        )
    if shared.n_unusable:
        logger.warning(
            "%s: %d shared questions cannot be used on one side; left out", title, shared.n_unusable
        )


def change_rows(
    common: dict[str, Any], shared: SharedQuestions, options: SummaryOptions
) -> list[dict[str, Any]]:
    """One row per metric for a pair of runs."""
    found = paired_bootstrap(
        options.metrics,
        *shared.probs,
        shared.gold,
        n_resamples=options.n_resamples,
        rng=options.seed,
        n_bins=options.n_bins,
        binning=options.binning,
    )
    counts = {
        "n": len(shared),
        "n_base_only": shared.only[0],
        "n_aligned_only": shared.only[1],
        "n_unusable": shared.n_unusable,
        "n_changed": shared.n_changed,
    }
    return [
        common
        | counts
        | {
            "metric": name,
            "base_value": e.base,
            "aligned_value": e.aligned,
            "change": e.change,
            "stderr": e.stderr,
            "low": e.low,
            "high": e.high,
            "p_value": e.p_value,
            "change_ratio": e.change / e.base if e.base else np.nan,
        }
        for name, e in found.items()
    ]


def _finish(changes: pd.DataFrame) -> pd.DataFrame:
    """Add what depends on the whole table: Holm's correction and the ranks."""
    changes["p_holm"] = holm(changes["p_value"].to_numpy())
    changes["rank"] = ratio_ranks(changes)
    return changes[CHANGE_COLUMNS]


def ratio_ranks(changes: pd.DataFrame) -> pd.Series:
    """Rank the change ratios within task × method × metric (and shots, where given).

    Returns
    -------
    Series
        1 for the largest ratio; ties share the smaller rank; NaN where there is no ratio.
    """
    keys = [key for key in ("task", "method", "metric", "n_shot") if key in changes.columns]
    groups = changes.groupby(keys, dropna=False)["change_ratio"]
    return groups.transform(lambda ratios: min_ranks(-ratios.to_numpy(dtype=float)))


def _why_none(models: Models, table: pd.DataFrame) -> str:
    for name in (*table["base"], *table["aligned"]):
        if models.find(name) is None:
            return models.unknown(name)
    return "their logs share no task and method, or no question"
