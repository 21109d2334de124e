"""Every metric as a loop over its definition, on lists: the oracles of the vectorised code.

Slow, plain, and sharing nothing with the package. A question is a list of (choice,
probability) pairs of the choices it has.
"""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import numpy as np

Question = list[tuple[int, float]]


def questions(probs: np.ndarray) -> list[Question]:
    return [[(k, p) for k, p in enumerate(row) if not math.isnan(p)] for row in probs.tolist()]


def prediction(question: Question) -> int:
    best = max(p for _, p in question)
    return next(k for k, p in question if p == best)


def top_pairs(probs: np.ndarray, gold: list[int]) -> list[tuple[float, int]]:
    """List each question's (confidence, whether its prediction is gold)."""
    return [
        (max(p for _, p in q), int(prediction(q) == g))
        for q, g in zip(questions(probs), gold, strict=True)
    ]


def bins(values: list[float], n_bins: int, binning: str) -> list[int]:
    if binning == "uniform":
        return [uniform_bin(v, n_bins) for v in values]
    ordered = sorted(values)
    if binning == "equal_mass":
        runs = [list(run) for run in np.array_split(ordered, n_bins)]
        return [next(i for i, run in enumerate(runs) if v in run) for v in values]
    # Google's reference: numpy.digitize by the values at evenly spaced ranks.
    ranks = np.round(np.linspace(0, len(values), n_bins, endpoint=False)).astype(int)
    edges = [ordered[min(rank, len(values) - 1)] for rank in ranks][1:]
    return [sum(edge <= v for edge in edges) for v in values]


def uniform_bin(value: float, n_bins: int) -> int:
    for m in range(n_bins):
        low, high = m / n_bins, (m + 1) / n_bins
        if low < value <= high or (m == 0 and value == 0):
            return m
    raise AssertionError(value)


def binned(pairs: list[tuple[float, int]], n_bins: int, binning: str) -> list[list]:
    """List the pairs of each non-empty bin."""
    if not pairs:
        return []
    found: dict[int, list[tuple[float, int]]] = {}
    for pair, b in zip(pairs, bins([v for v, _ in pairs], n_bins, binning), strict=True):
        found.setdefault(b, []).append(pair)
    return list(found.values())


def gap(pairs: list[tuple[float, int]]) -> float:
    frequency = sum(outcome for _, outcome in pairs) / len(pairs)
    confidence = sum(value for value, _ in pairs) / len(pairs)
    return abs(frequency - confidence)


def ece(probs, gold, *, n_bins, binning, norm="l1"):
    pairs = top_pairs(probs, gold)
    parts = binned(pairs, n_bins, binning)
    if norm == "max":
        return max(gap(part) for part in parts)
    if norm == "l2":
        return math.sqrt(sum(len(part) / len(pairs) * gap(part) ** 2 for part in parts))
    return sum(len(part) / len(pairs) * gap(part) for part in parts)


def ece_rms(probs, gold, *, n_bins, binning):
    return ece(probs, gold, n_bins=n_bins, binning=binning, norm="l2")


def mce(probs, gold, *, n_bins, binning):
    return ece(probs, gold, n_bins=n_bins, binning=binning, norm="max")


def ece_debiased(probs, gold, *, n_bins, binning):
    pairs = top_pairs(probs, gold)
    total = 0.0
    for part in binned(pairs, n_bins, binning):
        if len(part) > 1:
            accuracy = sum(outcome for _, outcome in part) / len(part)
            bias = accuracy * (1 - accuracy) / (len(part) - 1)
            total += len(part) / len(pairs) * (gap(part) ** 2 - bias)
    return math.sqrt(max(total, 0.0))


def entries_of_class(probs, gold, k, *, one_vs_all=False):
    entries = []
    for question, g in zip(questions(probs), gold, strict=True):
        for choice, p in question:
            if choice == k:
                outcome = (prediction(question) == k) == (g == k) if one_vs_all else g == k
                entries.append((p, int(outcome)))
    return entries


def sce(probs, gold, *, n_bins, binning, one_vs_all=False):
    n_entries = sum(len(question) for question in questions(probs))
    total = 0.0
    for k in range(probs.shape[1]):
        entries = entries_of_class(probs, gold, k, one_vs_all=one_vs_all)
        for part in binned(entries, n_bins, binning):
            total += len(part) / n_entries * gap(part)
    return total


def sce_ova(probs, gold, *, n_bins, binning):
    return sce(probs, gold, n_bins=n_bins, binning=binning, one_vs_all=True)


def tace(probs, gold, *, n_bins, threshold):
    n_entries = sum(len(question) for question in questions(probs))
    total = 0.0
    for k in range(probs.shape[1]):
        entries = entries_of_class(probs, gold, k)
        kept = [(p, outcome) for p, outcome in entries if p > threshold]
        for part in binned(kept, n_bins, "adaptive"):
            total += len(entries) / n_entries * len(part) / len(kept) * gap(part)
    return total


def ace(probs, gold, *, n_bins):
    return tace(probs, gold, n_bins=n_bins, threshold=0.0)


