"""How often tests reject what is true, intervals hold the truth, and changes are found.

    python benchmarks/coverage.py [--data-sets 200] [--resamples 200] [--questions 100 421 2376]
        [--choices 2 4 10] [--binnings uniform equal_mass] [--correlations 0.5 0]
        [--losses calibration_loss calibration_loss_brier] [--smece] [--output FILE.csv]
    python benchmarks/coverage.py --table FILE.csv ...

Simulates pairs of models whose calibration is known. A model's confidence is vague, sharp,
skewed (80 % above .95) or bimodal; its prediction is right with probability confidence minus a
gap: none, .06 (overconfident), .06 times a wave (non-monotone), or .06 above the median confidence
and -.06 below (opposite). Answers of a pair share the gold choice, and are right together more
often than by chance (a correlation of .5: paired) or not (0: independent). Wrong answers have their
gold among the other choices in proportion to their probabilities.

For every cell and quantity: the share of data sets in which a true hypothesis is rejected at 5 %
(level), a false one is (power), the 95 % interval holds the true value (coverage), and the median
width of the interval, each with the number of data sets and the Monte-Carlo error of a share.
True binned errors are those of 20,000 questions without noise of answers, in the same bins.
`--table` sums files up: over all cells of as many questions and choices, mean and worst.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from calib_harness import (
    apply_temperature,
    calibration_loss,
    calibration_loss_change,
    excesses,
    fit_temperature_to,
)
from calib_harness.core.answers import Choices
from calib_harness.core.bin_errors import BinnedError
from calib_harness.core.calibration import ece_error
from calib_harness.core.checks import FloatArray, IntArray
from calib_harness.core.classwise import sce_error
from calib_harness.core.inference import bootstrap_draws
from calib_harness.core.loss import LOSSES
from calib_harness.core.resampling import changes_between, estimates_of

# A share of the way from the least confidence, 1/K, to 1.
SHAPES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "vague": lambda u: 0.05 + 0.5 * stats.beta.ppf(u, 2, 3),
    "sharp": lambda u: stats.beta.ppf(u, 4, 1),
    "skewed": lambda u: np.where(u < 0.2, 0.1 + 4 * u, 0.95 + (u - 0.2) / 16.2),
    "bimodal": lambda u: 0.08 + 0.91 * stats.beta.ppf(u, 0.5, 0.4),
}
GAP = 0.06
GAPS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "calibrated": np.zeros_like,
    "overconfident": lambda u: np.full_like(u, GAP),
    "non-monotone": lambda u: GAP * np.sin(6 * np.pi * u),
    "opposite": lambda u: np.where(u > 0.5, GAP, -GAP),
}
OTHER_SHAPE = {"vague": "sharp", "sharp": "vague", "skewed": "vague", "bimodal": "sharp"}
BINNED: dict[str, Callable[..., BinnedError]] = {"ece": ece_error, "sce": sce_error}
N_BINS, LEVEL, MANY = 15, 0.95, 20_000


@dataclass(frozen=True)
class Model:
    """Sorted questions of one model: its prediction is the first choice."""

    sorted_probs: FloatArray
    right: FloatArray

    @classmethod
    def draw(
        cls, u: FloatArray, n_choices: int, shape: str, gap: str, rng: np.random.Generator
    ) -> Model:
        """Make probabilities from uniform numbers: the prediction's, then the others'."""
        least = 1 / n_choices
        confidence = least + (1 - least) * np.clip(SHAPES[shape](u), 1e-6, 1.0)
        weights = rng.dirichlet(np.full(n_choices - 1, 2.0), size=u.size)
        even, room = 1 / (n_choices - 1), confidence / np.maximum(1 - confidence, 1e-12)
        # Bring the others as close to each other as it takes for the first to stay the largest.
        reach = (np.minimum(room, 1e6) * 0.999 - even) / (weights.max(axis=1) - even + 1e-12)
        weights = even + np.clip(reach, 0, 1)[:, None] * (weights - even)
        probs = np.column_stack([confidence, (1 - confidence)[:, None] * weights])
        return cls(probs, np.clip(confidence - GAPS[gap](u), 0.0, 1.0))

    def truth(self) -> FloatArray:
        """Return the true probability of each choice."""
        first, others = self.sorted_probs[:, :1], self.sorted_probs[:, 1:]
        left = np.maximum(1 - first, 1e-12)
        return np.column_stack([self.right, (1 - self.right)[:, None] * others / left])

    def place(self, right: Any, gold: IntArray, rng: np.random.Generator) -> FloatArray:
        """Shuffle each question's choices so that gold is the first one where it is right."""
        n, n_choices = self.sorted_probs.shape
        rows = np.arange(n)
        others = np.cumsum(self.sorted_probs[:, 1:], axis=1)
        among = (rng.random(n)[:, None] * others[:, -1:] > others[:, :-1]).sum(axis=1)
        which = np.where(right, 0, 1 + among)
        order = rng.permuted(np.tile(np.arange(n_choices), (n, 1)), axis=1)
        at = np.argmax(order == gold[:, None], axis=1)
        order[rows, at] = order[rows, which]
        order[rows, which] = gold
        probs = np.empty_like(self.sorted_probs)
        np.put_along_axis(probs, order, self.sorted_probs, axis=1)
        return probs


