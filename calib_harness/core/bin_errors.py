"""Binned calibration errors, for many weightings or many outcomes of the same questions.

Every binned metric is a weighted mean over *groups* of entries that are binned together: one
group of top-label pairs for ECE, one group per class for SCE, ACE and TACE. A bin's error
needs three sums only: how many entries it holds, the sum of (probability - outcome), and the
sum of outcomes. For uniform bins these are products of the counts of a resample with a sparse
table, one column per bin of a group; bins of equal mass are cut anew in every resample, on
running sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeAlias

import numpy as np
from scipy import sparse

from calib_harness.core.bin_sums import BinSums, combine, ratio
from calib_harness.core.binning import bin_index, number_occupied, run_starts
from calib_harness.core.checks import BoolArray, FloatArray, IntArray
from calib_harness.core.gap_bounds import BOUNDED_NORMS, error_bounds
from calib_harness.core.groups import Group
from calib_harness.core.shares import expected_gaps

# (R, n) counts of a resample -> (R,) values, or (R, V) of V variants.
Statistic: TypeAlias = Callable[[FloatArray], FloatArray]
# (R, n) simulated gold indices -> (R,) values.
Simulation: TypeAlias = Callable[[IntArray], FloatArray]


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

    def value(self, gold: IntArray) -> float:
        """Return the error of the questions themselves."""
        return point_value(self.resampled(gold), gold.size)

    def resampled(self, gold: IntArray) -> Statistic:
        """Return the function from (R, n) counts to the (R,) errors of those resamples."""
        sums = self._fixed_bins(gold) if self.binning == "uniform" else self._cut_anew(gold)
        over_groups = self._over_groups(gold.size)

        def evaluate(counts: FloatArray) -> FloatArray:
            return over_groups([combine(each, self.norm) for each in sums(counts)], counts)

        return evaluate

    def value_and_deviations(self, gold: IntArray) -> tuple[float, Statistic]:
        """Return the error, and the function from (R, n) counts to (R, 3) deviations from it.

        A deviation is a resampled error minus the error resampled from, whose distribution
        stands for that of the measured error around the true one. How much of a measured gap
        is real is unknown, and the distribution depends on it. The first column resamples the
        error as it is; the others hold what it may be at the least and at the most, see
        `error_bounds`. The norms "l2", "max" and "debiased" have the first column only.
        """
        if self.norm not in BOUNDED_NORMS:
            resampled, value = self.resampled(gold), self.value(gold)
            return value, lambda counts: (resampled(counts) - value)[:, None]
        uniform = self.binning == "uniform"
        fixed = self._fixed_bins(gold)
        sums = fixed if uniform else self._cut_anew(gold)
        over_groups = self._over_groups(gold.size)
        noise = self._mean_gaps([group.likely for group in self.groups])
        bounds = error_bounds(self.groups, self._bins, gold, self.norm, noise)

        def errors(counts: FloatArray) -> FloatArray:
            taken = sums(counts)
            kept = taken if uniform else fixed(counts)
            worlds = [
                [combine(each, self.norm) for each in taken],
                [each.least(of) for each, of in zip(bounds.groups, kept, strict=True)],
                bounds.most(kept),
            ]
            return np.stack([over_groups(world, counts) for world in worlds], axis=1)

        centre = errors(np.ones((1, gold.size)))
        shift = np.array([0.0, -bounds.unseen, bounds.excess])
        return float(centre[0, 0]), lambda counts: errors(counts) - centre + shift

    def _over_groups(self, n: int) -> Callable[[list[FloatArray], FloatArray], FloatArray]:
        """Return the mean of the groups' errors, weighted by their entries in a resample."""
        member = _marked([group.members for group in self.groups], n)

        def mean(errors: list[FloatArray], counts: FloatArray) -> FloatArray:
            if len(errors) == 1:
                return errors[0]
            weight = counts @ member
            return ratio((weight * np.stack(errors, axis=1)).sum(axis=1), weight.sum(axis=1))

        return mean

    def null_mean(self) -> float | None:
        """Return the exact mean over outcomes drawn from the probabilities; None for some norms.

        The hits in a bin have a Poisson-binomial distribution, and the mean of a sum of gaps
        is the sum of their means, whether bins depend on each other or not.
        """
        if self.norm not in ("l1", "over", "under"):
            return None
        found = self._mean_gaps([group.values for group in self.groups])
        errors = [
            gaps.sum() / max(bins.size, 1) for gaps, bins in zip(found, self._bins, strict=True)
        ]
        weight = np.array([len(group.members) for group in self.groups], dtype=np.float64)
        return float(np.average(errors, weights=weight))

    def _mean_gaps(self, around: Sequence[FloatArray]) -> list[FloatArray]:
        """Return for each group the mean norm of each bin's gap if probabilities come true.

        The gap is that to the sum of what is given of each group's entries.
        """
        # The bins of all groups at once, numbered on: what comes out of one depends on no other.
        ends = np.cumsum([int(bins.max(initial=-1)) + 1 for bins in self._bins])
        starts = np.append(0, ends[:-1])
        bins = np.concatenate([own + at for own, at in zip(self._bins, starts, strict=True)])
        likely = np.concatenate([group.likely for group in self.groups])
        sums = np.bincount(bins, weights=np.concatenate(around)).astype(np.float64)
        over, under = expected_gaps(np.clip(likely, 0.0, 1.0), bins, sums)
        gaps = {"l1": over + under, "over": over, "under": under}[self.norm]
        return [gaps[start:end] for start, end in zip(starts, ends, strict=True)]

    def simulated(self) -> Simulation:
        """Return the function from (R, n) gold indices to the (R,) errors they would give.

        Bins depend on probabilities only: they are the same in all simulations.
        """
        weight = np.array([len(group.members) for group in self.groups], dtype=np.float64)
        sums = [self._outcomes(*each) for each in zip(self.groups, self._bins, strict=True)]

        def evaluate(gold: IntArray) -> FloatArray:
            errors = np.stack([combine(of(gold), self.norm) for of in sums], axis=1)
            return np.asarray((errors * weight).sum(axis=1) / weight.sum())

        return evaluate

    @cached_property
    def _bins(self) -> list[IntArray]:
        """For each group the bin of each entry, non-empty bins numbered from 0."""
        return [
            number_occupied(bin_index(group.values, n_bins=self.n_bins, binning=self.binning))[1]
            if group.values.size
            else np.zeros(0, dtype=np.int64)
            for group in self.groups
        ]

    @staticmethod
    def _outcomes(group: Group, bins: IntArray) -> Callable[[IntArray], BinSums]:
        """Sum the bins of a group whose outcomes vary and whose entries count once each."""
        each = np.arange(bins.size)
        size = np.bincount(bins)[None, :].astype(np.float64)
        expected = np.bincount(bins, weights=group.values)
        table = _table(each, bins, np.ones(bins.size), bins.size)

        def sums(gold: IntArray) -> BinSums:
            hits = group.outcome(gold).astype(np.float64) @ table
            return BinSums(
                total=np.full(len(gold), float(bins.size)),
                gap=expected - hits,
                size=lambda: np.broadcast_to(size, hits.shape),
                hits=lambda: hits,
            )

        return sums

    def _fixed_bins(self, gold: IntArray) -> Callable[[FloatArray], list[BinSums]]:
        """Sum bins that do not depend on the resample: counts times one table of all groups."""
        widths = [int(bins.max(initial=-1)) + 1 for bins in self._bins]
        ends = np.cumsum(widths)
        rows = np.concatenate([group.rows for group in self.groups])
        columns = np.concatenate(
            [bins + end - width for bins, end, width in zip(self._bins, ends, widths, strict=True)]
        )
        hit = np.concatenate([group.outcome(gold) for group in self.groups]).astype(np.float64)
        gaps = np.concatenate([group.values for group in self.groups]) - hit
        gap_table = _table(rows, columns, gaps, gold.size)
        inside = _marked([group.rows for group in self.groups], gold.size)

        def sums(counts: FloatArray) -> list[BinSums]:
            total = counts @ inside
            if len(counts) == 1:  # the questions themselves: the same sums, without the table
                weights = gaps * counts[0, rows]
                at_once = np.bincount(columns, weights=weights, minlength=gap_table.shape[1])
                gap = at_once.astype(np.float64)[None, :]
            else:
                gap = counts @ gap_table

            def of_entries(weights: FloatArray, part: slice) -> FloatArray:
                return np.asarray(counts @ _table(rows, columns, weights, gold.size))[:, part]

            return [
                BinSums(
                    total=total[:, k],
                    gap=gap[:, part],
                    size=partial(of_entries, np.ones_like(gaps), part),
                    hits=partial(of_entries, hit, part),
                )
                for k, part in enumerate(map(slice, ends - widths, ends))
            ]

        return sums

    def _cut_anew(self, gold: IntArray) -> Callable[[FloatArray], list[BinSums]]:
        """Sum bins that are cut anew in each resample."""
        sums = [self._cut_group(group, group.outcome(gold)) for group in self.groups]
        return lambda counts: [of(counts) for of in sums]

    def _cut_group(self, group: Group, hits: BoolArray) -> Callable[[FloatArray], BinSums]:
        """Sum the bins of a group that are cut anew, on running sums over sorted values."""
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


def _table(rows: IntArray, bins: IntArray, weights: FloatArray, n: int) -> sparse.csr_array:
    """Return the (n, bins) table with each entry's weight in the row of its question."""
    return sparse.csr_array((weights, (rows, bins)), shape=(n, int(bins.max(initial=-1)) + 1))


def _marked(rows: Sequence[IntArray], n: int) -> FloatArray:
    """Return (n, groups) zeros with ones in the rows of each group."""
    marked = np.zeros((n, len(rows)))
    for k, of_group in enumerate(rows):
        marked[of_group, k] = 1.0
    return marked


def point_value(statistic: Statistic, n: int) -> float:
    """Return a statistic of the questions themselves, each counted once."""
    return float(statistic(np.ones((1, n)))[0])


def error_of_bins(confidence: FloatArray, hit: FloatArray, at: IntArray) -> float:
    """Return the calibration error of pairs whose bins, numbered from 0, are known."""
    size, gap, hits = (
        np.bincount(at, weights=weights)[None, :].astype(np.float64)
        for weights in (np.ones_like(hit), confidence - hit, hit)
    )
    sums = BinSums(size.sum(axis=1), gap, lambda: size, lambda: hits)
    return float(combine(sums, "l1")[0])
