"""How much of a change is one number, how much is liking a letter, and how much is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from calib_harness.analysis.joining import SharedQuestions
from calib_harness.analysis.metrics_frame import SummaryOptions
from calib_harness.analysis.multiplicity import corrected
from calib_harness.analysis.sides import null_mean
from calib_harness.core.loss import FEWEST_QUESTIONS, mean_test, proper_scores
from calib_harness.core.metrics import point_values
from calib_harness.core.recalibrators import cross_fit
from calib_harness.predictions.table import Floats

#: What the probabilities have been through: nothing, a temperature, a temperature and a bias of
#: each position.
RUNGS = ("raw", "temperature", "letter")

LADDER_COLUMNS = [
    *("family", "base", "aligned", "task", "method", "n_shot", "chat_template", "rung", "n"),
    *("base_value", "base_null", "aligned_value", "aligned_null", "excess_change"),
    *("base_saved", "aligned_saved", "change", "stderr", "low", "high", "p_value", "p_holm"),
]


def climb(shared: SharedQuestions, options: SummaryOptions) -> list[dict[str, Any]]:
    """Return one row per rung of the ladder for a pair, without what names the pair.

    Every rung is fitted on other questions, by five folds, for either model by itself: softmax(s),
    softmax(s / T), softmax(s / T + b_k). ``base_value`` and ``aligned_value`` are the ECE at the
    rung, ``base_null`` and ``aligned_null`` what calibrated models with these probabilities would
    show, ``excess_change`` the change of what is above. ``base_saved`` and ``aligned_saved`` are
    the log-loss per question that the step up to the rung saves (the first has none), ``change``
    what it saves more in the aligned model, with Student's paired ``stderr, low, high, p_value``:
    alignment has added that much of what the step mends.

    Returns
    -------
    list of dict
        Empty with fewer than 10 questions.
    """
    if len(shared) < FEWEST_QUESTIONS:
        return []
    climbed = [_rungs(probs, shared, options) for probs in shared.probs]
    rows = []
    before: list[Floats] | None = None
    for rung in RUNGS:
        row: dict[str, Any] = {"rung": rung, "n": len(shared)}
        for side, of_side in zip(("base", "aligned"), climbed, strict=True):
            probs = of_side[rung]
            row[f"{side}_value"] = point_values(["ece"], probs, shared.gold, **options.bins)["ece"]
            row[f"{side}_null"] = null_mean(probs, "ece", options)
        row["excess_change"] = (row["aligned_value"] - row["aligned_null"]) - (
            row["base_value"] - row["base_null"]
        )
        losses = [proper_scores(of_side[rung], shared.gold) for of_side in climbed]
        if before is not None:
            with np.errstate(invalid="ignore"):  # inf - inf is undefined, and told as such
                saved = [first - second for first, second in zip(before, losses, strict=True)]
            row |= {"base_saved": float(saved[0].mean()), "aligned_saved": float(saved[1].mean())}
            test = mean_test(saved[1] - saved[0])
            row |= {"change": test.mean, "stderr": test.stderr, "p_value": test.p_value}
            row |= {"low": test.low, "high": test.high}
        before = losses
        rows.append(row)
    return rows


def _rungs(probs: Floats, shared: SharedQuestions, options: SummaryOptions) -> dict[str, Floats]:
    with np.errstate(divide="ignore"):
        scores = np.log(probs)
    fitted = {rung: cross_fit(rung, scores, shared.gold, rng=options.seed)[1] for rung in RUNGS[1:]}
    return {"raw": probs} | fitted


def ladder_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows as a frame, p-values corrected over the pairs of each rung."""
    frame = pd.DataFrame(rows).reindex(columns=LADDER_COLUMNS)
    if len(frame):
        frame["p_holm"] = corrected(frame.assign(metric=frame["rung"]))
    return frame
