"""Whether tests over pairs hold their level where pairs come in families, and what they find.

    python benchmarks/families.py [--data-sets 2000] [--pairs-data-sets 200]

Fifteen pairs in eight families, as many as in the public logs the page of findings is about. First
changes of pairs are drawn: a mean, a part that a family shares, a part of the pair, an error of
.03. Then whole models are drawn, all of them perfectly calibrated, base and aligned ones of
different sharpness, and pairs are called harmed by the raw ECE or by its excess over the null.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from calib_harness import ece, softmax_scores
from calib_harness.core.families import (
    clustered_share,
    clustered_sign_test,
    random_effects,
    sign_flip_test,
)
from calib_harness.core.nulls import calibrated_null

FAMILIES = np.repeat(np.arange(8), [4, 2, 2, 2, 1, 2, 1, 1])
ERROR = 0.03
# mean, standard deviation of families, of pairs within a family
CELLS = [
    *((0.0, 0.0, 0.0), (0.0, 0.05, 0.03), (0.0, 0.1, 0.0), (0.0, 0.03, 0.1), (0.0, 0.3, 0.05)),
    *((0.063, 0.069, 0.028), (0.063, 0.03, 0.028), (0.1, 0.069, 0.028)),
]


def one_cell(mean: float, family: float, pair: float, n_sets: int, seed: int) -> str:
    """Return the rates of one cell as a row of a Markdown table."""
    rng = np.random.default_rng(seed)
    seen = []
    for _ in range(n_sets):
        true = mean + rng.normal(0, family, 8)[FAMILIES] + rng.normal(0, pair, 15)
        stderr = ERROR * rng.uniform(0.5, 1.5, 15)
        y = true + rng.normal(0, stderr)
        found = random_effects(y, stderr, FAMILIES)
        further = mean + rng.normal(0, family) + rng.normal(0, pair)
        low, high = clustered_share(np.sign(y), FAMILIES)
        share = stats.norm.sf(-mean / np.sqrt(family**2 + pair**2 + ERROR**2))
        seen.append(
            (
                stats.binomtest(int((y > 0).sum()), 15).pvalue <= 0.05,
                clustered_sign_test(np.sign(y), FAMILIES) <= 0.05,
                sign_flip_test(y, FAMILIES) <= 0.05,
                found.low <= mean <= found.high,
                found.next_low <= further <= found.next_high,
                low <= share <= high,
            )
        )
    rates = " | ".join(f"{rate:.3f}" for rate in np.mean(seen, axis=0))
    return f"| {mean} | {family} | {pair} | {rates} |"


def calibrated_model(gold: np.ndarray, sharpness: float, rng: np.random.Generator) -> np.ndarray:
    """Return probabilities of four choices that are perfectly calibrated for these golds."""
    p = softmax_scores(rng.normal(size=(gold.size, 4)) * sharpness)
    own = (rng.random((gold.size, 1)) > np.cumsum(p, axis=1)).sum(axis=1).clip(max=3)
    # Choices change places so that the drawn right one stands where gold is.
    columns = (np.arange(4) - (gold - own)[:, None]) % 4
    return np.take_along_axis(p, columns, axis=1)


def sharpness_alone(n: int, n_sets: int, seed: int) -> str:
    """Return how often 15 calibrated pairs of different sharpness are called harmed as a whole."""
    rng = np.random.default_rng(seed)
    raw, excess, harmed = [], [], np.zeros(2)
    for _ in range(n_sets):
        signs = np.empty((2, 15))
        for pair in range(15):
            gold = rng.integers(4, size=n)
            values, nulls = np.empty(2), np.empty(2)
            for side, sharpness in enumerate((1.0, 4.0)):
                probs = calibrated_model(gold, sharpness, rng)
                values[side] = ece(probs, gold)
                nulls[side] = calibrated_null(probs, n_resamples=200, rng=0).mean
            signs[0, pair] = np.sign(values[1] - values[0])
            signs[1, pair] = np.sign(values[1] - nulls[1] - values[0] + nulls[0])
        harmed += (signs > 0).mean(axis=1)
        raw.append(clustered_sign_test(signs[0], range(15)) <= 0.05)
        excess.append(clustered_sign_test(signs[1], range(15)) <= 0.05)
    share = harmed / n_sets
    rates = f"{share[0]:.3f} | {np.mean(raw):.3f} | {share[1]:.3f} | {np.mean(excess):.3f}"
    return f"| {n} | {rates} |"


def main(n_sets: int, n_model_sets: int) -> None:
    """Print both tables."""
    print(f"15 pairs in 8 families, {n_sets} data sets a row; Monte-Carlo error at .05: ", end="")
    print(f"{np.sqrt(0.05 * 0.95 / n_sets):.3f}\n")
    print("| mean | sd of families | of pairs | sign test | by families | sign flips |", end="")
    print(" mean held | next held | share held |\n|" + " --- |" * 9)
    for i, cell in enumerate(CELLS):
        print(one_cell(*cell, n_sets, seed=i), flush=True)
    if n_model_sets:
        print(f"\n15 calibrated pairs, aligned ones sharper, {n_model_sets} data sets a row\n")
        print("| n | harmed, raw | rejected, raw | harmed, excess | rejected, excess |")
        print("|" + " --- |" * 5)
        for n in (421, 2376):
            print(sharpness_alone(n, n_model_sets, seed=n), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-sets", type=int, default=2000)
    parser.add_argument("--pairs-data-sets", type=int, default=200)
    arguments = parser.parse_args()
    main(arguments.data_sets, arguments.pairs_data_sets)
