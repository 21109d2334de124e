"""Write the page of findings: what alignment does to calibration, from public logs.

    python examples/findings.py [SHARED] [--output docs/background/findings.md]

SHARED holds ``logs/coane`` (option log-probabilities of 30 models, 15 base/aligned pairs) and
``published/changes.csv`` (the published changes of arXiv 2409.00352). Everything on the page comes
out of the package's own functions; nothing of the questions goes into it.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from calib_harness import Predictions, compare, ece, load_predictions, rank_agreement
from calib_harness.analysis import Comparison, verdict
from calib_harness.analysis.across import mean_over_pairs
from calib_harness.analysis.results import DEFAULT_METRICS
from calib_harness.core.families import sign_flip_test
from calib_harness.core.loss import mean_test, proper_scores
from calib_harness.core.nulls import calibrated_null
from calib_harness.core.recalibrators import cross_fit
from calib_harness.core.selective import (
    accuracy_at_coverage,
    conformal_sets,
    coverage_at_accuracy,
)

SHARED = Path(__file__).parents[1].parent / "shared"
PAGE = Path(__file__).parents[1] / "docs" / "background" / "findings.md"
RECALIBRATIONS = ("temperature", "letter", "vector", "isotonic", "batch", "agreement")


def table(frame: pd.DataFrame) -> str:
    """Return a Markdown table, numbers with three decimals and p-values with two figures."""

    def cell(name: str, value: object) -> str:
        if value is None or value != value:
            return ""
        if isinstance(value, float) and str(name).startswith("p"):
            return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(frame.columns) + " |"]
    lines.append("|" + "|".join(" --- " for _ in frame.columns) + "|")
    for row in frame.to_dict("records"):
        lines.append("| " + " | ".join(cell(str(k), v) for k, v in row.items()) + " |")
    return "\n".join(lines)


def changes(found: Comparison) -> str:
    """Return the change of every pair, by the loss and by the excess of its ECE."""
    loss, error = (
        found.changes[found.changes["metric"] == name].reset_index(drop=True)
        for name in ("calibration_loss", "ece")
    )
    accuracy = found.changes[found.changes["metric"] == "acc"].reset_index(drop=True)
    return table(
        pd.DataFrame(
            {
                "aligned model": loss["aligned"],
                "loss, change": loss["change"],
                "low": loss["low"],
                "high": loss["high"],
                "p (Holm)": loss["p_holm"],
                "ECE, base": error["base_value"],
                "its null": error["base_null"],
                "ECE, aligned": error["aligned_value"],
                "null of it": error["aligned_null"],
                "excess, change": error["excess_change"],
                "p of ECE (Holm)": error["p_holm"],
                "accuracy, change": accuracy["change"],
            }
        )
    )


def across(found: Comparison) -> str:
    """Return shares and means over pairs, by metric."""
    shares = found.over_families.set_index("metric")
    means = found.across_pairs.set_index("metric")
    rows = [
        {
            "metric": metric,
            "harmed": f"{shares.at[metric, 'n_harmed']} of {shares.at[metric, 'n_pairs']}",
            "p of the share": shares.at[metric, "p_value"],
            "mean change": means.at[metric, "mean"],
            "low": means.at[metric, "low"],
            "high": means.at[metric, "high"],
            "p of the mean": means.at[metric, "p_value"],
            "next family, low": means.at[metric, "next_low"],
            "next family, high": means.at[metric, "next_high"],
            "I²": means.at[metric, "i_squared"],
        }
        for metric in means.index
    ]
    return table(pd.DataFrame(rows))


def ladder(found: Comparison) -> str:
    """Return the means over pairs at each rung, and how many pairs a step tells apart."""
    rungs = found.ladder
    frame = rungs.assign(metric=rungs["rung"])
    left = mean_over_pairs(frame.assign(stderr=np.nan)).set_index("metric")
    steps = mean_over_pairs(frame, effect="change").set_index("metric")
    rows = []
    for rung, group in rungs.groupby("rung", sort=False):
        told = group.loc[group["p_holm"] < 0.05, "change"]
        rows.append(
            {
                "rung": rung,
                "excess of ECE, mean change": float(group["excess_change"].mean()),
                "p of it": left.at[rung, "p_value"],
                "step: log-loss saved more": float(group["change"].mean()),
                "p of the step": steps.at[rung, "p_value"],
                "pairs with more, less": f"{(told > 0).sum()}, {(told < 0).sum()}",
            }
        )
    return table(pd.DataFrame(rows).replace({"pairs with more, less": {"0, 0": "none"}}))


def recalibrated(runs: list[Predictions], pairs: pd.DataFrame) -> str:
    """Return what each recalibration does to the aligned models, fitted on other questions."""
    by_name = {run.header.model: run for run in runs}
    rows = [_recalibration(None, by_name, pairs)]
    rows += [_recalibration(method, by_name, pairs) for method in RECALIBRATIONS]
    return table(pd.DataFrame(rows))


def _recalibration(
    method: str | None, by_name: dict[str, Predictions], pairs: pd.DataFrame
) -> dict[str, object]:
    excess, losses, worse, better = [], [], 0, 0
    for base_name, name in pairs[["base", "aligned"]].itertuples(index=False):
        run, base = by_name[name], by_name[base_name].probs
        probs = run.probs
        if method is not None:
            of_base = base if method == "agreement" else None
            probs = cross_fit(method, run.scores, run.gold, rng=0, base=of_base)[1]
            saved = mean_test(proper_scores(run.probs, run.gold) - proper_scores(probs, run.gold))
            worse += saved.high < 0
            better += saved.low > 0
        excess.append(ece(probs, run.gold) - calibrated_null(probs, rng=0).mean)
        losses.append(float(proper_scores(probs, run.gold).mean()))
    labels = {None: "", "batch": "none", "agreement": "none, the base model"}
    return {
        "recalibration": method or "raw",
        "labels": labels.get(method, "other questions'"),
        "excess of ECE, mean": float(np.mean(excess)),
        "log-loss, mean": float(np.mean(losses)),
        "models better": better if method else "",
        "models worse": worse if method else "",
    }


def selective(runs: list[Predictions], pairs: pd.DataFrame) -> str:
    """Return accuracy at coverage and conformal sets, means over base and over aligned models."""
    by_name = {run.header.model: run for run in runs}
    rows = []
    for side in ("base", "aligned"):
        of_side = [by_name[name] for name in pairs[side]]
        row: dict[str, object] = {"models": side}
        for coverage in (0.1, 0.5, 1.0):
            found = [accuracy_at_coverage(run.probs, run.gold, coverage) for run in of_side]
            row[f"accuracy of the surest {coverage:.0%}"] = float(np.mean(found))
        shares = [coverage_at_accuracy(run.probs, run.gold, 0.9) for run in of_side]
        row["share answered at accuracy .9"] = float(np.mean(shares))
        for score in ("lac", "aps"):
            sets = [conformal_sets(run.probs, run.gold, score=score) for run in of_side]
            row[f"choices in a 90 % set ({score.upper()})"] = float(np.mean([s.size for s in sets]))
            row[f"held ({score.upper()})"] = float(np.mean([s.coverage for s in sets]))
        rows.append(row)
    return table(pd.DataFrame(rows))


def published(path: Path) -> str:
    """Return the agreement of the tasks on the published changes, by ratio and by change."""
    frame = pd.read_csv(path)
    by_ratio = rank_agreement(frame, unit="model", value="change_ratio")
    by_change = rank_agreement(frame, unit="model", value="change")
    rows = by_ratio[["method", "metric"]].assign(
        **{"W by ratio": by_ratio["kendalls_w"], "W by change": by_change["kendalls_w"]}
    )
    means = frame.groupby(["method", "metric", "model"], sort=False)["change"].mean().reset_index()
    tests = {
        key: (group["change"].mean(), sign_flip_test(group["change"], group["model"]))
        for key, group in means.groupby(["method", "metric"], sort=False)
    }
    keys = list(rows.itertuples(index=False, name=None))
    rows["mean change"] = [tests[key[:2]][0] for key in keys]
    rows["p of it over models"] = [tests[key[:2]][1] for key in keys]
    return table(rows)


def page(shared: Path) -> str:
    """Return the page."""
    logs = shared / "logs" / "coane"
    runs = load_predictions(logs, methods=["choice"], cache=False)
    pairs = pd.read_csv(logs / "pairs.csv")
    found = compare(runs, pairs, metrics=(*DEFAULT_METRICS, "auroc", "aurc"), ladder=True)
    said = {name: verdict(found, name)[0] for name in ("calibration_loss", "ece", "acc", "auroc")}
    equal = found.equal_accuracy[found.equal_accuracy["metric"].isin(["calibration_loss", "ece"])]
    rungs = found.ladder.groupby("rung")["excess_change"].mean()
    columns = ["metric", "plain_mean", "slope", "at_equal", "low", "high"]
    return _TEXT.format(
        n_runs=len(runs),
        n_pairs=len(pairs),
        n_families=pairs["family"].nunique(),
        n_questions=len(runs[0]),
        loss=" ".join(said["calibration_loss"].sentences),
        error=" ".join(said["ece"].sentences),
        accuracy=" ".join(said["acc"].sentences),
        auroc=" ".join(said["auroc"].sentences),
        changes=changes(found),
        across=across(found),
        ladder=ladder(found),
        by_temperature=1 - rungs["temperature"] / rungs["raw"],
        equal=table(equal[columns]),
        recalibrated=recalibrated(runs, pairs),
        selective=selective(runs, pairs),
        published=published(shared / "published" / "changes.csv"),
    )


_TEXT = """# Findings: what alignment does to calibration