@dataclass(frozen=True)
class Cell:
    """One setting of the simulation; base and aligned differ in shape, and may in their gaps."""

    n: int
    n_choices: int
    shape: str
    gap: str
    aligned_gap: str
    binning: str
    correlation: float

    def models(self, n: int, rng: np.random.Generator) -> tuple[tuple[Model, Model], FloatArray]:
        """Draw a pair of models, and correlated uniform numbers that decide who is right."""
        factor = np.linalg.cholesky([[1.0, self.correlation], [self.correlation, 1.0]])
        u, decide = stats.norm.cdf(np.einsum("ij,kjn->kin", factor, rng.standard_normal((2, 2, n))))
        base = Model.draw(u[0], self.n_choices, self.shape, self.gap, rng)
        other = OTHER_SHAPE[self.shape]
        return (base, Model.draw(u[1], self.n_choices, other, self.aligned_gap, rng)), decide

    def data(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, IntArray]:
        """Return probabilities of both models, and gold."""
        models, decide = self.models(self.n, rng)
        gold = rng.integers(self.n_choices, size=self.n)
        base, aligned = (
            model.place(part < model.right, gold, rng)
            for model, part in zip(models, decide, strict=True)
        )
        return base, aligned, gold

    def truths(self) -> dict[str, tuple[float, float]]:
        """Return the true value of each quantity, of base and of aligned."""
        models, _ = self.models(MANY, np.random.default_rng(1))
        found = {name: tuple(self._binned(name, m) for m in models) for name in BINNED}
        for name, score in LOSSES.items():
            found[name] = tuple(_true_loss(m, score) for m in models)
        return found  # type: ignore[return-value]

    def _binned(self, name: str, model: Model) -> float:
        """Sum the true gaps of each bin, choices shuffled as in the data."""
        rng = np.random.default_rng(2)
        order = rng.permuted(np.tile(np.arange(self.n_choices), (MANY, 1)), axis=1)
        probs, truth = (
            np.take_along_axis(each, order, axis=1) for each in (model.sorted_probs, model.truth())
        )
        error = BINNED[name](Choices(probs), n_bins=N_BINS, binning=self.binning)
        prediction = Choices(probs).prediction
        total, weight = 0.0, 0
        for k, (group, bins) in enumerate(zip(error.groups, error._bins, strict=True)):
            column = prediction[group.rows] if name == "ece" else np.full(group.rows.size, k)
            gaps = group.values - truth[group.rows, column]
            total += float(np.abs(np.bincount(bins, weights=gaps)).sum())
            weight += group.rows.size
        return total / weight


def _true_loss(model: Model, score: str) -> float:
    """Return what the best temperature saves of the expected score."""
    p, t = model.sorted_probs, model.truth()
    scores = np.log(np.maximum(p, 1e-300))
    best = apply_temperature(scores, fit_temperature_to(scores, t))

    def expected(q: FloatArray) -> float:
        if score == "nll":
            return float(-(t * np.log(np.maximum(q, 1e-300))).sum(axis=1).mean())
        return float((q**2 - 2 * q * t).sum(axis=1).mean())

    return expected(p) - expected(best)


