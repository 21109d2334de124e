"""The numbers behind the page: metrics, binned data and curves of every run × task × method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from calib_harness.analysis.isotonic import IsotonicCurve, isotonic_curve
from calib_harness.analysis.metrics_frame import SummaryOptions, summarise
from calib_harness.analysis.reliability import (
    Pairs,
    Reliability,
    empty_reliability,
    reliability_of_each,
)
from calib_harness.analysis.sides import Side, side_of
from calib_harness.core.accuracy import risks
from calib_harness.core.recalibration import temperatures_of
from calib_harness.core.resampling import Draws
from calib_harness.core.smece import SmoothCurve, smooth_curve
from calib_harness.page.parallel import in_order
from calib_harness.predictions.table import Bools, Floats, Predictions

Binning: TypeAlias = tuple[int, str]
#: Bins that a reader can switch between.
BINNINGS: tuple[Binning, ...] = tuple(
    (n_bins, rule) for rule in ("uniform", "equal_mass") for n_bins in (10, 15, 20)
)
# Diagrams per choice position are kept for all binnings up to this many bins in all.
_CLASS_BINS = 300_000
# Answers times diagrams up to which there is a diagram of each binning: half a minute.
_DIAGRAM_WORK = 20_000_000
# Questions times diagrams for which intervals and nulls of every diagram are computed: about
# half a minute of one core.
_ERROR_WORK = 1_000_000
_CURVES = 200  # simulated curves of a band
# Expected work below which several processes would not be worth their start, about six seconds;
# counted in resampled answers, of which an entry's fixed costs are worth some.
_LITTLE_WORK, _WORK_OF_ENTRY = 300_000_000, 200_000
#: Coverages at which risk is kept: 1 %, 2 %, ... 100 %.
COVERAGES = np.arange(1, 101) / 100


@dataclass(frozen=True)
class EntryNumbers:
    """All that the page shows of one run × task × method.

    Attributes
    ----------
    rows : list of dict
        As ``summarise`` gives them.
    top : list of Reliability
        Top-label diagrams, one for each binning.
    classes : list of list of Reliability
        Per choice position, one diagram for each binning kept for positions.
    risk : ndarray, shape (100,)
        Error rate among the most confident answers at each of ``COVERAGES``.
    curve : IsotonicCurve or None
        Reliability without bins; None if no question can be used.
    smooth : SmoothCurve or None
        The same, smoothed; None if no question can be used, or there are very many runs.
    side : Side
        The resamples of every metric, and what else its changes to other runs share.
    """

    rows: list[dict[str, Any]]
    top: list[Reliability]
    classes: list[list[Reliability]]
    risk: Floats
    curve: IsotonicCurve | None
    smooth: SmoothCurve | None
    side: Side


@dataclass(frozen=True)
class DiagramOptions:
    """Which diagrams the page carries, and which with interval and null of their error.

    Attributes
    ----------
    binnings, class_binnings : sequence of (int, str)
        Number of bins and rule, of the top choice and of every choice position.
    n_resamples, n_class_resamples : int
        For the intervals and nulls of these diagrams; 0 leaves them out.
    n_curve_resamples : int
        For the bands of the curves without bins; 0 leaves them and smooth curves out.
    seed : int
    """

    binnings: Sequence[Binning]
    class_binnings: Sequence[Binning]
    n_resamples: int
    n_class_resamples: int
    n_curve_resamples: int
    seed: int


def diagram_options(predictions: Sequence[Predictions], options: SummaryOptions) -> DiagramOptions:
    """Choose diagrams, and leave out intervals and nulls that would take too long."""
    binnings = _binnings(predictions, (options.n_bins, options.binning))
    class_binnings = _class_binnings(predictions, binnings, options)
    top = len(binnings) * sum(map(len, predictions))
    classes = len(class_binnings) * sum(p.scores.size for p in predictions)
    return DiagramOptions(
        binnings,
        class_binnings,
        options.n_resamples if top <= _ERROR_WORK else 0,
        options.n_resamples if top + classes <= _ERROR_WORK else 0,
        min(options.n_resamples, _CURVES) if top <= _ERROR_WORK else 0,
        options.seed,
    )


def _binnings(predictions: Sequence[Predictions], main: Binning) -> list[Binning]:
    """Binnings to switch between: all, or those with the chosen M if there are many answers."""
    binnings = [*BINNINGS, *([] if main in BINNINGS else [main])]
    if len(binnings) * sum(map(len, predictions)) <= _DIAGRAM_WORK:
        return binnings
    return [(n_bins, rule) for n_bins, rule in binnings if n_bins == main[0]]


def _class_binnings(
    predictions: Sequence[Predictions], binnings: Sequence[Binning], options: SummaryOptions
) -> list[Binning]:
    """Binnings kept for choice positions: all, those with the chosen M, or the chosen one."""
    if sum(p.scores.size for p in predictions) > _DIAGRAM_WORK:
        # Uniform ones always: the histogram is theirs.
        return list(dict.fromkeys([(options.n_bins, options.binning), (options.n_bins, "uniform")]))
    positions = sum(p.scores.shape[1] for p in predictions)
    if positions * sum(n_bins for n_bins, _ in binnings) <= _CLASS_BINS:
        return list(binnings)
    return [(n_bins, rule) for n_bins, rule in binnings if n_bins == options.n_bins]


def entry_numbers(
    p: Predictions,
    options: SummaryOptions,
    diagrams: DiagramOptions,
    compared: Sequence[str] = (),
) -> EntryNumbers:
    """Compute everything about one run × task × method.

    Parameters
    ----------
    p : Predictions
    options : SummaryOptions
    diagrams : DiagramOptions
    compared : sequence of str
        Metrics whose changes to other runs will be tested.
    """
    draws: dict[str, Draws] = {}
    # Where intervals of all diagrams are affordable, so are a few temperatures.
    with_temperature = replace(options, recalibrate=diagrams.n_curve_resamples > 0)
    rows = summarise(p, with_temperature, draws=draws)
    probs, gold = p.probs[p.usable], p.gold[p.usable]
    # What a calibrated model would show on average stands in a row of its own.
    of_ece = [row["value"] for row in rows if row["metric"] == "ece_null"]
    side = Side(draws, {"ece": of_ece[0]} if of_ece else {}, {})
    if compared and gold.size:
        with temperatures_of(p.header.title):
            side = side_of(probs, gold, replace(options, metrics=tuple(compared)), side)
    confidence, correct = p.confidence[p.usable], p.correct[p.usable]
    asked = [
        Pairs(confidence, correct, *binning, diagrams.n_resamples, diagrams.seed)
        for binning in diagrams.binnings
    ]
    for k, column in enumerate(probs.T):
        exists = ~np.isnan(column)
        pairs = column[exists], gold[exists] == k
        asked += [
            Pairs(*pairs, *binning, diagrams.n_class_resamples, diagrams.seed)
            for binning in diagrams.class_binnings
        ]
    found = _diagrams(asked)
    first, each = len(diagrams.binnings), len(diagrams.class_binnings)
    return EntryNumbers(
        rows=rows,
        top=found[:first],
        classes=[found[at : at + each] for at in range(first, len(found), each)],
        risk=risk_curve(confidence, correct),
        curve=isotonic_curve(
            confidence, correct, n_resamples=diagrams.n_curve_resamples, seed=diagrams.seed
        )
        if gold.size
        else None,
        smooth=smooth_curve(confidence, correct)
        if gold.size and diagrams.n_curve_resamples
        else None,
        side=side,
    )


def _diagrams(asked: Sequence[Pairs]) -> list[Reliability]:
    """Bin all pairs; there are none where no question, or none with this choice, can be used."""
    found = iter(reliability_of_each([pairs for pairs in asked if np.size(pairs.confidence)]))
    return [
        next(found) if np.size(pairs.confidence) else empty_reliability(pairs.n_bins, pairs.binning)
        for pairs in asked
    ]


def risk_curve(confidence: Floats, correct: Bools) -> Floats:
    """Return the error rate among the most confident answers, at each of ``COVERAGES``."""
    n = confidence.size
    if n == 0:
        return np.full(COVERAGES.shape, np.nan)
    kept = np.maximum(np.ceil(COVERAGES * n - 1e-9).astype(int), 1)
    return np.asarray(risks(confidence, correct.astype(np.float64))[kept - 1])


def all_numbers(
    predictions: Sequence[Predictions],
    options: SummaryOptions,
    diagrams: DiagramOptions,
    compared: Sequence[str],
    n_jobs: int,
) -> Iterator[EntryNumbers]:
    """Compute everything about every run × task × method, in order, in up to `n_jobs` processes."""
    work = partial(entry_numbers, options=options, diagrams=diagrams, compared=compared)
    few = _expected_work(predictions, options, diagrams) < _LITTLE_WORK
    yield from in_order(work, [_without_hashes(p) for p in predictions], 1 if few else n_jobs)


def _expected_work(
    predictions: Sequence[Predictions], options: SummaryOptions, diagrams: DiagramOptions
) -> int:
    """Count resampled answers, and what an entry costs besides in their terms."""
    resamples = options.n_resamples + diagrams.n_resamples * len(diagrams.binnings)
    of_classes = diagrams.n_class_resamples * len(diagrams.class_binnings)
    return sum(
        _WORK_OF_ENTRY + len(p) * (resamples + p.scores.shape[1] * of_classes) for p in predictions
    )


def _without_hashes(p: Predictions) -> Predictions:
    """Leave out what takes longest to hand to another process, and is not needed there."""
    return replace(p, doc_hash=np.full(len(p), "", dtype=object))
