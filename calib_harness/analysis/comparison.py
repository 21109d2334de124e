"""Base against aligned models on the same questions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from calib_harness.analysis.across import at_equal_accuracy, mean_over_pairs
from calib_harness.analysis.backend_differences import say_differences
from calib_harness.analysis.by_setting import match_by
from calib_harness.analysis.decomposition import decompose
from calib_harness.analysis.harm import clear_changes, harm_of_changes, share_harmed
from calib_harness.analysis.joining import SharedQuestions, shared_questions
from calib_harness.analysis.ladder import climb, ladder_frame
from calib_harness.analysis.matching import Match, Models, match_pair
from calib_harness.analysis.metrics_frame import SummaryOptions, whole_numbers
from calib_harness.analysis.multiplicity import (
    corrected,
    enough_resamples,
    family_sizes,
    undecided,
)
from calib_harness.analysis.paired import check_options, paired_rows, report_questions
from calib_harness.analysis.pairs_file import PairsLike, read_pairs
from calib_harness.analysis.results import (
    CHANGE_COLUMNS,
    DECOMPOSITION_COLUMNS,
    DEFAULT_METRICS,
    Comparison,
    settings_in,
)
from calib_harness.analysis.sides import Side, Sides
from calib_harness.analysis.task_agreement import rank_agreement
from calib_harness.core.loss import LOSSES
from calib_harness.core.ranks import min_ranks
from calib_harness.core.recalibration import temperatures_of
from calib_harness.errors import UserError
from calib_harness.predictions.table import Predictions
from calib_harness.waiting import shown

logger = logging.getLogger(__name__)

Detail: TypeAlias = Literal["all", "tests", "changes"]
_Known: TypeAlias = Mapping[Predictions, Side] | None


def compare(
    predictions: Iterable[Predictions],
    pairs: PairsLike | None = None,
    *,
    base: str | None = None,
    aligned: str | None = None,
    by: str | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    n_bins: int = 15,
    binning: str = "uniform",
    n_resamples: int | None = None,
    seed: int = 0,
    detail: Detail = "all",
    ladder: bool = False,
    known: _Known = None,
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
    by : str, optional
        Compare each model with itself under another setting instead, see
        :func:`calib_harness.analysis.by_setting.match_by`.
    metrics : sequence of str
        Names from ``METRICS`` and ``LOSSES``; ``calibration_loss`` is the primary test.
    n_bins, binning
        Options of the binned metrics.
    n_resamples : int, optional
        Of the paired bootstrap over questions. By default 200 per test of a metric, within
        1,000 and 10,000, and more for changes that these cannot decide: fewer could not give
        a small p-value after Holm's correction.
    seed : int
    detail : {"all", "tests", "changes"}
        How much to compute: "tests" leaves out the decomposition (empty then); "changes" also
        leaves out the bootstrap (``stderr``, ``low``, ``high`` and p-values are NaN then).
    ladder : bool
        Also climb the ladder of recalibrations, see :func:`calib_harness.analysis.ladder.climb`.
    known : mapping of Predictions to Side, optional
        What was computed of the runs before with the same options, see
        :func:`calib_harness.analysis.sides.side_of`; used where base and aligned model answered
        exactly the same questions and all can be used.

    Returns
    -------
    Comparison

    Raises
    ------
    UserError
        If an option is wrong or no pair has comparable runs. Pairs without logs, and questions
        that only one side has, are named in warnings, as are models that were run on several
        backends, with how far their scores are apart.

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
    1    ece    0.12   0.036
    """
    options = check_options(metrics, n_bins, binning, n_resamples, seed)
    if detail not in get_args(Detail):
        raise UserError(f"detail must be one of {', '.join(get_args(Detail))}; got {detail!r}.")
    predictions = list(predictions)
    say_differences(predictions)
    matched, why_none = _matches(predictions, pairs, base, aligned, by)
    if detail == "changes":
        options = replace(options, n_resamples=0)
    elif matched:
        options = replace(options, n_resamples=enough_resamples(len(matched), n_resamples))
    changes: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    rungs: list[dict[str, Any]] = []
    for number, (names, runs) in enumerate(shown(matched, "Comparing", "pairs of runs")):
        shared = shared_questions(runs)
        report_questions(shared, [names["base"], names["aligned"]], names["task"], names["method"])
        if len(shared):
            known_here = _known_sides(runs, shared, known)
            with temperatures_of("{base} / {aligned} on {task} ({method})".format_map(names)):
                rows = _change_rows(names, shared, options, known_here)
                climbed = climb(shared, options) if ladder else []
            changes += [row | {"_match": number} for row in rows]
            rungs += [names | row for row in climbed]
            if detail == "all":
                parts.append(names | decompose(shared, options))
    if not changes:
        raise UserError(why_none or _NO_QUESTIONS)
    frame = pd.DataFrame(changes)
    if n_resamples is None and options.n_resamples:
        _decided(frame, matched, options, known)
    frame = _finish(frame)
    strata = ["base", "aligned"] if by else []
    decomposition = pd.DataFrame(parts, columns=DECOMPOSITION_COLUMNS)
    decomposition["n_shot"] = whole_numbers(decomposition["n_shot"])
    return Comparison(
        changes=frame,
        over_families=share_harmed(frame, strata=strata),
        across_pairs=mean_over_pairs(frame, strata=strata),
        over_tasks=rank_agreement(frame, seed=seed),
        decomposition=decomposition,
        equal_accuracy=at_equal_accuracy(frame, strata=strata),
        ladder=ladder_frame(rungs),
        options=options,
    )