@dataclass
class Tally:
    """What was seen of each quantity of a cell: rejections, truths held, widths."""

    rejected: dict[str, list[bool]]
    held: dict[str, list[bool]]
    width: dict[str, list[float]]

    def note(self, name: str, found: Any, truth: float) -> None:
        """Note whether an interval holds the truth, and its width."""
        self.held[name].append(found.low <= truth + 1e-12 and truth <= found.high + 1e-12)
        self.width[name].append(found.high - found.low)


def measure(
    cell: Cell, n_sets: int, n_resamples: int, losses: list[str], smece: bool
) -> Iterator[dict[str, Any]]:
    """Yield one row per quantity: level or power, coverage and width over the data sets."""
    truths = cell.truths() | {"smece": (float("nan"),) * 2}
    seeds = [cell.n, cell.n_choices, *map(ord, cell.shape + cell.gap + cell.aligned_gap)]
    rng = np.random.default_rng(seeds)
    tally = Tally(*(defaultdict(list) for _ in range(3)))
    for _ in range(n_sets):
        data = cell.data(rng)
        draws = {"n_resamples": n_resamples, "rng": int(rng.integers(2**31))}
        note_errors(tally, data, truths, draws | {"n_bins": N_BINS, "binning": cell.binning})
        if smece:
            p_value = excesses(["smece"], data[0], data[2], **draws)["smece"].p_value
            tally.rejected["smece excess"].append(p_value <= 1 - LEVEL)
        for name in losses:
            note_loss(tally, data, truths[name], name)
    for name in dict.fromkeys([*tally.rejected, *tally.held]):
        yield row(name, cell, truths, tally)


def note_errors(tally: Tally, data: Any, truths: dict[str, Any], options: dict[str, Any]) -> None:
    """Note intervals, changes and excesses of the binned errors of one data set."""
    names, gold = list(BINNED), data[2]
    drawn = [bootstrap_draws(names, probs, gold, **options) for probs in data[:2]]
    above = [excesses(names, probs, gold, **options) for probs in data[:2]]
    singles, changes = estimates_of(drawn[0]), changes_between(*drawn, same=False)
    for name in names:
        tally.note(name, singles[name], truths[name][0])
        tally.note(f"change of {name}", changes[name], truths[name][1] - truths[name][0])
        tally.rejected[f"change of {name}"].append(changes[name].p_value < 1 - LEVEL)
        tally.rejected[f"{name} excess"].append(above[0][name].p_value <= 1 - LEVEL)
        grows = above[1][name].excess > above[0][name].excess
        tally.rejected[f"{name} excess grows"].append(grows)
        tally.rejected[f"{name} grows"].append(changes[name].change > 0)


def note_loss(tally: Tally, data: Any, truth: tuple[float, float], name: str) -> None:
    """Note the interval of one calibration loss of a data set, and its change."""
    base, aligned, gold = data
    loss = calibration_loss(base, gold, score=LOSSES[name])
    change = calibration_loss_change(base, aligned, gold, score=LOSSES[name])
    tally.note(name, loss, truth[0])
    tally.rejected[name].append(loss.low > 0)
    tally.note(f"change of {name}", change, truth[1] - truth[0])
    tally.rejected[f"change of {name}"].append(change.p_value < 1 - LEVEL)


def row(
    name: str, cell: Cell, truths: dict[str, tuple[float, float]], tally: Tally
) -> dict[str, Any]:
    """Sum up one quantity of one cell."""
    rejected, held, width = tally.rejected[name], tally.held[name], tally.width[name]
    of = name.split()[2 if name.startswith("change") else 0]
    truth = truths[of][1] - truths[of][0] if "change" in name or "grows" in name else truths[of][0]
    n_sets = len(rejected or held)

    def share(values: list[bool]) -> tuple[Any, Any]:
        if not values:
            return "", ""
        p = float(np.mean(values))
        return round(p, 3), round(float(np.sqrt(p * (1 - p) / n_sets)), 3)

    rate, rate_error = share(rejected)
    cover, cover_error = share(held)
    return {
        **cell.__dict__,
        "quantity": name,
        "truth": round(truth, 4),
        "n_sets": n_sets,
        "rejected": rate,
        "rejected_error": rate_error,
        "coverage": cover,
        "coverage_error": cover_error,
        "width": round(float(np.median(width)), 4) if width else "",
    }


