"""What pairs and chains have in common: options, warnings, and the paired bootstrap's rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from calib_harness.analysis.joining import SharedQuestions
from calib_harness.analysis.metrics_frame import SummaryOptions
from calib_harness.analysis.sides import Sides, side_of
from calib_harness.core.loss import FEWEST_QUESTIONS, LOSSES, calibration_loss_change
from calib_harness.core.metrics import point_values
from calib_harness.core.nulls import has_null
from calib_harness.core.resampling import Draws, PairedChange, changes_between
from calib_harness.errors import ArgumentError
from calib_harness.predictions.table import Floats

logger = logging.getLogger(__name__)

_FEWEST_RESAMPLES = 2


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


def paired_rows(
    shared: SharedQuestions,
    base: int,
    aligned: int,
    options: SummaryOptions,
    known: Sides = (None, None),
) -> list[dict[str, Any]]:
    """Change of each metric between two of the runs; one row per metric.

    Rows hold ``metric, base_value, aligned_value, change, stderr, low, high, p_value,
    change_ratio``, and of calibration errors ``base_null, aligned_null, excess_change, bias_low,
    bias_high``. What is known of either run on exactly these questions may be given. Without
    resamples (``n_resamples`` of 0) there are only values, nulls and changes.
    """
    names = [name for name in options.metrics if name not in LOSSES]
    both = [
        side_of(shared.probs[side], shared.gold, options, of_side)
        for side, of_side in zip((base, aligned), known, strict=True)
    ]
    biases: dict[str, dict[str, float]] = {}
    if not options.n_resamples:
        found = _changes_alone(shared, base, aligned, names, options)
    else:
        draws = [{name: side.draws[name] for name in names} for side in both]
        same = np.array_equal(shared.probs[base], shared.probs[aligned], equal_nan=True)
        found = changes_between(*draws, same=same) if names else {}
        biases = {name: _bias(draws[0][name], draws[1][name], same) for name in names}
    for name in LOSSES.keys() & set(options.metrics):
        losses = both[0].losses[name], both[1].losses[name]
        found[name] = _loss_change(name, losses, shared, (base, aligned), options)
    rows = []
    for name in options.metrics:
        row = _row(name, found[name])
        if has_null(name):
            nulls = [side.nulls[name] for side in both]
            row |= {"base_null": nulls[0], "aligned_null": nulls[1]} | biases.get(name, {})
            row["excess_change"] -= nulls[1] - nulls[0]
        rows.append(row)
    return rows


def _row(name: str, e: PairedChange) -> dict[str, Any]:
    return {
        "metric": name,
        "base_value": e.base,
        "aligned_value": e.aligned,
        "change": e.change,
        "stderr": e.stderr,
        "low": e.low,
        "high": e.high,
        "p_value": e.p_value,
        # Of a loss, whose best value is near 0 and may lie below, a ratio says nothing.
        "change_ratio": e.change / e.base if e.base and name not in LOSSES else np.nan,
        "excess_change": e.change,
    }


def _bias(base: Draws, aligned: Draws, same: bool) -> dict[str, float]:
    """Return how much too large the change is on average, at least and at most.

    A resampled value differs on average from what it was resampled from as the measured
    value does from the true one (Efron and Tibshirani 1993, section 10.2), in each of the worlds
    that the data do not tell apart (see `Draws`).
    """
    with np.errstate(invalid="ignore"):
        first, second = (each.deviations.mean(axis=0) for each in (base, aligned))
    gaps = second - first if same else second[None, :] - first[:, None]
    return {"bias_low": float(gaps.min()), "bias_high": float(gaps.max())}


def _loss_change(
    name: str,
    losses: tuple[Floats, Floats],
    shared: SharedQuestions,
    sides: tuple[int, int],
    options: SummaryOptions,
) -> PairedChange:
    """Test the change of the calibration losses question by question."""
    if len(shared) < FEWEST_QUESTIONS:
        return PairedChange(*(np.nan,) * 7)
    impossible = int(np.isnan(losses).any(axis=0).sum())
    if impossible:
        logger.warning(
            "%s is not defined: %d of %d questions have a right choice of probability 0, whose "
            "loss is infinite; compare calibration_loss_brier instead",
            name,
            impossible,
            len(shared),
        )
    base, aligned = (shared.probs[side] for side in sides)
    found = calibration_loss_change(base, aligned, shared.gold, score=LOSSES[name], losses=losses)
    if options.n_resamples:
        return found
    return replace(found, **dict.fromkeys(("stderr", "low", "high", "p_value"), np.nan))


def _changes_alone(
    shared: SharedQuestions, base: int, aligned: int, names: list[str], options: SummaryOptions
) -> dict[str, PairedChange]:
    first, second = (
        point_values(names, shared.probs[side], shared.gold, **options.bins)
        for side in (base, aligned)
    )
    return {
        name: PairedChange(first[name], second[name], second[name] - first[name], *(np.nan,) * 4)
        for name in names
    }


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