_NO_QUESTIONS = "pairs: no two of the runs to compare share a question that both can use."


def _matches(
    predictions: Iterable[Predictions],
    pairs: PairsLike | None,
    base: str | None,
    aligned: str | None,
    by: str | None,
) -> tuple[list[Match], str]:
    """Return what is compared, and why nothing is if none of it has comparable runs."""
    if by is not None:
        if pairs is not None or base is not None or aligned is not None:
            raise UserError("by takes the place of pairs, base and aligned: give one of them.")
        return match_by(predictions, by), ""
    table = read_pairs(_one_source(pairs, base, aligned))
    models = Models(predictions)
    matched = [match for pair in table.to_numpy() for match in match_pair(models, *pair)]
    why_none = (
        f"none of {len(table)} pair(s) has comparable runs: {_why_none(models, table)}; "
        "check pairs (or base and aligned) against the models in the logs."
    )
    return matched, why_none


def _decided(
    changes: pd.DataFrame, matched: Sequence[Match], options: SummaryOptions, known: _Known
) -> None:
    """Resample those changes anew, in place, that more resamples may make significant."""
    rows, n_resamples = undecided(changes, options.n_resamples)
    rows &= ~changes["metric"].isin(LOSSES)
    for at, group in changes[rows].groupby("_match", sort=False):
        more = replace(options, metrics=tuple(group["metric"]), n_resamples=n_resamples)
        runs = matched[int(str(at))][1]
        shared = shared_questions(runs)
        base, aligned = (
            side and replace(side, draws={})  # which were fewer
            for side in _known_sides(runs, shared, known)
        )
        found = paired_rows(shared, 0, 1, more, (base, aligned))
        for index, row in zip(group.index, found, strict=True):
            for name, value in row.items():
                changes.loc[index, name] = value


def _one_source(pairs: PairsLike | None, base: str | None, aligned: str | None) -> PairsLike:
    if pairs is not None and base is None and aligned is None:
        return pairs
    if pairs is None and base is not None and aligned is not None:
        return [(base, base, aligned)]
    raise UserError("pairs: give either them, or both base and aligned.")


def _known_sides(runs: Sequence[Predictions], shared: SharedQuestions, known: _Known) -> Sides:
    """Return what is known of both runs if it is about the shared questions, in their order."""
    if known is None or any(len(run) != len(shared) for run in runs):
        return None, None
    if not all(np.array_equal(run.doc_hash, shared.doc_hash) for run in runs):
        return None, None
    return known[runs[0]], known[runs[1]]


def _change_rows(
    names: dict[str, Any],
    shared: SharedQuestions,
    options: SummaryOptions,
    known: Sides,
) -> list[dict[str, Any]]:
    counts = {
        "n": len(shared),
        "n_base_only": shared.only[0],
        "n_aligned_only": shared.only[1],
        "n_unusable": shared.n_unusable,
        "n_changed": shared.n_changed,
    }
    return [names | counts | row for row in paired_rows(shared, 0, 1, options, known)]


def _finish(changes: pd.DataFrame) -> pd.DataFrame:
    """Add what depends on the whole table: Holm's correction, ranks, and what is clear."""
    changes["p_holm"] = corrected(changes)
    changes["n_tests"] = family_sizes(changes)
    changes["rank"] = _ranks(changes, "excess_change")
    changes["harm"] = harm_of_changes(changes)
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
    """Rank the change ratios as the paper does, for its published changes.

    A raw ratio compares plug-in errors whose biases differ; `compare` ranks by the excess.

    Returns
    -------
    Series
        Within task × method × metric (× shots × chat template, if given) 1 for the largest ratio;
        ties share the smaller rank; NaN where there is no ratio.
    """
    return _ranks(changes, "change_ratio")


def _ranks(changes: pd.DataFrame, column: str) -> pd.Series:
    keys = [*("task", "method", "metric"), *settings_in(changes)]
    groups = changes.groupby(keys, dropna=False)[column]
    return groups.transform(lambda values: min_ranks(-values.to_numpy(dtype=float)))


def _why_none(models: Models, table: pd.DataFrame) -> str:
    for base, aligned in zip(table["base"], table["aligned"], strict=True):
        for name in (base, aligned):
            if models.find(name) is None:
                return models.unknown(name)
        if models.find(base) == models.find(aligned):
            return f"base and aligned are the same model, {models.find(base)}"
    return "their logs share no task and method, or no question (the warnings say which)"