def cells(
    sizes: list[int], choices: list[int], binnings: list[str], correlations: list[float]
) -> Iterator[Cell]:
    """Every shape with every kind of gap: of both models, and of the aligned one alone."""
    gaps = [(gap, gap) for gap in GAPS] + [("calibrated", "overconfident")]
    grid = itertools.product(sizes, choices, SHAPES, gaps, binnings, correlations)
    for n, n_choices, shape, (gap, aligned_gap), binning, correlation in grid:
        yield Cell(n, n_choices, shape, gap, aligned_gap, binning, correlation)


def table(paths: list[str]) -> str:
    """Sum up cells of as many questions and choices: mean and worst, with Monte-Carlo errors."""
    found = pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)
    keys = ["n", "n_choices", "binning", "correlation", "quantity"]
    lines = [
        "| n | K | bins | answers | cells × sets | quantity | true null | found | held | width |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (n, n_choices, binning, correlation, quantity), part in found.groupby(keys, sort=False):
        quiet = part[(part.gap == "calibrated") & (part.aligned_gap == "calibrated")]
        alone = "change" in quantity or "grows" in quantity
        base_gap = "calibrated" if alone else "overconfident"
        loud = part[(part.gap == base_gap) & (part.aligned_gap == "overconfident")]
        worst = quiet.loc[quiet.rejected.idxmax()] if quiet.rejected.notna().any() else None
        level = power = cover = width = ""
        if worst is not None:
            level = (
                f"{quiet.rejected.mean():.3f} ({worst.rejected:.3f} ± {worst.rejected_error:.3f})"
            )
            power = f"{loud.rejected.mean():.3f}"
        if part.coverage.notna().any():
            least = part.loc[part.coverage.idxmin()]
            cover = (
                f"{part.coverage.mean():.3f} ({least.coverage:.3f} ± {least.coverage_error:.3f})"
            )
            width = f"{part.width.mean():.3f}"
        answers = "paired" if correlation else "independent"
        cells = f"{len(part)} × {part.n_sets.iloc[0]}"
        values = (n, n_choices, binning, answers, cells, quantity, level, power, cover, width)
        lines.append("| " + " | ".join(map(str, values)) + " |")
    return "\n".join(lines)


def main(arguments: argparse.Namespace) -> None:
    if arguments.table:
        print(table(arguments.table))
        return
    start = time.process_time()
    out = open(arguments.output, "w", newline="") if arguments.output else sys.stdout  # noqa: SIM115
    writer: csv.DictWriter[str] | None = None
    of = (arguments.questions, arguments.choices, arguments.binnings, arguments.correlations)
    for cell in cells(*of):
        given = (arguments.data_sets, arguments.resamples, arguments.losses, arguments.smece)
        for found in measure(cell, *given):
            if writer is None:
                writer = csv.DictWriter(out, found)
                writer.writeheader()
            writer.writerow(found)
        out.flush()
    print(f"{time.process_time() - start:.0f} CPU seconds", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-sets", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--questions", type=int, nargs="+", default=[100, 421, 2376])
    parser.add_argument("--choices", type=int, nargs="+", default=[2, 4, 10])
    parser.add_argument("--binnings", nargs="+", default=["uniform"])
    parser.add_argument("--correlations", type=float, nargs="+", default=[0.5])
    parser.add_argument("--losses", nargs="*", default=["calibration_loss"], choices=list(LOSSES))
    parser.add_argument("--smece", action="store_true", help="test its excess, too (slow)")
    parser.add_argument("--output")
    parser.add_argument("--table", nargs="+", metavar="CSV", help="sum up what was written before")
    main(parser.parse_args())
