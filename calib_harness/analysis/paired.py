"""What pairs and chains have in common: options, warnings, and the paired bootstrap's rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from calib_harness.analysis.joining import SharedQuestions
from calib_harness.analysis.metrics_frame import SummaryOptions
from calib_harness.core.inference import paired_bootstrap
from calib_harness.core.metrics import METRICS, point_values
from calib_harness.core.nulls import calibrated_null
from calib_harness.core.resampling import Draws, PairedChange, changes_between
from calib_harness.errors import ArgumentError

logger = logging.getLogger(__name__)

_FEWEST_RESAMPLES = 2
LEAST_RESAMPLES, MOST_RESAMPLES = 1000, 10_000  # without being told


def check_options(
    metrics: Sequence[str], n_bins: int, binning: str, n_resamples: int | None, seed: int
) -> SummaryOptions:
    """Return checked options; ``n_resamples`` of None becomes 0 for now."""
    if "choice_mass" in metrics:
        raise ArgumentError("metrics: choice_mass has no change test; see `calib-harness metrics`.")
    if n_resamples is not None and n_resamples < _FEWEST_RESAMPLES:
        raise ArgumentError(
            f"n_resamples must be at least {_FEWEST_RESAMPLES} for comparisons; got {n_resamples}."
        )
    return SummaryOptions(
        tuple(metrics), n_bins=n_bins, binning=binning, n_resamples=n_resamples or 0, seed=seed
    )


def enough_resamples(n_tests: int, n_resamples: int | None) -> int:
    """Choose the number of resamples for a table of `n_tests` p-values.

    The smallest p-value of R resamples is 2 / (R + 1), and Holm multiplies it by up to
    `n_tests`: 1,000 resamples cannot find anything in a table of 45. Unless the number is
    given, there are 200 resamples per test, within 1,000 and 10,000; a table for which that
    is too few is named in a warning.
    """
    if n_resamples is None:
        n_resamples = min(max(LEAST_RESAMPLES, 200 * n_tests), MOST_RESAMPLES)
    least = 2 * n_tests / (n_resamples + 1)
    if least > 0.05:
        logger.warning(
            "%d resamples are too few for %d tests: no p_holm can be below %.2g; "
            "raise --resamples to %d, or compare fewer metrics, tasks or methods",
            n_resamples,
            n_tests,
            min(least, 1.0),
            200 * n_tests,
        )
    return n_resamples


def paired_rows(
    shared: SharedQuestions,
    base: int,
    aligned: int,
    options: SummaryOptions,
    draws: tuple[dict[str, Draws], dict[str, Draws]] | None = None,
) -> list[dict[str, Any]]:
    """Change of each metric between two of the runs; one row per metric.

    Rows hold ``metric, base_value, aligned_value, change, stderr, low, high, p_value,
    change_ratio``.
    Resamples of both runs on exactly these questions may be given; otherwise they are drawn.
    Without resamples (``n_resamples`` of 0) all but the values and their change is NaN.
    """
    if not options.n_resamples:
        found = _changes_alone(shared, base, aligned, options)
    elif draws is not None:
        same = np.array_equal(shared.probs[base], shared.probs[aligned], equal_nan=True)
        found = changes_between(
            *({name: each[name] for name in options.metrics} for each in draws), same=same
        )
    else:
        found = paired_bootstrap(
            options.metrics,
            shared.probs[base],
            shared.probs[aligned],
            shared.gold,
            n_resamples=options.n_resamples,
            rng=options.seed,
            n_bins=options.n_bins,
            binning=options.binning,
        )
    return [
        {
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


def _changes_alone(
    shared: SharedQuestions, base: int, aligned: int, options: SummaryOptions
) -> dict[str, PairedChange]:
    values = [
        point_values(
            options.metrics,
            shared.probs[side],
            shared.gold,
            n_bins=options.n_bins,
            binning=options.binning,
        )
        for side in (base, aligned)
    ]
    return {
        name: PairedChange(
            values[0][name], values[1][name], values[1][name] - values[0][name], *(np.nan,) * 4
        )
        for name in options.metrics
    }


def calibrated_nulls(
    shared: SharedQuestions, options: SummaryOptions
) -> dict[str, dict[str, float]]:
    """Per calibration error, what calibrated models with these probabilities would show."""
    given: dict[str, Any] = {"n_bins": options.n_bins, "binning": options.binning}
    nulls = {}
    for name in options.metrics:
        if METRICS[name].simulation is None:
            continue
        base, aligned = (
            calibrated_null(
                probs, metric=name, n_resamples=LEAST_RESAMPLES, rng=options.seed, **given
            ).mean
            for probs in shared.probs
        )
        nulls[name] = {"base_null": base, "aligned_null": aligned}
    return nulls


def report_questions(
    shared: SharedQuestions, labels: Sequence[str], task: str, method: str
) -> None:
    """Say which questions were left out of a comparison, and why none is left."""
    title = f"{task}, {method}: {' and '.join(labels)}"
    if not len(shared):
        logger.warning(
            "%s share no usable question and are not compared: %s", title, _why_none(shared)
        )
        return
    for label, count, named in zip(labels, shared.only, shared.only_named, strict=True):
        if count:
            logger.warning(
                "%s: %d questions of %s that others lack are left out (doc_id %s%s)",
                title,
                count,
                label,
                ", ".join(map(str, named)),
                ", …" if count > len(named) else "",
            )
    for count, what in (
        (
            shared.n_changed,
            "have other choices or another gold on one side (another version of the task?)",
        ),
        (shared.n_unusable, "cannot be used on one side (no finite scores or no gold)"),
    ):
        if count:
            logger.warning("%s: %d shared questions %s; left out", title, count, what)


def _why_none(shared: SharedQuestions) -> str:
    if shared.n_changed:
        return "their choices or gold answers differ"
    if shared.n_unusable:
        return "none of the shared questions has finite scores and a gold answer on all sides"
    return (
        "the task's name is the same but its questions are not (another version, split, "
        "--limit or --samples); score both on the same questions"
    )
