"""Binned calibration errors, for many weightings or many outcomes of the same questions.

Every binned metric is a weighted mean over *groups* of entries that are binned together: one
group of top-label pairs for ECE, one group per class for SCE, ACE and TACE. A bin's error
needs three sums only: how many entries it holds, the sum of (probability - outcome), and the
sum of outcomes. For uniform bins these are matrix products of the counts of a resample with
one table per group; bins of equal mass are cut anew in every resample, on running sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from calib_harness.core.binning import bin_index, run_starts
from calib_harness.core.checks import BoolArray, FloatArray, IntArray

# (R, n) counts of a resample -> (R,) values.
Statistic: TypeAlias = Callable[[FloatArray], FloatArray]
# (R, n) simulated gold indices -> (R,) values.
Simulation: TypeAlias = Callable[[IntArray], FloatArray]
# gold, shape (..., n) -> which entries of a group came true, shape (..., entries).
Outcome: TypeAlias = Callable[[IntArray], BoolArray]

_COLUMNS_AT_ONCE = 64  # bins per matrix product: bounds memory when there are many bins


@dataclass(frozen=True)
class Group:
    """Entries that are binned together.

    Attributes
    ----------
    rows : ndarray of int, shape (m,)
        The question of each entry.
    values : ndarray, shape (m,)
        Its probability.
    outcome : callable
        Gold indices to what happened to each entry.
    members : ndarray of int
        Questions that give the group its weight: `rows`, before a threshold removes some.
    """

    rows: IntArray
    values: FloatArray
    outcome: Outcome
    members: IntArray


@dataclass(frozen=True)
class BinSums:
    """Sums over the entries in each bin, one row per resample; empty bins may be missing."""

    size: FloatArray
    gap: FloatArray
    hits: FloatArray


@dataclass(frozen=True)
class BinnedError:
    """A binned calibration error of given entries, bins and norm.

    Attributes
    ----------
    groups : sequence of Group
        What is binned together.
    n_questions : int
        Number of questions, n.
    n_bins, binning
        See `bin_index`.
    norm : {"l1", "l2", "max", "debiased"}
        How the bins of a group become one number.
    """

    groups: Sequence[Group]
    n_questions: int
    n_bins: int
    binning: str
    norm: str

    def resampled(self, gold: IntArray) -> Statistic:
        """Return the function from (R, n) counts to the (R,) errors of those resamples."""
        hits = [group.outcome(gold).astype(np.float64) for group in self.groups]
        sums = [self._weighted(group, hit) for group, hit in zip(self.groups, hits, strict=True)]

        def evaluate(counts: FloatArray) -> FloatArray:
            errors = np.stack([combine(of(counts), self.norm) for of in sums])
            if len(self.groups) == 1:
                return np.asarray(errors[0])
            weight = np.stack([counts[:, group.members].sum(axis=1) for group in self.groups])
            return np.asarray((weight * errors).sum(axis=0) / weight.sum(axis=0))

        return evaluate

    def simulated(self) -> Simulation:
        """Return the function from (R, n) gold indices to the (R,) errors they would give."""
        weight = np.array([len(group.members) for group in self.groups], dtype=np.float64)
        bins = [self._onehot(group) for group in self.groups]

        def evaluate(gold: IntArray) -> FloatArray:
            total = np.zeros(len(gold))
            for group, onehot, share in zip(self.groups, bins, weight / weight.sum(), strict=True):
                hits = group.outcome(gold).astype(np.float64) @ onehot
                size = np.broadcast_to(onehot.sum(axis=0), hits.shape)
                sums = BinSums(size=size, gap=group.values @ onehot - hits, hits=hits)
                total += share * combine(sums, self.norm)
            return total

        return evaluate

    def _onehot(self, group: Group) -> FloatArray:
        """Return the (m, occupied bins) table of bin membership."""
        if not group.values.size:
            return np.zeros((0, 1))
        bins = bin_index(group.values, n_bins=self.n_bins, binning=self.binning)
        _, column = np.unique(bins, return_inverse=True)
        table = np.zeros((column.size, int(column.max()) + 1))
        table[np.arange(column.size), column] = 1.0
        return table

    def _weighted(self, group: Group, hits: FloatArray) -> Callable[[FloatArray], BinSums]:
        if self.binning == "uniform" or not group.values.size:
            return self._uniform(group, hits)
        return self._by_rank(group, hits)

    def _uniform(self, group: Group, hits: FloatArray) -> Callable[[FloatArray], BinSums]:
        """Bins do not depend on the resample: sums are counts times a table per quantity."""
        bins = np.zeros(0, dtype=np.int64)
        if group.values.size:
            bins = bin_index(group.values, n_bins=self.n_bins, binning=self.binning)
        occupied, column = np.unique(bins, return_inverse=True)

        def product(counts: FloatArray, weights: FloatArray) -> FloatArray:
            blocks = [np.zeros((len(counts), 0))]
            for start in range(0, occupied.size, _COLUMNS_AT_ONCE):
                width = min(_COLUMNS_AT_ONCE, occupied.size - start)
                here = (column >= start) & (column < start + width)
                table = np.zeros((self.n_questions, width))
                table[group.rows[here], column[here] - start] = weights[here]
                blocks.append(counts @ table)
            return np.concatenate(blocks, axis=1)

        def sums(counts: FloatArray) -> BinSums:
            size = product(counts, np.ones_like(hits))
            gap = product(counts, group.values - hits)
            return BinSums(size=size, gap=gap, hits=product(counts, hits))

        return sums

    def _by_rank(self, group: Group, hits: FloatArray) -> Callable[[FloatArray], BinSums]:
        """Bins are cut anew in each resample, on running sums over the sorted values."""
        order = np.argsort(group.values, kind="stable")
        ordered = group.values[order]
        last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        rows, gap, hit = group.rows[order], (group.values - hits)[order], hits[order]

        def sums(counts: FloatArray) -> BinSums:
            weights = counts[:, rows]
            cumulative = np.cumsum(weights, axis=1)[:, last]
            starts = run_starts(cumulative, self.n_bins, self.binning)

            def per_run(running: FloatArray) -> FloatArray:
                padded = np.concatenate([np.zeros((len(running), 1)), running], axis=1)
                ends = np.append(starts[:, 1:], np.full((len(starts), 1), last.size), axis=1)
                after = np.take_along_axis(padded, ends, axis=1)
                return np.asarray(after - np.take_along_axis(padded, starts, axis=1))

            return BinSums(
                size=per_run(cumulative),
                gap=per_run(np.cumsum(weights * gap, axis=1)[:, last]),
                hits=per_run(np.cumsum(weights * hit, axis=1)[:, last]),
            )

        return sums


def combine(sums: BinSums, norm: str) -> FloatArray:
    """Return one error per resample from the sums over its bins; 0 where there are no entries."""
    size, gap = sums.size, sums.gap
    total = size.sum(axis=1)
    if norm == "max":
        mean_gap = ratio(np.abs(gap), size)
        return np.asarray(mean_gap.max(axis=1, initial=0.0))
    if norm == "l1":
        error = np.abs(gap).sum(axis=1)
        return ratio(error, total)
    squared = ratio(gap**2, size)
    if norm == "debiased":
        # Kumar et al. 2019: take the sampling variance of a bin's accuracy off its squared
        # gap. A bin of one entry has no such estimate and counts as 0, as in their code.
        bias = ratio(sums.hits * (size - sums.hits), size * (size - 1))
        squared = np.where(size > 1, squared - bias, 0.0)
    return np.sqrt(np.maximum(ratio(squared.sum(axis=1), total), 0.0))


def ratio(above: FloatArray, below: FloatArray, *, otherwise: float = 0.0) -> FloatArray:
    """Divide elementwise, `otherwise` where there is nothing to divide by."""
    out = np.full(np.broadcast_shapes(above.shape, below.shape), otherwise)
    return np.asarray(np.divide(above, below, out=out, where=below > 0))


def top_label_groups(confidence: FloatArray, outcome: Outcome) -> list[Group]:
    """Return the one group of (confidence, correct) pairs."""
    rows = np.arange(confidence.size)
    return [Group(rows=rows, values=confidence, outcome=outcome, members=rows)]


def class_groups(
    probs: FloatArray, *, threshold: float | None = None, against: IntArray | None = None
) -> list[Group]:
    """Return one group per class (choice position) with the entries of that class.

    Parameters
    ----------
    probs : ndarray, shape (n, K)
        Probabilities, NaN where a choice does not exist.
    threshold : float, optional
        Keep only entries strictly above it.
    against : ndarray of int, shape (n,), optional
        Predictions. If given, an entry comes true where [prediction = class] equals
        [gold = class] instead of where gold = class.
    """
    groups = []
    for k, column in enumerate(probs.T):
        members = np.flatnonzero(~np.isnan(column))
        if members.size == 0:
            continue
        rows = members if threshold is None else members[column[members] > threshold]
        outcome = _class_outcome(k, rows, against)
        groups.append(Group(rows=rows, values=column[rows], outcome=outcome, members=members))
    return groups


def _class_outcome(k: int, rows: IntArray, against: IntArray | None) -> Outcome:
    def is_gold(gold: IntArray) -> BoolArray:
        return np.asarray(gold[..., rows] == k)

    def agrees(gold: IntArray) -> BoolArray:
        assert against is not None
        return np.asarray((gold[..., rows] == k) == (against[rows] == k))

    return is_gold if against is None else agrees


def point_value(statistic: Statistic, n: int) -> float:
    """Return a statistic of the questions themselves, each counted once."""
    return float(statistic(np.ones((1, n)))[0])
