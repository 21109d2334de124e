"""Binned calibration errors, for many weightings or many outcomes of the same questions.

Every binned metric is a weighted mean over *groups* of entries that are binned together: one
group of top-label pairs for ECE, one group per class for SCE, ACE and TACE. A bin's error
needs three sums only: how many entries it holds, the sum of (probability - outcome), and the
sum of outcomes. For uniform bins these are matrix products of the counts of a resample with
one table per group; bins of equal mass are cut anew in every resample, on running sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from calib_harness.core.binning import bin_index, run_starts
from calib_harness.core.checks import BoolArray, FloatArray, IntArray

# (R, n) counts of a resample -> (R,) values, or (R, V) of V variants.
Statistic: TypeAlias = Callable[[FloatArray], FloatArray]
# (R, n) simulated gold indices -> (R,) values.
Simulation: TypeAlias = Callable[[IntArray], FloatArray]
# gold, shape (..., n) -> which entries of a group came true, shape (..., entries).
Outcome: TypeAlias = Callable[[IntArray], BoolArray]

NOISE_LIMIT = 2.0  # standard errors of 0 within which a bin's gap may be noise
_BINS_AT_ONCE = 64  # per matrix product: bounds memory when there are many bins


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
    """Sums over the entries in each bin, one row per resample; empty bins may be missing.

    Attributes
    ----------
    total : ndarray, shape (R,)
        Number of entries in all bins.
    gap : ndarray, shape (R, bins)
        Sum of (probability - outcome).
    size, hits : callable
        Number of entries and sum of outcomes, shape (R, bins); few norms need them.
    """

    total: FloatArray
    gap: FloatArray
    size: Callable[[], FloatArray]
    hits: Callable[[], FloatArray]


@dataclass(frozen=True)
class BinnedError:
    """A binned calibration error of given entries, bins and norm.

    Attributes
    ----------
    groups : sequence of Group
        What is binned together.
    n_bins, binning
        See `bin_index`.
    norm : {"l1", "l2", "max", "debiased", "over", "under"}
        How the bins of a group become one number; "over" and "under" are the parts of "l1"
        from bins whose values exceed their outcomes, and from the others.
    """

    groups: Sequence[Group]
    n_bins: int
    binning: str
    norm: str

    def resampled(self, gold: IntArray) -> Statistic:
        """Return the function from (R, n) counts to the (R,) errors of those resamples."""
        sums = self._sums(gold, fixed=self.binning == "uniform")
        over_groups = self._over_groups(gold.size)

        def evaluate(counts: FloatArray) -> FloatArray:
            return over_groups([combine(of(counts), self.norm) for of in sums], counts)

        return evaluate

    def deviations(self, gold: IntArray) -> Statistic:
        """Return the function from (R, n) counts to the (R, 2) deviations of those resamples.

        A deviation is a resampled error minus the error resampled from, whose distribution
        stands for that of the measured error around the true one. How much of a measured gap
        is real is unknown, so the second deviation is that of a second world, in which bins
        whose gap lies within `NOISE_LIMIT` standard errors of 0 have no gap: their resampled
        gaps lie around 0 instead of around the measured gap. Bins are those of the questions
        themselves there, also where the first world cuts them anew.
        """
        uniform = self.binning == "uniform"
        fixed = self._sums(gold, fixed=True)
        sums = fixed if uniform else self._sums(gold, fixed=False)
        shifts = [self._noise(group, gold) for group in self.groups]
        over_groups = self._over_groups(gold.size)

        def errors(counts: FloatArray) -> FloatArray:
            taken = [of(counts) for of in sums]
            moved = taken if uniform else [of(counts) for of in fixed]
            moved = [
                replace(each, gap=each.gap - shift)
                for each, shift in zip(moved, shifts, strict=True)
            ]
            worlds = [[combine(each, self.norm) for each in world] for world in (taken, moved)]
            return np.stack([over_groups(world, counts) for world in worlds], axis=1)

        centre = errors(np.ones((1, gold.size)))
        return lambda counts: errors(counts) - centre

    def _sums(self, gold: IntArray, *, fixed: bool) -> list[Callable[[FloatArray], BinSums]]:
        cut = self._fixed_bins if fixed else self._cut_anew
        return [cut(group, group.outcome(gold).astype(np.float64)) for group in self.groups]

    def _noise(self, group: Group, gold: IntArray) -> FloatArray:
        """Return the gap sum of each bin where it may be noise, 0 where it is not.

        The variance of a sum is that among the questions or, where it is larger (all answers
        in a bin right), that of outcomes as probable as the values say.
        """
        bins, gaps = self._bins(group), group.values - group.outcome(gold)
        n_bins = int(bins.max(initial=-1)) + 1
        total, squares, expected = (
            np.bincount(bins, weights=weights, minlength=n_bins)
            for weights in (gaps, gaps**2, group.values * (1 - group.values))
        )
        variance = np.maximum(squares - total**2 / gold.size, expected)
        return np.where(total**2 <= NOISE_LIMIT**2 * variance, total, 0.0)

    def _over_groups(self, n: int) -> Callable[[list[FloatArray], FloatArray], FloatArray]:
        """Return the mean of the groups' errors, weighted by their entries in a resample."""
        member = np.zeros((n, len(self.groups)))
        for k, group in enumerate(self.groups):
            member[group.members, k] = 1.0

        def mean(errors: list[FloatArray], counts: FloatArray) -> FloatArray:
            if len(errors) == 1:
                return errors[0]
            weight = counts @ member
            return ratio((weight * np.stack(errors, axis=1)).sum(axis=1), weight.sum(axis=1))

        return mean

    def simulated(self) -> Simulation:
        """Return the function from (R, n) gold indices to the (R,) errors they would give.

        Bins depend on probabilities only: they are the same in all simulations.
        """
        weight = np.array([len(group.members) for group in self.groups], dtype=np.float64)
        sums = [self._outcomes(group) for group in self.groups]

        def evaluate(gold: IntArray) -> FloatArray:
            errors = np.stack([combine(of(gold), self.norm) for of in sums], axis=1)
            return np.asarray((errors * weight).sum(axis=1) / weight.sum())

        return evaluate

    def _bins(self, group: Group) -> IntArray:
        """Return the bin of each entry, non-empty bins numbered from 0."""
        if not group.values.size:
            return np.zeros(0, dtype=np.int64)
        bins = bin_index(group.values, n_bins=self.n_bins, binning=self.binning)
        return np.unique(bins, return_inverse=True)[1]

    def _outcomes(self, group: Group) -> Callable[[IntArray], BinSums]:
        """Sum the bins of a group whose outcomes vary and whose entries count once each."""
        bins, rows = self._bins(group), np.arange(group.values.size)
        once = np.ones((1, rows.size))
        size = bin_sums(once, rows, bins, once[0])
        expected = bin_sums(once, rows, bins, group.values)

        def sums(gold: IntArray) -> BinSums:
            hits = bin_sums(group.outcome(gold).astype(np.float64), rows, bins, once[0])
            return BinSums(
                total=np.full(len(gold), float(rows.size)),
                gap=expected - hits,
                size=lambda: np.broadcast_to(size, hits.shape),
                hits=lambda: hits,
            )

        return sums

    def _fixed_bins(self, group: Group, hits: FloatArray) -> Callable[[FloatArray], BinSums]:
        """Sum bins that do not depend on the resample: counts times a table."""
        bins, rows, one = self._bins(group), group.rows, np.ones_like(hits)
        together = np.zeros_like(bins)

        def sums(counts: FloatArray) -> BinSums:
            return BinSums(
                total=bin_sums(counts, rows, together, one).sum(axis=1),
                gap=bin_sums(counts, rows, bins, group.values - hits),
                size=lambda: bin_sums(counts, rows, bins, one),
                hits=lambda: bin_sums(counts, rows, bins, hits),
            )

        return sums

    def _cut_anew(self, group: Group, hits: FloatArray) -> Callable[[FloatArray], BinSums]:
        """Sum bins that are cut anew in each resample, on running sums over sorted values."""
        order = np.argsort(group.values, kind="stable")
        ordered = group.values[order]
        last = np.flatnonzero(np.diff(ordered, append=np.inf))
        distinct = last.size == ordered.size
        rows, gap, hit = group.rows[order], (group.values - hits)[order], hits[order]

        def sums(counts: FloatArray) -> BinSums:
            weights = counts[:, rows]

            def running(entries: FloatArray) -> FloatArray:
                """Return sums up to each distinct value, the first of them an empty sum."""
                padded = np.zeros((len(entries), ordered.size + 1))
                np.cumsum(entries, axis=1, out=padded[:, 1:])
                return padded if distinct else padded[:, np.append(0, last + 1)]

            size = running(weights)
            starts = run_starts(size, self.n_bins, self.binning)
            edges = np.append(starts, np.full((len(starts), 1), last.size), axis=1)

            def per_run(sums_up_to: FloatArray) -> FloatArray:
                return np.diff(np.take_along_axis(sums_up_to, edges, axis=1), axis=1)

            return BinSums(
                total=size[:, -1],
                gap=per_run(running(weights * gap)),
                size=lambda: per_run(size),
                hits=lambda: per_run(running(weights * hit)),
            )

        return sums


