"""SmoothECE against dense quadrature of its definition, on random and adversarial inputs.

    python benchmarks/smece.py [--inputs 1000] [--seed 0]

The package smooths by a series of cosines. Here every residual's Gaussian and its mirror images are
added up strip by strip, the error at a width is the sum of the strips' sizes, and the width equal
to its error is found by `scipy.optimize.brentq`; nothing of the package is used. Prints the largest
difference of each kind of input, then the input that shows the largest; the exit code is 1 if that
is above a millionth.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from scipy.optimize import brentq

from calib_harness import overconfidence, smece

NARROWEST = 0.001  # part of the definition: an error below it is the one at this width
LIMIT = 1e-6
LOWEST = 0.02  # confidence: the top choice of fifty
FAR = 9.0  # widths: a Gaussian is 3e-18 of its height there
Pairs = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Oracle:
    """SmoothECE of confidences and 0/1 outcomes, by brute force."""

    confidence: np.ndarray
    correct: np.ndarray

    def smece(self) -> float:
        """Return the error at the width that it equals, or at the narrowest width if below it."""
        narrow = self.error(NARROWEST)
        if narrow <= NARROWEST:
            return narrow
        # No residual is above 1, so that no error is.
        return float(brentq(lambda s: self.error(s) - s, NARROWEST, 1.0 + 1e-6, xtol=1e-10))

    def error(self, width: float) -> float:
        """Return ∫ |Σ_i (c_i - a_i) φ(t, c_i)| dt / N by the middles of thin strips of [0, 1].

        The sum errs at kinks only, where the smoothed residual changes its sign: with so many
        strips by about 1e-8.
        """
        n_strips = int(np.ceil(3000 / np.sqrt(width)))
        middles = (np.arange(n_strips) + 0.5) / n_strips
        smoothed = np.zeros(n_strips)
        for c, residual in zip(self.confidence, self.confidence - self.correct, strict=True):
            for image in images(c, width):
                near = slice(*np.searchsorted(middles, [image - FAR * width, image + FAR * width]))
                smoothed[near] += residual * np.exp(-0.5 * ((middles[near] - image) / width) ** 2)
        area = np.abs(smoothed).sum() / n_strips / (np.sqrt(2 * np.pi) * width)
        return float(area / len(self.confidence))


def images(c: float, width: float) -> list[float]:
    """Return c and its mirror images at 0 and 1, as far as they reach into [0, 1]."""
    most = int(np.ceil((1 + FAR * width) / 2)) + 1
    every = [2 * j + sign * c for j in range(-most, most + 1) for sign in (1, -1)]
    return [place for place in every if -FAR * width <= place <= 1 + FAR * width]


def drawn(rng: np.random.Generator, confidence: np.ndarray) -> Pairs:
    """Answer right with a probability that is the confidence to some power: any miscalibration."""
    return confidence, rng.random(len(confidence)) < confidence ** rng.choice([0.2, 1, 1, 3])


def size(rng: np.random.Generator, most: int = 200) -> int:
    return int(np.exp(rng.uniform(0, np.log(most))))


def uniform(rng: np.random.Generator) -> Pairs:
    return drawn(rng, rng.uniform(LOWEST, 1, size(rng)))


def skewed(rng: np.random.Generator) -> Pairs:
    return drawn(rng, 1 - (1 - LOWEST) * rng.beta(0.3, 5, size(rng)))


def bimodal(rng: np.random.Generator) -> Pairs:
    return drawn(rng, np.clip(rng.beta(0.2, 0.2, size(rng)), LOWEST, 1))


def rounded(rng: np.random.Generator) -> Pairs:
    return drawn(rng, np.round(rng.uniform(0.05, 1, size(rng)), int(rng.integers(1, 3))))


def at_one(rng: np.random.Generator) -> Pairs:
    """All at 1, some wrong: the reflection doubles all of it."""
    n = size(rng)
    return np.ones(n), rng.random(n) < rng.uniform(0, 1)


def near_one(rng: np.random.Generator) -> Pairs:
    """From 1e-16 to .1 below 1, mixed with 1 itself."""
    n = size(rng)
    below = 10.0 ** rng.uniform(-16, -1, n) * (rng.random(n) < 0.8)
    return 1 - below, rng.random(n) < rng.uniform(0, 1)


def one_question(rng: np.random.Generator) -> Pairs:
    return np.array([rng.uniform(LOWEST, 1)]), rng.random(1) < 0.5


def calibrated(rng: np.random.Generator) -> Pairs:
    """Let k of n be right at k/n exactly: the error is 0, or cancels from far away."""
    n = int(rng.integers(3, 12))
    k = rng.integers(1, n + 1, size=int(rng.integers(1, 4)))
    right = np.concatenate([np.arange(n) < hits for hits in k])
    return np.repeat(k / n, n), right


def signs_in_turn(rng: np.random.Generator) -> Pairs:
    """Right and wrong in turn at even distances: a kink between any two."""
    n = int(rng.integers(2, 150))
    start, end = np.sort(rng.uniform(LOWEST, 1, 2))
    return np.linspace(start, end, n), np.arange(n) % 2 == rng.integers(2)


def close_opposites(rng: np.random.Generator) -> Pairs:
    """Residuals of either sign that cancel at widths above their small distance."""
    middle, distance = rng.uniform(0.3, 0.7), 10.0 ** rng.uniform(-6, -1)
    n = size(rng, 60)
    places = middle + distance * rng.choice([-1, 1], n) * rng.random(n)
    return places, places > middle


def between_nodes(rng: np.random.Generator) -> Pairs:
    """Halfway between the points of a fine grid of any power of two, where sharing costs most."""
    n, points = size(rng), 2.0 ** rng.integers(6, 18)
    return drawn(rng, (rng.integers(points * 0.1, points - 1, n) + 0.5) / points)


def nearly_right(rng: np.random.Generator) -> Pairs:
    """Errors about the narrowest width, from either side."""
    n = size(rng)
    return 1 - 10.0 ** rng.uniform(-3.5, -2.5) * rng.uniform(0.5, 1.5, n), np.ones(n, dtype=bool)


def narrow_and_many(rng: np.random.Generator) -> Pairs:
    """Miss calibration by some thousandths, in groups of either sign."""
    places = np.sort(rng.choice(np.arange(10, 96), int(rng.integers(2, 7)), replace=False)) / 100
    hits = np.round(places * 100)
    right = np.concatenate([np.arange(100) < h for h in hits])
    return np.repeat(places + rng.uniform(-0.005, 0.005, len(places)), 100), right


RANDOM = (uniform, skewed, bimodal, rounded)
ADVERSARIAL = (
    *(at_one, near_one, one_question, calibrated, signs_in_turn),
    *(close_opposites, between_nodes, nearly_right, narrow_and_many),
)


def questions(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of 51 choices whose first is the confidence, and gold."""
    others = np.repeat((1 - confidence)[:, None] / 50, 50, axis=1)
    return np.column_stack([confidence, others]), np.where(correct, 0, 1)


