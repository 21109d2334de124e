"""How often intervals hold the truth, and how often a change is found where there is none.

    python benchmarks/coverage.py [--data-sets 200] [--resamples 300] [--questions 300 1000]

Simulates pairs of models whose true calibration error is known: paired four-choice questions,
confidences and outcomes of the two models correlated, each model right with probability
(confidence - overconfidence). The confidences are vague (.26 to .66), spread (uniform from .25
to 1), sharp (mostly above .8) or bimodal. Prints, for each pair of confidence distributions and
of overconfidences: the share of data sets whose 95 % interval holds the true ECE of base and of
aligned, and the true change; the share with p < .05 for the change (false alarms where both are
equally overconfident, power where they are not); and the same for the basic and the percentile
interval from the same resamples.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable

import numpy as np
from scipy import stats

from calib_harness import bootstrap, ece, paired_bootstrap
from calib_harness.core.answers import Choices
from calib_harness.core.calibration import ece_error
from calib_harness.core.checks import FloatArray, IntArray
from calib_harness.core.resampling import interval_over, resample_counts, two_sided_over

SHAPES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "vague": lambda u: 0.26 + 0.4 * stats.beta.ppf(u, 2, 3),
    "spread": lambda u: 0.25 + 0.75 * u,
    "sharp": lambda u: 0.25 + 0.75 * stats.beta.ppf(u, 4, 1),
    "bimodal": lambda u: 0.3 + 0.7 * stats.beta.ppf(u, 0.5, 0.4),
}
PAIRS = (("vague", "sharp"), ("spread", "sharp"), ("vague", "spread"), ("bimodal", "vague"))
OVERCONFIDENCE = tuple(itertools.product((0.0, 0.05, 0.1), repeat=2))
CORRELATION = 0.5
LEVEL = 0.95


def uniform_pairs(n: int, rng: np.random.Generator) -> FloatArray:
    """Draw (2, n) uniform numbers, correlated between the two models."""
    factor = np.linalg.cholesky([[1.0, CORRELATION], [CORRELATION, 1.0]])
    return np.asarray(stats.norm.cdf(factor @ rng.standard_normal((2, n))))


def simulate(
    n: int, shapes: tuple[str, str], over: tuple[float, float], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Make probabilities of base and aligned, and gold.

    Base predicts choice 0. Aligned predicts it, too, unless exactly one of the two is right;
    then it predicts choice 1. Choices are shuffled in each question afterwards.
    """
    confidence = np.stack(
        [SHAPES[shape](u) for shape, u in zip(shapes, uniform_pairs(n, rng), strict=True)]
    )
    right = uniform_pairs(n, rng) < confidence - np.array(over)[:, None]
    only_one = right[0] != right[1]
    gold = np.where(right[0], 0, np.where(right[1], 1, 2))
    probs = np.repeat((1 - confidence[:, :, None]) / 3, 4, axis=2)
    probs[0, :, 0] = confidence[0]
    probs[1, np.arange(n), only_one.astype(int)] = confidence[1]
    order = rng.permuted(np.tile(np.arange(4), (n, 1)), axis=1)
    shuffled = np.take_along_axis(probs, order[None], axis=2)
    return shuffled[0], shuffled[1], np.argmax(order == gold[:, None], axis=1)


def plain_intervals(
    base: FloatArray, aligned: FloatArray, gold: IntArray, n_resamples: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Low, high and p-value of the change by the basic and the percentile bootstrap."""
    change = ece(aligned, gold) - ece(base, gold)
    prepared = [
        ece_error(Choices.checked(probs), n_bins=15).resampled(gold) for probs in (base, aligned)
    ]
    draws = np.concatenate(
        [
            prepared[1](counts) - prepared[0](counts)
            for counts in resample_counts(len(gold), n_resamples, seed)
        ]
    )
    basic, percentile = draws - change, change - draws
    return {
        name: (*interval_over(change, [d], LEVEL, (-1, 1))[1:], two_sided_over(change, [d]))
        for name, d in (("basic", basic), ("percentile", percentile))
    }


def cell(
    n: int, shapes: tuple[str, str], over: tuple[float, float], n_sets: int, n_resamples: int
) -> dict[str, float]:
    """Shares over the data sets of one cell of the grid."""
    rng = np.random.default_rng([n, PAIRS.index(shapes), OVERCONFIDENCE.index(over)])
    found: dict[str, list[bool]] = {}

    def note(name: str, value: bool) -> None:
        found.setdefault(name, []).append(bool(value))

    def holds(low: float, truth: float, high: float) -> bool:
        return low <= truth + 1e-12 and truth <= high + 1e-12

    for _ in range(n_sets):
        base, aligned, gold = simulate(n, shapes, over, rng)
        seed = int(rng.integers(2**31))
        options = {"n_resamples": n_resamples, "rng": seed, "level": LEVEL}
        change = paired_bootstrap(["ece"], base, aligned, gold, **options)["ece"]
        for name, probs, truth in (("base", base, over[0]), ("aligned", aligned, over[1])):
            estimate = bootstrap(["ece"], probs, gold, **options)["ece"]
            note(name, holds(estimate.low, truth, estimate.high))
        note("change", holds(change.low, over[1] - over[0], change.high))
        note("found", change.p_value < 1 - LEVEL)
        plain = plain_intervals(base, aligned, gold, n_resamples, seed)
        for kind, (low, high, p_value) in plain.items():
            note(f"{kind} change", holds(low, over[1] - over[0], high))
            note(f"{kind} found", p_value < 1 - LEVEL)
    return {name: float(np.mean(values)) for name, values in found.items()}


def main(n_sets: int, n_resamples: int, sizes: list[int]) -> None:
    start = time.perf_counter()
    columns = ["base", "aligned", "change", "found"]
    columns += [
        f"{kind} {what}" for kind in ("basic", "percentile") for what in ("change", "found")
    ]
    print(f"{n_sets} data sets a cell, {n_resamples} resamples, ECE with 15 bins")
    print("| n | confidences | overconfidence | " + " | ".join(columns) + " |")
    print("|" + "---|" * (3 + len(columns)))
    rows = []
    for n, shapes, over in itertools.product(sizes, PAIRS, OVERCONFIDENCE):
        result = cell(n, shapes, over, n_sets, n_resamples)
        rows.append((over, result))
        values = " | ".join(f"{result[name]:.3f}" for name in columns)
        print(f"| {n} | {shapes[0]}, {shapes[1]} | {over[0]}, {over[1]} | {values} |", flush=True)
    equal = [result for over, result in rows if over[0] == over[1]]
    for kind in ("", "basic ", "percentile "):
        alarms = [result[f"{kind}found"] for result in equal]
        held = [result[f"{kind}change"] for _, result in rows]
        print(
            f"{kind or 'ours '}: false alarms mean {np.mean(alarms):.3f}, largest "
            f"{max(alarms):.3f}; coverage of the change mean {np.mean(held):.3f}, smallest "
            f"{min(held):.3f}"
        )
    single = [result[name] for _, result in rows for name in ("base", "aligned")]
    print(f"ours : coverage of an ECE mean {np.mean(single):.3f}, smallest {min(single):.3f}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-sets", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--questions", type=int, nargs="+", default=[300, 1000])
    arguments = parser.parse_args()
    main(arguments.data_sets, arguments.resamples, arguments.questions)