def bin_sums(
    table: FloatArray, columns: IntArray, bins: IntArray, weights: FloatArray
) -> FloatArray:
    """Return the weighted sums of a table's columns that share a bin, shape (R, bins)."""
    n_bins = int(bins.max(initial=-1)) + 1
    result = np.empty((len(table), n_bins))
    for start in range(0, n_bins, _BINS_AT_ONCE):
        stop = min(start + _BINS_AT_ONCE, n_bins)
        here = slice(None) if n_bins <= _BINS_AT_ONCE else (bins >= start) & (bins < stop)
        spread = np.zeros((table.shape[1], stop - start))
        spread[columns[here], bins[here] - start] = weights[here]
        result[:, start:stop] = table @ spread
    return result


def combine(sums: BinSums, norm: str) -> FloatArray:
    """Return one error per resample from the sums over its bins; 0 where there are no entries."""
    if norm == "l1":
        return ratio(np.abs(sums.gap).sum(axis=1), sums.total)
    if norm in ("over", "under"):
        gap = sums.gap if norm == "over" else -sums.gap
        return ratio(np.maximum(gap, 0.0).sum(axis=1), sums.total)
    size = sums.size()
    if norm == "max":
        return np.asarray(ratio(np.abs(sums.gap), size).max(axis=1, initial=0.0))
    squared = ratio(sums.gap**2, size)
    if norm == "debiased":
        # Kumar et al. 2019: take the sampling variance of a bin's accuracy off its squared
        # gap. A bin of one entry has no such estimate and counts as 0, as in their code.
        hits = sums.hits()
        bias = ratio(hits * (size - hits), size * (size - 1))
        squared = np.where(size > 1, squared - bias, 0.0)
    return np.sqrt(np.maximum(ratio(squared.sum(axis=1), sums.total), 0.0))


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
