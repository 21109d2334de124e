"""The numbers behind the page: metrics, binned data and curves of every run × task × method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from calib_harness.core.binning import bin_index
from calib_harness.predictions.table import Bools, Floats, Predictions
from calib_harness.summary import SummaryOptions, summarise

Binning: TypeAlias = tuple[int, str]
#: Bins that a reader can switch between.
BINNINGS: tuple[Binning, ...] = tuple(
    (n_bins, rule) for rule in ("uniform", "equal_mass") for n_bins in (10, 15, 20)
)
#: Coverages at which risk is kept: 1 %, 2 %, ... 100 %.
COVERAGES = np.arange(1, 101) / 100


@dataclass(frozen=True)
class Bins:
    """Binned outcomes of one diagram, empty bins included; each array has shape (bins,).

    Attributes
    ----------
    size, hits : ndarray of int
        Entries in each bin, and how many of them came true.
    mean : ndarray
        Mean probability in each bin; 0 where it is empty.
    """

    size: npt.NDArray[np.int64]
    hits: npt.NDArray[np.int64]
    mean: Floats


@dataclass(frozen=True)
class EntryNumbers:
    """All that the page shows of one run × task × method.

    Attributes
    ----------
    rows : list of dict
        As ``summarise`` gives them.
    top : list of Bins
        Top-label diagrams, one for each binning.
    classes : list of list of Bins
        Per choice position, one diagram for each binning kept for positions.
    risk : ndarray, shape (100,)
        Error rate among the most confident answers at each of ``COVERAGES``.
    """

    rows: list[dict[str, Any]]
    top: list[Bins]
    classes: list[list[Bins]]
    risk: Floats


def entry_numbers(
    p: Predictions,
    options: SummaryOptions,
    binnings: Sequence[Binning],
    class_binnings: Sequence[Binning],
) -> EntryNumbers:
    """Compute everything about one run × task × method."""
    rows = summarise(p, options)
    probs, gold = p.probs[p.usable], p.gold[p.usable]
    confidence, correct = p.confidence[p.usable], p.correct[p.usable]
    classes = []
    for k, column in enumerate(probs.T):
        exists = ~np.isnan(column)
        came_true = gold[exists] == k
        classes.append([bin_outcomes(column[exists], came_true, b) for b in class_binnings])
    return EntryNumbers(
        rows=rows,
        top=[bin_outcomes(confidence, correct, b) for b in binnings],
        classes=classes,
        risk=risk_curve(confidence, correct),
    )


def bin_outcomes(values: Floats, came_true: Bools, binning: Binning) -> Bins:
    """Sum outcomes over bins, with the package's one rule of who belongs where."""
    n_bins, rule = binning
    index = bin_index(values, n_bins=n_bins, binning=rule) if values.size else np.zeros(0, int)
    size = np.bincount(index, minlength=n_bins)
    hits = np.bincount(index[came_true], minlength=n_bins)
    total = np.bincount(index, weights=values, minlength=n_bins)
    return Bins(size, hits, np.divide(total, size, out=np.zeros(n_bins), where=size > 0))


def risk_curve(confidence: Floats, correct: Bools) -> Floats:
    """Return the error rate among the most confident answers, at each of ``COVERAGES``."""
    n = confidence.size
    if n == 0:
        return np.full(COVERAGES.shape, np.nan)
    order = np.argsort(-confidence, kind="stable")
    errors = np.cumsum(~correct[order])
    kept = np.maximum(np.ceil(COVERAGES * n - 1e-9).astype(int), 1)
    return np.asarray(errors[kept - 1] / kept)


def all_numbers(
    predictions: Sequence[Predictions],
    options: SummaryOptions,
    binnings: Sequence[Binning],
    class_binnings: Sequence[Binning],
    n_jobs: int,
) -> Iterator[EntryNumbers]:
    """Compute everything about every run × task × method, in order, `n_jobs` at a time."""

    def work(p: Predictions) -> EntryNumbers:
        return entry_numbers(p, options, binnings, class_binnings)

    queue = iter(predictions)
    with ThreadPoolExecutor(n_jobs) as pool:
        pending = [pool.submit(work, p) for p in islice(queue, n_jobs + 1)]
        while pending:
            yield pending.pop(0).result()
            pending.extend(pool.submit(work, p) for p in islice(queue, 1))
