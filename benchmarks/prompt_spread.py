"""How well a change of a model is told from a change of its dependence on the prompt.

    python benchmarks/prompt_spread.py [--data-sets 200] [--resamples 300] [--questions 300 1200]

Simulates two models under four prompts on the same questions of four choices, whose gold is drawn
from their true probabilities. Under a prompt a model says these sharpened by a power (1 is
calibrated) and blurred by noise of its own, so that accuracy and calibration differ between prompts
by known amounts: true values are those of 100,000 questions. Prints, per cell, metric and quantity,
in how many data sets it is reported, its true value, the mean of what is measured, the share of
data sets in which its interval holds the true value, and the share in which a test at 5 % rejects
that there is no change.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from calib_harness import Header, Predictions, compare_over_prompts
from calib_harness.core.checks import FloatArray, IntArray
from calib_harness.core.metrics import METRICS

N_CHOICES, MANY = 4, 100_000
NAMES = ("acc", "ece", "brier_score")


@dataclass(frozen=True)
class Cell:
    """How far each model sharpens and blurs under each prompt."""

    name: str
    powers: tuple[tuple[float, ...], tuple[float, ...]]
    blurs: tuple[tuple[float, ...], tuple[float, ...]]

    def ask(self, n: int, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
        """Draw log-scores, (models, prompts, n, K), and gold."""
        truth = np.log(rng.dirichlet(np.ones(N_CHOICES), size=n))
        gold = (truth + rng.gumbel(size=truth.shape)).argmax(axis=1)
        powers, blurs = (np.array(each)[:, :, None, None] for each in (self.powers, self.blurs))
        noise = rng.normal(size=(*powers.shape[:2], n, N_CHOICES))
        return powers * (truth + blurs * noise), gold

    def truth(self) -> dict[tuple[str, str], float]:
        """Return the true value of each quantity."""
        scores, gold = self.ask(MANY, np.random.default_rng(1))
        probs = np.exp(scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True))
        found = {}
        for name in NAMES:
            of = np.array([[METRICS[name].function(p, gold) for p in side] for side in probs])
            change, changes = np.diff(of.mean(axis=1))[0], of[1] - of[0]
            spreads = of.std(axis=1, ddof=1)
            found[name, "change"] = change
            found[name, "base_spread"], found[name, "aligned_spread"] = spreads
            found[name, "spread_change"] = spreads[1] - spreads[0]
            found[name, "change_spread"] = changes.std(ddof=1)
            found[name, "share"] = changes.var() / (changes.var() + change**2)
        return found


SAME = (1.0,) * 4
CELLS = [
    Cell("nothing changes", (SAME, SAME), ((0.2, 0.4, 0.6, 0.8),) * 2),
    Cell("sharper alike", (SAME, (2.0,) * 4), ((0.5,) * 4,) * 2),
    Cell("more dependent", (SAME, (0.6, 0.9, 1.3, 1.8)), ((0.3,) * 4, (0.1, 0.4, 0.8, 1.2))),
    Cell("less dependent", ((1.0, 1.5, 2.0, 3.0), (2.0,) * 4), ((0.1, 0.4, 0.8, 1.2), (0.5,) * 4)),
]


def runs_of(scores: FloatArray, gold: IntArray) -> list[Predictions]:
    """Make runs of two models under several prompts."""
    numbers = np.arange(len(gold))
    hashes = numbers.astype(str).astype(object)
    return [
        Predictions(
            Header(model, None, f"toy_calib_prompt_p{j}", "choice", 0, False),
            table,
            gold,
            numbers,
            hashes,
        )
        for model, side in zip(("base", "aligned"), scores, strict=True)
        for j, table in enumerate(side)
    ]


def measure(cell: Cell, n: int, n_sets: int, n_resamples: int) -> list[list[str]]:
    """Return the rows of a cell's table."""
    truth = cell.truth()
    rng = np.random.default_rng([n, *map(ord, cell.name)])
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    held: dict[tuple[str, str], list[bool]] = defaultdict(list)
    rejected: dict[tuple[str, str], list[bool]] = defaultdict(list)
    ends = {
        "change": ("low", "high", "p_value"),
        "spread_change": ("spread_low", "spread_high", "spread_p_value"),
        "share": ("share_low", "share_high", None),
    }
    for _ in range(n_sets):
        frame = compare_over_prompts(
            runs_of(*cell.ask(n, rng)),
            [("toy", "base", "aligned")],
            metrics=NAMES,
            n_resamples=n_resamples,
            seed=int(rng.integers(2**31)),
        )
        for row in frame.to_dict("records"):
            for name in ("change", "base_spread", "aligned_spread", "change_spread"):
                values[row["metric"], name].append(row[name])
            for name in ("spread_change", "share"):
                if not np.isnan(row[name]):
                    values[row["metric"], name].append(row[name])
            for name, (low, high, p_value) in ends.items():
                key = row["metric"], name
                if np.isnan([row[name], row[low]]).any():
                    continue  # of spreads and shares of calibration errors there is no interval
                held[key].append(row[low] - 1e-9 <= truth[key] <= row[high] + 1e-9)
                if p_value:
                    rejected[key].append(row[p_value] < 0.05)
    rows = []
    for key, true in truth.items():
        told = [f"{np.mean(each[key]):.3f}" if key in each else "" for each in (held, rejected)]
        mean = f"{np.mean(values[key]):.4f}" if values[key] else ""
        rows.append([cell.name, str(n), *key, str(len(values[key])), f"{true:.4f}", mean, *told])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-sets", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--questions", type=int, nargs="+", default=[300, 1200])
    arguments = parser.parse_args()
    start = time.process_time()
    columns = ["cell", "n", "metric", "quantity", "reported", "true", "mean", "held", "rejected"]
    for line in (columns, ["---"] * len(columns)):
        print(f"| {' | '.join(line)} |", flush=True)
    for n, cell in itertools.product(arguments.questions, CELLS):
        for row in measure(cell, n, arguments.data_sets, arguments.resamples):
            print(f"| {' | '.join(row)} |", flush=True)
    print(f"\n{time.process_time() - start:.0f} CPU seconds")


if __name__ == "__main__":
    main()
