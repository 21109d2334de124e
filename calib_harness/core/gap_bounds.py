"""What a binned error may be at the least and at the most, given the gaps that were measured.

An error is Σ_b φ(G_b) for the gap sum G_b of each bin, μ_b of which is real and Z_b = G_b - μ_b
noise; φ is |·| or one of its halves. For every φ that is convex, with φ(t G) = t φ(G) for t > 0,

    Σ s_b Z_b  ≤  Σ φ(G_b) - Σ φ(μ_b)  ≤  Σ φ(Z_b)

where s_b is the slope of φ at the real gap. So the measured error is too small by no more than a
mean over questions may be, and too large by no more than noise alone would show, whatever the real
gaps are. Where a gap is surely no noise (see `_surely_real`), its part on the right is s_b Z_b.

The right side is large where many bins are a little off. But the real error is also no less than
Σ u_b μ_b for any u_b that are slopes of φ, chosen without looking at outcomes. With u_b = 1 that is
the overconfidence of all questions together, without bias; the better of the two bounds is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calib_harness.core.bin_sums import BinSums, combine, ratio
from calib_harness.core.checks import BoolArray, FloatArray, IntArray
from calib_harness.core.groups import Group

#: Norms whose bounds are known.
BOUNDED_NORMS = ("l1", "over", "under")
# E|N - 1| of how often a resample holds a question, in standard deviations; sums have √(2/π) = .8.
_RESAMPLED_NOISE = 0.736


@dataclass(frozen=True)
class GroupBounds:
    """What the bins of a group add to an error at the least and at the most.

    Attributes
    ----------
    slopes : ndarray, shape (bins,)
        The slope of the norm at the measured gap.
    noise : ndarray, shape (bins,)
        The gap sum where it may be noise, 0 where it is surely real.
    overall : ndarray, shape (bins,)
        The slopes u_b that are chosen without outcomes, times the sign of all gaps together.
    norm : str
    """

    slopes: FloatArray
    noise: FloatArray
    overall: FloatArray
    norm: str

    def least(self, sums: BinSums) -> FloatArray:
        """Return the errors of resamples in which every gap keeps its sign, (R,)."""
        return ratio(sums.gap @ self.slopes, sums.total)

    def around_noise(self, sums: BinSums) -> FloatArray:
        """Return the errors of resamples drawn around gaps of 0 where these may be noise, (R,)."""
        return combine(replace(sums, gap=sums.gap - self.noise), self.norm)

    def together(self, sums: BinSums) -> FloatArray:
        """Return what all gaps together are in resamples, (R,)."""
        return ratio(sums.gap @ self.overall, sums.total)


@dataclass(frozen=True)
class ErrorBounds:
    """The bounds of all groups of an error, and what resamples cannot show of either.

    Attributes
    ----------
    groups : list of GroupBounds
    joint : bool
        Whether all gaps together bound the error better than one by one.
    unseen : float
        How much larger the error may be for answers that were too rare to be seen.
    excess : float
        How much larger the measured error is, beyond what resamples show at the most: noise that
        a calibrated model shows and resamples do not, or what all gaps together leave out.
    """

    groups: list[GroupBounds]
    joint: bool
    unseen: float
    excess: float

    def most(self, sums: Sequence[BinSums]) -> list[FloatArray]:
        """Return each group's errors of resamples at the most, (R,) each."""
        pairs = zip(self.groups, sums, strict=True)
        return [g.together(s) if self.joint else g.around_noise(s) for g, s in pairs]