def main(n_inputs: int, seed: int) -> int:
    rng = np.random.default_rng(seed)
    kinds: list[Callable[[np.random.Generator], Pairs]] = [*RANDOM, *ADVERSARIAL]
    worst = dict.fromkeys((kind.__name__ for kind in kinds), 0.0)
    counts, shown, least_above = dict.fromkeys(worst, 0), (0.0, "", 0, 0.0), np.inf
    start = time.process_time()
    for kind in islice(cycle(kinds), n_inputs):
        confidence, correct = kind(rng)
        probs, gold = questions(confidence, correct)
        expected, found = Oracle(confidence, correct).smece(), smece(probs, gold)
        difference, name = abs(found - expected), kind.__name__
        difference = np.inf if np.isnan(difference) else difference  # max would not see it
        worst[name], counts[name] = max(worst[name], difference), counts[name] + 1
        shown = max(shown, (difference, name, len(gold), expected))
        least_above = min(least_above, found - abs(overconfidence(probs, gold)))
    for name, difference in worst.items():
        print(f"{name:16s} {counts[name]:4d} inputs, largest difference {difference:.1e}")
    difference, name, n, expected = shown
    print(f"largest of {n_inputs}: {difference:.1e} ({name}, {n} questions, smECE {expected:.6f})")
    print(f"smECE minus |overconfidence|: at least {least_above:.1e}")
    print(f"{time.process_time() - start:.0f} s of CPU")
    return int(difference > LIMIT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.exit(main(arguments.inputs, arguments.seed))
