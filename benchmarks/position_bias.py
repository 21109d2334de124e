"""How well position bias is told from other miscalibration, where both are known.

    python benchmarks/position_bias.py [--data-sets 200] [--resamples 200] [--questions 300 1200]

Simulates a model that answers by letter: its odds of a letter are those of the choice behind it,
sharpened by a power (1 is calibrated), times the letter's own (a preference for B, which may vary
from question to question), asked in cyclic orders of four choices. Gold is drawn from the choices'
true probabilities. The true share of position bias in ECE and SCE is that of their true values:
those of 20,000 questions without noise of answers, in the same bins.

For every cell: how often the share is reported (it is blank where the error under `choice` is no
larger than chance makes it), its true value, its mean and standard deviation, the share of data
sets in which its 95 % interval holds the true one, and the interval's median width. Above that, the
prior over letters: the largest deviation of its mean from the true one, and how often its intervals
hold it.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calib_harness.analysis.position_bias import position_bias, probs_by_method
from calib_harness.core.binning import bin_index
from calib_harness.core.checks import FloatArray
from calib_harness.core.choice_order import letter_probs
from calib_harness.predictions.asked_orders import AskedOrders
from calib_harness.predictions.table import Header

N_CHOICES, N_BINS, MANY = 4, 15, 20_000
PRIOR = np.array([0.1, 0.5, 0.25, 0.15])
CYCLIC = np.array([[(k + shift) % N_CHOICES for k in range(N_CHOICES)] for shift in range(4)])
HEADER = Header("simulated", None, "letters", "choice", 0, False)


@dataclass(frozen=True)
class Cell:
    """How sharp the model is about choices, how much it likes B, and how unsteadily."""

    power: float
    liking: float
    unsteady: float
    n: int

    def ask(self, n: int, rng: np.random.Generator) -> tuple[AskedOrders, FloatArray]:
        """Draw questions; return what the model says, and the choices' true probabilities."""
        truth = rng.dirichlet(np.ones(N_CHOICES), size=n)
        content = self.power * np.log(truth)
        letters = self.liking * np.log(PRIOR) + self.unsteady * rng.normal(size=(n, N_CHOICES))
        logits = content[:, CYCLIC] + letters[:, None, :]
        logprobs = np.log(letter_probs(logits))
        gold = (rng.random(n)[:, None] > truth.cumsum(axis=1)[:, :-1]).sum(axis=1)
        return AskedOrders(HEADER, list(logprobs), [CYCLIC] * n, gold, 0), truth

    def true_shares(self) -> dict[tuple[str, str], float]:
        """Return by how much of its true value each error falls, by metric and method."""
        asked, truth = self.ask(MANY, np.random.default_rng(1))
        probs = probs_by_method(asked)
        found = {}
        for metric, error in (("ece", true_ece), ("sce", true_sce)):
            given = error(probs["choice"], truth)
            for method in ("choice-permuted", "choice-prior-free"):
                found[metric, method] = 1 - error(probs[method], truth) / given
        return found


def true_ece(probs: FloatArray, truth: FloatArray) -> float:
    """Return the ECE without noise of answers; both (n, K)."""
    rows, predicted = np.arange(len(probs)), probs.argmax(axis=1)
    return _gaps(probs[rows, predicted], truth[rows, predicted]) / len(probs)


def true_sce(probs: FloatArray, truth: FloatArray) -> float:
    """Return the SCE without noise of answers; both (n, K)."""
    return sum(map(_gaps, probs.T, truth.T)) / probs.size


def _gaps(values: FloatArray, truth: FloatArray) -> float:
    bins = bin_index(values, n_bins=N_BINS, binning="uniform")
    return float(np.abs(np.bincount(bins, weights=values - truth)).sum())


def measure(cell: Cell, n_sets: int, n_resamples: int) -> Iterator[list[str]]:
    """Yield the rows of a cell's table."""
    truths = cell.true_shares()
    prior = letter_probs(cell.liking * np.log(PRIOR))
    rng = np.random.default_rng([cell.n, *(int(100 * x) for x in (cell.power, cell.liking))])
    shares: dict[tuple[str, str], list[FloatArray]] = defaultdict(list)
    priors, held = [], []
    for _ in range(n_sets):
        asked, _ = cell.ask(cell.n, rng)
        seed = int(rng.integers(2**31))
        found = position_bias([asked], metrics=["ece", "sce"], n_resamples=n_resamples, seed=seed)
        priors.append(found.letters["prior"].to_numpy())
        low, high = (found.letters[end].to_numpy() for end in ("low", "high"))
        held.append((low - 1e-9 <= prior) & (prior <= high + 1e-9))
        if "share" in found.values:
            for row in found.values.dropna(subset="share").itertuples():
                of = np.array([row.share, row.share_low, row.share_high])
                shares[row.metric, row.method].append(of)
    about = [f"{cell.power:g}", f"{cell.liking:g}", f"{cell.unsteady:g}", str(cell.n)]
    off = np.abs(np.mean(priors, axis=0) - prior).max()
    yield [*about, "prior", "", f"{n_sets}", "", f"{off:.4f} off", "", f"{np.mean(held):.3f}", ""]
    for (metric, method), truth in truths.items():
        of = np.array(shares[metric, method]).reshape(-1, 3)
        if not len(of):
            yield [*about, metric, method, "0", f"{truth:.3f}", "", "", "", ""]
            continue
        inside = (of[:, 1] <= truth + 1e-9) & (truth - 1e-9 <= of[:, 2])
        yield [
            *about,
            *(metric, method, str(len(of)), f"{truth:.3f}"),
            *(f"{of[:, 0].mean():.3f}", f"{of[:, 0].std():.3f}", f"{inside.mean():.3f}"),
            f"{np.median(of[:, 2] - of[:, 1]):.3f}",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-sets", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--questions", type=int, nargs="+", default=[300, 1200])
    arguments = parser.parse_args()
    start = time.process_time()
    columns = ["power", "liking", "unsteady", "n", "what", "method", "reported", "true share"]
    columns += ["mean", "sd", "held", "width"]
    for line in (columns, ["---"] * len(columns)):
        print(f"| {' | '.join(line)} |", flush=True)
    cells = [(1.0, 0.5, 0.0), (1.0, 1.0, 0.0), (2.0, 0.0, 0.0), (2.0, 1.0, 0.0), (1.5, 1.0, 0.5)]
    for n, setting in itertools.product(arguments.questions, cells):
        for row in measure(Cell(*setting, n), arguments.data_sets, arguments.resamples):
            print(f"| {' | '.join(row)} |", flush=True)
    print(f"\n{time.process_time() - start:.0f} CPU seconds")


if __name__ == "__main__":
    main()