def error_bounds(
    groups: Sequence[Group],
    bins: Sequence[IntArray],
    gold: IntArray,
    norm: str,
    noise_if_true: Sequence[FloatArray],
) -> ErrorBounds:
    """Return the bounds of an error of `BOUNDED_NORMS`.

    Parameters
    ----------
    groups : sequence of Group
    bins : sequence of ndarray of int
        Of each group the bin of each entry, numbered from 0 without gaps.
    gold : ndarray of int, shape (n,)
    norm : str
    noise_if_true : sequence of ndarray
        Of each group the mean norm of each bin's noise if its probabilities come true.
    """
    limit = noise_limit(sum(int(at.max(initial=-1)) + 1 for at in bins))
    n, n_entries = gold.size, sum(len(group.members) for group in groups)
    found, noise, hidden, value = [], 0.0, 0.0, 0.0
    # Of each question: its gaps times their slopes and times u_b; what is likely, and its spread.
    signed, joint, likely, spread = np.zeros((4, n))
    for group, at, if_true in zip(groups, bins, noise_if_true, strict=True):
        gaps = group.values - group.outcome(gold)
        sums, squares, expected = (
            np.bincount(at, weights=w).astype(np.float64)
            for w in (gaps, gaps**2, group.values * (1 - group.values))
        )
        real = _surely_real(sums, np.maximum(squares - sums**2 / n, expected), limit)
        slopes, overall = _slopes(sums, norm), _overall(group, at, alone=len(groups) == 1)
        found.append(GroupBounds(slopes, np.where(real, 0.0, sums), overall, norm))
        calibrated = if_true[~real].sum()
        resampled = _RESAMPLED_NOISE * np.sqrt(squares)[~real].sum()
        noise += max(calibrated, resampled)
        hidden += calibrated - resampled
        value += float(slopes @ sums)
        for total, weights in (
            (signed, slopes[at] * gaps),
            (joint, overall[at] * gaps),
            (likely, slopes[at] * group.values),
            (spread, slopes[at] ** 2 * group.values),
        ):
            total += np.bincount(group.rows, weights=weights, minlength=n)
    largest = min(len(groups), 2)  # a wrong answer's gaps: its own, and that of the right choice
    # The variance is no less than that of a calibrated model and, as in Wilson's interval, than
    # that of one question in n; two standard errors make an interval.
    stderr = np.sqrt(n * max(signed.var(), float((spread - likely**2).mean())) + largest**2)
    unseen = 2 * (stderr - np.sqrt(n * signed.var()))
    sign = {"l1": np.sign(joint.sum()), "over": 1.0, "under": -1.0}[norm]
    found = [replace(each, overall=sign * each.overall) for each in found]
    # Half a standard error more, since either sign may come out and the better bound is taken.
    left_out = value - sign * joint.sum() + stderr / 2
    better = bool(left_out + 2 * stderr < noise + 1.2 * stderr)
    # Answers that were too rare to be seen are missing from the spread of noise as well.
    excess = left_out if better else max(hidden, 0.0) + unseen
    return ErrorBounds(found, better, float(unseen / n_entries), float(excess / n_entries))


def noise_limit(n_bins: int) -> float:
    """Return the number of standard errors of 0 within which a bin's gap may be noise.

    The largest of B gaps that are all noise lies around √(2 log B) standard errors: with a limit
    that does not grow with B, some bins of any calibrated model are taken for off.
    """
    return max(2.0, float(np.sqrt(2 * np.log(max(n_bins, 1)))) + 0.5)


def _surely_real(sums: FloatArray, variance: FloatArray, limit: float) -> BoolArray:
    """Whether a gap sum lies beyond a limit, by Bernstein's inequality where answers are rare."""
    return np.asarray(np.abs(sums) > limit * np.sqrt(variance) + limit**2 / 3)


def _slopes(sums: FloatArray, norm: str) -> FloatArray:
    signs = np.sign(sums)
    return np.asarray({"l1": signs, "over": signs > 0, "under": -1.0 * (signs < 0)}[norm], float)


def _overall(group: Group, bins: IntArray, *, alone: bool) -> FloatArray:
    """Return 1 for predictions, and for classes -1 in bins whose values lie below their mean."""
    if alone or not bins.size:  # TACE's threshold may leave a class without entries
        return np.ones(int(bins.max(initial=-1)) + 1)
    means = np.bincount(bins, weights=group.values) / np.bincount(bins)
    return np.asarray(np.where(means > group.values.mean(), 1.0, -1.0))