This page is written by `python examples/findings.py` with the package's own functions. It needs
two public sources at hand: option log-probabilities of {n_runs} models
(KyleAMoore/LLM-UQ-Align-and-Calibrate, {n_questions} four-choice questions, letters under a
two-shot prompt), {n_pairs} base/aligned pairs in {n_families} families; and the changes published
in "Does Alignment Tuning Really Break LLMs' Internal Confidence?" (arXiv 2409.00352). Numbers are
of these models, these questions and this prompt.

## Is calibration worse after alignment?

By the calibration loss, the primary test: {loss}

By ECE: {error}

Changes are aligned minus base; the loss is in nats per question. "Null" is the ECE that a
calibrated model with the same probabilities would show on average, and the excess is what is
above it.

{changes}

## Over pairs and families

The p-values flip the signs of whole families. The last columns say where a pair of a further
family may lie, and which share of the variance between pairs is real.

{across}

## The ladder: one number, a letter, the rest

Each rung is fitted on other questions, for each model by itself: nothing, one temperature, a
temperature and a bias of each letter. The second and third column say what alignment has changed
of the excess that is left at the rung. The step says how much more log-loss it saves in the
aligned model than in its base model: that much of what the step mends came with alignment. The
last column counts the pairs with Holm p < .05 at the step.

