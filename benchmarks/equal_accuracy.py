"""Why questions of a pair are not matched for equal accuracy: that biases calibration.

    python benchmarks/equal_accuracy.py [--sets 100] [--questions 1000] [--seed 0]

Both models are perfectly calibrated and see the same gold choices of four through noise, alike in
part (a correlation); the aligned one sees less, so that its accuracy is lower. Then questions are
left out until the accuracies are equal, in each way one may think of. Whatever is left should still
look calibrated, with no change between the two. Prints means over data sets, and in how many the
test of Spiegelhalter calls either model miscalibrated and that of the loss its change real (5 %).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from calib_harness import (
    calibrated_null,
    calibration_loss_change,
    ece,
    overconfidence,
    spiegelhalter,
)
from calib_harness.core.answers import Answers

N_CHOICES = 4
SIGNALS = (2.0, 1.2)  # of base and aligned model, in standard deviations of the noise
Selection = Callable[[Answers, Answers, np.random.Generator], np.ndarray]


def calibrated_pair(
    n: int, correlation: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return either model's probabilities, shape (n, 4), and gold, shape (n,).

    A model sees signal × [k is gold] + noise at choice k; the posterior is softmax(signal × seen).
    """
    gold = rng.integers(N_CHOICES, size=n)
    shared = rng.normal(size=(n, N_CHOICES))
    sides = []
    for signal in SIGNALS:
        own = rng.normal(size=(n, N_CHOICES))
        seen = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
        seen[np.arange(n), gold] += signal
        weights = np.exp(signal * (seen - seen.max(axis=1, keepdims=True)))
        sides.append(weights / weights.sum(axis=1, keepdims=True))
    return sides[0], sides[1], gold


def every_question(base: Answers, aligned: Answers, rng: np.random.Generator) -> np.ndarray:
    return np.ones(len(base), dtype=bool)


def lost_dropped(base: Answers, aligned: Answers, rng: np.random.Generator) -> np.ndarray:
    """Leave out questions that only the base model answers, drawn at random."""
    lost = np.flatnonzero(base.correct > aligned.correct)
    surplus = max(int(base.correct.sum() - aligned.correct.sum()), 0)
    keep = every_question(base, aligned, rng)
    keep[rng.permutation(lost)[:surplus]] = False
    return keep


def both_alike(base: Answers, aligned: Answers, rng: np.random.Generator) -> np.ndarray:
    """Keep questions that both answer or neither does."""
    return base.correct == aligned.correct


def surest_dropped(base: Answers, aligned: Answers, rng: np.random.Generator) -> np.ndarray:
    """Leave out the base model's surest questions until the mean confidences are equal."""
    order = np.argsort(base.confidence)
    n = np.arange(1, len(base) + 1)
    gap = np.cumsum(base.confidence[order] - aligned.confidence[order]) / n
    keep = np.zeros(len(base), dtype=bool)
    keep[order[: int(n[gap <= 0].max(initial=1))]] = True
    return keep


SELECTIONS: tuple[Selection, ...] = (every_question, lost_dropped, both_alike, surest_dropped)


def measured(base: Answers, aligned: Answers, seed: int) -> dict[str, float]:
    """Return what is seen of one pair on the questions chosen."""
    over, excess, found = [], [], {}
    for name, side in (("base", base), ("aligned", aligned)):
        null = calibrated_null(
            side.probs, side.gold, n_resamples=2, rng=seed
        )  # only the exact mean is used
        over.append(overconfidence(side.probs, side.gold))
        excess.append(ece(side.probs, side.gold) - null.mean)
        found[f"accuracy, {name}"] = float(side.correct.mean())
        found[f"overconfidence, {name}"] = over[-1]
        found[f"{name} rejected"] = spiegelhalter(side.probs, side.gold).p_value < 0.05
    change = calibration_loss_change(base.probs, aligned.probs, base.gold)
    return found | {
        "change of overconfidence": over[1] - over[0],
        "of excess ECE": excess[1] - excess[0],
        "loss change found": change.p_value < 0.05,
    }


def main(n_sets: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = []
    start = time.process_time()
    for correlation in (0.0, 0.5):
        for number in range(n_sets):
            *sides, gold = calibrated_pair(n, correlation, rng)
            base, aligned = (Answers.of(probs, gold) for probs in sides)
            for selection in SELECTIONS:
                keep = selection(base, aligned, rng)
                left = [Answers.of(probs[keep], gold[keep]) for probs in sides]
                place = {"correlation": correlation, "questions": selection.__name__}
                rows.append(place | {"kept": keep.mean()} | measured(*left, seed=number))
    shown = pd.DataFrame(rows).groupby(["correlation", "questions"], sort=False).mean().round(3)
    print(shown.reset_index().to_markdown(index=False))
    print(f"{n_sets} data sets of {n} questions a row; {time.process_time() - start:.0f} s of CPU")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", type=int, default=100)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.sets, arguments.questions, arguments.seed)
