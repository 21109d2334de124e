"""Draw figures for a paper from Python: numbers first, then axes of your own.

    python examples/figures.py LOGS PAIRS.csv OUTPUT.pdf

LOGS are sample logs of base and aligned models under a choice prompt, PAIRS.csv says who belongs
to whom (columns family, base, aligned). One figure: the reliability diagram of the first pair
beside its risk-coverage curves, and below them the change of ECE of every pair.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from calib_harness import (
    ForestDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
    compare,
    load_predictions,
)


def main(logs: str, pairs: str, output: str) -> None:
    """Draw the figure, and print what it says about the first pair."""
    runs = load_predictions(logs, methods="choice")
    by_model = {run.header.label: run for run in runs}
    first = pd.read_csv(pairs).iloc[0]
    pair = by_model[first["base"]], by_model[first["aligned"]]

    # Each display computes its numbers once; they are plain attributes.
    reliability = ReliabilityDisplay.from_predictions(*pair, n_bins=10)
    coverage = RiskCoverageDisplay.from_predictions(*pair)
    changes = compare(runs, pairs, metrics=["ece"]).changes
    forest = ForestDisplay.from_changes(changes, metric="ece")

    width, height = forest.size(9)
    figure = Figure(figsize=(width, 5 + height), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[5, height])
    left, right = above.subplots(1, 2)
    reliability.plot(left)
    coverage.plot(right)
    forest.plot(below.subplots())
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output)

    for name, curve in reliability.curves.items():
        ece, null = curve.ece, curve.ece_null
        verdict = "more than" if ece.value > null.high else "no more than"
        print(
            f"{name}: ECE {ece.value:.3f} [{ece.low:.3f}, {ece.high:.3f}], "
            f"{verdict} a calibrated model would show (up to {null.high:.3f})"
        )
    worse = forest.data.kind.count("worse")
    print(f"{worse} of {len(forest.data.kind)} pairs are worse calibrated after alignment")


if __name__ == "__main__":
    main(*sys.argv[1:])