{ladder}

One temperature per model takes away {by_temperature:.0%} of the mean change of the excess.

## At equal accuracy

{accuracy}

A regression over pairs says what the change would be for a pair whose accuracy did not change
(`at_equal`, with the interval of a jackknife over families).

{equal}

## Recalibration, with and without labels

All {n_pairs} aligned models, recalibrated by folds. Better and worse count models whose log-loss
changed by more than a 95 % interval of the paired difference allows.

{recalibrated}

## Selective answering

Whether confidence still tells right answers from wrong ones (AUROC): {auroc}

Means over the base and over the aligned models; the sets of choices are split-conformal, each
question's threshold from the other folds.

{selective}

## The published changes

Seven models, ten tasks, three methods. W is the agreement of the tasks on the order of the models
(Kendall; 1 is the same order on every task). Ratios divide by a raw plug-in error, whose bias
differs between models; the paper ranks by them. Only rounded changes are published, so that
neither excess nor intervals can be had: the p-value flips the signs of models.

{published}

The published SCE behaves like `sce_ova`, which follows accuracy and is no calibration error (see
the page on SCE).
"""


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shared", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--output", type=Path, default=PAGE)
    arguments = parser.parse_args()
    arguments.output.write_text(page(arguments.shared), encoding="utf-8")
