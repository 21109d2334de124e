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
    """Follow relplot 1.0.3 step by step: grid, kernel, reflection, mesh, bisection."""
    pairs = top_pairs(probs, gold)
    high, low = 1.0, 0.0
    for _ in range(10):
        middle = (high + low) / 2
        if middle < 0.001 or middle < smooth_error(pairs, middle):
            low = middle
        else:
            high = middle
    return smooth_error(pairs, high)


def smooth_error(pairs: list[tuple[float, int]], width: float) -> float:
    mesh = np.linspace(0, 1, max(200, round(10 / width)))
    residual = smoothed([(c, c - hit) for c, hit in pairs], width, mesh)
    density = smoothed([(c, 1.0) for c, _ in pairs], width, mesh) + 1e-4
    return float(sum(abs(residual)) / sum(density))


def smoothed(points: list[tuple[float, float]], width: float, mesh: np.ndarray) -> np.ndarray:
    size = max(2000, round(20 / width)) // 2 + 1
    grid = np.zeros(size)
    for place, mass in points:
        left = min(int(place * (size - 1)), size - 2)
        grid[left] += mass * (left + 1 - place * (size - 1))
        grid[left + 1] += mass * (place * (size - 1) - left)
    offsets = np.linspace(0, 1, size) - 0.5
    kernel = np.exp(-(offsets**2) / (2 * width**2)) / math.sqrt(2 * math.pi) / width
    reflected = np.concatenate([grid[:0:-1], grid, grid[-2::-1]])
    full = np.convolve(reflected, kernel, "valid")[size // 2 : size // 2 + size]
    return np.interp(mesh, np.linspace(0, 1, size), full)


def deviation_without_small_gaps(
    pairs: list[tuple[float, int]], rows: list[int], n_bins: int
) -> float:
    """Resampled ECE minus the ECE resampled from, if gaps of less than two errors are noise."""
    n, resampled, resampled_from = len(pairs), 0.0, 0.0
    members: dict[int, list[int]] = {}
    for i, (confidence, _) in enumerate(pairs):
        members.setdefault(uniform_bin(confidence, n_bins), []).append(i)
    for bin_members in members.values():
        gaps = {i: pairs[i][0] - pairs[i][1] for i in bin_members}
        gap = sum(gaps.values()) / n
        mean_square = sum(g * g for g in gaps.values()) / n
        binomial = sum(pairs[i][0] * (1 - pairs[i][0]) for i in bin_members) / n
        stderr = math.sqrt(max(mean_square - gap**2, binomial) / n)
        true_gap = gap if abs(gap) > 2 * stderr else 0.0
        drawn = sum(gaps[i] for i in rows if i in gaps) / n
        resampled += abs(true_gap + drawn - gap)
        resampled_from += abs(true_gap)
    return resampled - resampled_from