def acc(probs, gold):
    return sum(hit for _, hit in top_pairs(probs, gold)) / len(gold)


def brier_score(probs, gold):
    losses = [
        sum((p - (k == g)) ** 2 for k, p in question)
        for question, g in zip(questions(probs), gold, strict=True)
    ]
    return sum(losses) / len(losses)


def nll(probs, gold):
    at_gold = [dict(question)[g] for question, g in zip(questions(probs), gold, strict=True)]
    return -sum(math.log(p) if p > 0 else -math.inf for p in at_gold) / len(gold)


def overconfidence(probs, gold):
    pairs = top_pairs(probs, gold)
    return sum(confidence - hit for confidence, hit in pairs) / len(pairs)


def auroc(probs, gold):
    pairs = top_pairs(probs, gold)
    right = [confidence for confidence, hit in pairs if hit]
    wrong = [confidence for confidence, hit in pairs if not hit]
    if not right or not wrong:
        return math.nan
    won = sum((r > w) + 0.5 * (r == w) for r in right for w in wrong)
    return won / (len(right) * len(wrong))


def aurc(probs, gold):
    """Average over every order of the questions that is sorted by confidence."""
    areas = []
    for order in permutations(top_pairs(probs, gold)):
        if all(one[0] >= other[0] for one, other in pairwise(order)):
            errors = [1 - hit for _, hit in order]
            risks = [sum(errors[:k]) / k for k in range(1, len(errors) + 1)]
            areas.append(sum(risks) / len(risks))
    return sum(areas) / len(areas)


def smece(probs, gold):
    """Halve the interval of widths until the error at a width is the width."""
    pairs = top_pairs(probs, gold)
    narrow, wide = 0.001, 1.0
    if smooth_error(pairs, narrow) <= narrow:
        return smooth_error(pairs, narrow)
    while wide - narrow > 1e-8:
        middle = (narrow + wide) / 2
        if smooth_error(pairs, middle) > middle:
            narrow = middle
        else:
            wide = middle
    return wide


def smooth_error(pairs: list[tuple[float, int]], width: float, n_strips: int = 8000) -> float:
    """Add up |smoothed residual| at the middle of thin strips; reflections are images at 2j ± c."""
    t = (np.arange(n_strips) + 0.5) / n_strips
    smoothed = np.zeros(n_strips)
    reach = math.ceil(4 * width) + 1
    for c, hit in pairs:
        for j in range(-reach, reach + 1):
            for image in (2 * j + c, 2 * j - c):
                smoothed += (c - hit) * np.exp(-(((t - image) / width) ** 2) / 2)
    area = sum(abs(smoothed)) / n_strips / (math.sqrt(2 * math.pi) * width)
    return float(area) / len(pairs)


def least_and_most_deviation(
    pairs: list[tuple[float, int]], rows: list[int], n_bins: int
) -> tuple[float, float]:
    """Resampled ECE minus the ECE resampled from, if gaps keep their signs, or may be noise."""
    n, least, most = len(pairs), 0.0, 0.0
    members: dict[int, list[int]] = {}
    for i, (confidence, _) in enumerate(pairs):
        members.setdefault(uniform_bin(confidence, n_bins), []).append(i)
    limit = max(2.0, math.sqrt(2 * math.log(len(members))) + 0.5)
    signed, noise = [0.0] * n, 0.0
    for bin_members in members.values():
        gaps = {i: pairs[i][0] - pairs[i][1] for i in bin_members}
        gap, squares = sum(gaps.values()), sum(g * g for g in gaps.values())
        binomial = sum(pairs[i][0] * (1 - pairs[i][0]) for i in bin_members)
        stderr = math.sqrt(max(squares - gap**2 / n, binomial))
        drawn = sum(gaps[i] for i in rows if i in gaps)
        sign = (gap > 0) - (gap < 0)
        least += (sign * drawn - abs(gap)) / n
        if abs(gap) > limit * stderr + limit**2 / 3:
            most += (abs(drawn) - abs(gap)) / n
        else:
            most += abs(drawn - gap) / n
            noise += mean_gap_if_calibrated([pairs[i][0] for i in bin_members]) / n
            noise -= 0.736 * math.sqrt(squares) / n
        for i in bin_members:
            signed[i] = sign * gaps[i]
    seen = float(np.var(signed))
    possible = max(seen, sum(c * (1 - c) for c, _ in pairs) / n) + 1 / n
    unseen = 2 * (math.sqrt(possible / n) - math.sqrt(seen / n))
    return least - unseen, most + max(noise, 0.0) + unseen


def mean_gap_if_calibrated(chances: list[float]) -> float:
    """E |Σ (p_i - a_i)| for independent a_i, right with probability p_i."""
    distribution = [1.0]
    for p in chances:
        wrong, right = [*distribution, 0.0], [0.0, *distribution]
        distribution = [(1 - p) * x + p * y for x, y in zip(wrong, right, strict=True)]
    return sum(x * abs(sum(chances) - hits) for hits, x in enumerate(distribution))
