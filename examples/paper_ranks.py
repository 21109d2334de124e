"""Ask whether alignment's effects on calibration rank models alike on every task.

    python examples/paper_ranks.py [changes.csv]

"Does Alignment Tuning Really Break LLMs' Internal Confidence?" (arXiv 2409.00352) says that the
ranking of models by the change ratio is robust across tasks. Its published changes (columns
method, task, model, metric, change, change_ratio, ratio_rank) are ranked again here, and the
sentence is answered with Kendall's W and the mean pairwise τ for each method and metric.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from calib_harness import rank_agreement
from calib_harness.analysis import ratio_ranks

ROUNDING = 0.00005  # half a unit of the last published decimal of a ratio
DEFAULT = Path(__file__).parents[1].parent / "shared" / "published" / "changes.csv"


def within_rounding(changes: pd.DataFrame) -> pd.Series:
    """Whether each published rank is one that the ratios could have had before rounding."""

    def possible(group: pd.DataFrame) -> pd.Series:
        ratio = group["change_ratio"].to_numpy()
        surely_larger = ratio[None, :] > ratio[:, None] + 2 * ROUNDING + 1e-12
        maybe_larger = ratio[None, :] >= ratio[:, None] - 2 * ROUNDING - 1e-12
        least, most = 1 + surely_larger.sum(axis=1), maybe_larger.sum(axis=1)
        return group["ratio_rank"].between(least, most)

    groups = changes.groupby(["task", "method", "metric"], group_keys=False)
    return groups[["change_ratio", "ratio_rank"]].apply(possible).reindex(changes.index)


def main(path: Path) -> None:
    """Print the ranks that differ, the agreement of the tasks, and the answer."""
    changes = pd.read_csv(path)
    ranks = ratio_ranks(changes)
    same = ranks == changes["ratio_rank"]
    print(f"{same.sum()} of {len(changes)} published ratio ranks come out again; the others:")
    for index, row in changes[~same].iterrows():
        print(
            f"  {row['method']}, {row['task']}, {row['metric']}: {row['model']} is published as "
            f"rank {row['ratio_rank']}, here {ranks[index]:.0f} "
            f"(ratio {row['change_ratio']}, tied at four decimals)"
        )
    possible = within_rounding(changes)
    print(
        f"{possible.sum()} of {len(changes)} are ranks that the ratios could have had before they "
        "were rounded to four decimals."
    )
    agreement = rank_agreement(changes, unit="model", value="change_ratio")
    print("\nAgreement of the tasks on the order of the models (1 = the same on all):\n")
    shown = agreement.rename(columns={"n_pairs": "n_models"}).drop(columns="n_dropped")
    print(shown.to_string(index=False, float_format="%.4f"))
    strong = agreement[agreement["kendalls_w"] >= 0.7]
    named = ", ".join(f"{m} × {metric}" for m, metric in strong[["method", "metric"]].to_numpy())
    print(
        f"\nAll tasks agree more than chance (largest p {agreement['p_value'].max():.4f}), but "
        f"only {named or 'none'}\nreach W ≥ 0.7: the ranks are robust across tasks there, and "
        "elsewhere they merely tend to agree.\nThe published SCE behaves like sce_ova, which "
        "follows accuracy: its agreement is that of the accuracies."
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT)
