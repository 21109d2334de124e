"""What the toy world's models score, measured against the true distributions.

``python examples/toy_world/findings.py [LOGS]`` evaluates all models through lm-eval (or reads the
logs of an earlier call from LOGS) and prints the tables of docs/background/toy-world.md.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from calib_harness import Predictions, bootstrap, calibrated_null, load_predictions
from calib_harness.cli.render import Format, render, with_error
from calib_harness.demo import METHODS, evaluate

HERE = Path(__file__).resolve().parent
MODELS = ("base", "step-20", "step-60", "aligned")
STAGES = ("base", "sft", "dpo")
BETA = 1.0  # of the preferences in stages.py
WHOLE, LEAST = METHODS[:2]
N_CHRONICLES = 60  # whose shares the true probabilities are
METRICS = ("acc", "ece", "sce", "sce_ova", "overconfidence")
# Kinds of attribute whose values are one token, and several.
TOKENS = {"one token": ("capital", "tongue", "trade"), "several": ("ruler", "banner", "founding")}
SEED = 0

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def read_questions(path: Path = HERE / "data" / "test.jsonl") -> pd.DataFrame:
    """Read the test questions, one row each."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return pd.DataFrame([json.loads(line) for line in lines])


def true_probs(questions: pd.DataFrame) -> Floats:
    """Return the true distributions, shape (n, K_max), NaN where a choice does not exist."""
    width = questions["probs"].map(len).max()
    return np.array([[*row, *[np.nan] * (width - len(row))] for row in questions["probs"]])


def min_of_truth(questions: pd.DataFrame) -> Floats:
    """Probabilities by `continuation-min` of a model that knows the truth; no model is asked.

    A token's true conditional probability is the share of its prefix in the prefix before. The
    least of them is an answer's score, and scores become probabilities by their sum, which is
    the softmax of their logarithms.

    Returns
    -------
    ndarray, shape (n, K_max)
        NaN where a choice does not exist.
    """
    probs = np.full_like(true_probs(questions), np.nan)
    for row, (choices, truth) in enumerate(
        zip(questions["choices"], questions["probs"], strict=True)
    ):
        # Fractions, since true probabilities lie on the very edges of bins.
        exact = [Fraction(p).limit_denominator(N_CHRONICLES) for p in truth]
        tokens = [tuple(re.findall(r"[A-Za-z]+|\d", choice)) for choice in choices]
        shares: dict[tuple[str, ...], Fraction] = defaultdict(Fraction)
        for answer, p in zip(tokens, exact, strict=True):
            for end in range(len(answer) + 1):
                shares[answer[:end]] += p
        scores = [
            min(
                shares[answer[:end]] / shares[answer[: end - 1]] if shares[answer[:end]] else 0
                for end in range(1, len(answer) + 1)
            )
            for answer in tokens
        ]
        probs[row, : len(scores)] = [score / sum(scores) for score in scores]
    return probs


def against_truth(probs: Floats, truth: Floats) -> tuple[float, float]:
    """Measure predictions without the noise of drawn answers.

    Parameters
    ----------
    probs, truth : ndarray, shape (n, K_max)

    Returns
    -------
    float
        Expected accuracy: mean true probability of the predictions.
    float
        Mean total variation distance, half the sum of |probs - truth|: 0 for a model that says
        what is true, 1 at most.
    """
    predicted = np.nanargmax(probs, axis=1)
    return (
        float(np.take_along_axis(truth, predicted[:, None], axis=1).mean()),
        float(np.nansum(np.abs(probs - truth), axis=1).mean() / 2),
    )


def measure(probs: Floats, gold: Ints, truth: Floats) -> dict[str, str]:
    """One row of a table: metrics with standard errors, nulls, and distance to the truth."""
    found = bootstrap(METRICS, probs, gold, rng=SEED)
    row = {name: with_error(e.value, e.stderr) for name, e in found.items()}
    nulls = {name: calibrated_null(probs, metric=name, rng=SEED) for name in ("ece", "sce")}
    expected, distance = against_truth(probs, truth)
    return {
        "accuracy": row["acc"],
        "expected accuracy": f"{expected:.3f}",
        "ECE": row["ece"],
        "its null": with_error(nulls["ece"].mean, nulls["ece"].std),
        "SCE": row["sce"],
        "null of SCE": with_error(nulls["sce"].mean, nulls["sce"].std),
        "sce_ova": row["sce_ova"],
        "overconfidence": row["overconfidence"],
        "distance to truth": f"{distance:.3f}",
    }


def model_table(predictions: Sequence[Predictions], truth: Floats) -> pd.DataFrame:
    """One row per method and model, models in the order of the alignment."""
    rows = [
        {"method": p.header.method, "model": name} | measure(p.probs, p.gold, truth[p.doc_id])
        for name in MODELS
        for p in predictions
        if Path(p.header.model).name == name
    ]
    return pd.DataFrame(rows).sort_values("method", kind="stable", ignore_index=True)


def preferred(reference: Floats, truth: Floats) -> Floats:
    """Return what preferences make of a model at best: the minimum of DPO's loss, see stages.py.

    Parameters
    ----------
    reference, truth : ndarray, shape (n, K_max)
    """
    weights = reference * truth ** (1 / BETA)
    return weights / np.nansum(weights, axis=1, keepdims=True)


def stage_table(predictions: Sequence[Predictions], truth: Floats) -> pd.DataFrame:
    """One row per method and stage, and one for the distribution that preferences aim at.

    `distance to aim`: of base and sft to the truth, of dpo to what `preferred` makes of sft.
    """
    runs = {(Path(p.header.model).name, p.header.method): p for p in predictions}
    rows = []
    for method in ("choice", WHOLE):
        sft = runs["sft", method]
        true = truth[sft.doc_id]
        aim = preferred(sft.probs, true)
        known = [(stage, runs[stage, method].probs) for stage in STAGES]
        for stage, probs in (*known, ("aim of dpo", aim)):
            toward = true if stage in ("base", "sft") else aim
            rows.append(
                {"method": method, "stage": stage}
                | measure(probs, sft.gold, true)
                | {"distance to aim": f"{against_truth(probs, toward)[1]:.3f}"}
            )
    return pd.DataFrame(rows).drop(columns=["null of SCE", "sce_ova"])


def bayes_table(questions: pd.DataFrame) -> pd.DataFrame:
    """Measure the best possible predictor: the true distributions themselves."""
    truth, gold = true_probs(questions), questions["gold"].to_numpy()
    found = bootstrap(("ece", "sce", "sce_ova"), truth, gold, rng=SEED)
    rows = []
    for metric, estimate in found.items():
        null = calibrated_null(truth, metric=metric, rng=SEED)
        rows.append(
            {
                "metric": metric,
                "value": with_error(estimate.value, estimate.stderr),
                "calibrated null": f"{null.low:.3f} to {null.high:.3f}",
            }
        )
    return pd.DataFrame(rows)


def token_table(
    predictions: Sequence[Predictions], questions: pd.DataFrame, models: Sequence[str]
) -> pd.DataFrame:
    """`continuation-sum` beside `continuation-min`, by the number of tokens of the answers.

    The first rows are the truth's: what a model shows that knows every token's probability.
    """
    truth = true_probs(questions)
    found = {("truth", WHOLE): truth, ("truth", LEAST): min_of_truth(questions)}
    for p in predictions:
        name = Path(p.header.model).name
        if name in models and p.header.method in (WHOLE, LEAST):
            found[name, p.header.method] = p.probs[np.argsort(p.doc_id)]
    gold = questions["gold"].to_numpy()
    rows = []
    for name in ("truth", *models):
        for tokens, kinds in TOKENS.items():
            chosen = questions["kind"].isin(kinds).to_numpy()
            for method in (WHOLE, LEAST):
                probs = found[name, method][chosen]
                row = measure(probs, gold[chosen], truth[chosen])
                rows.append(
                    {"model": name, "answers": tokens, "method": method, "n": str(len(probs))}
                    | {"confidence": f"{np.nanmax(probs, axis=1).mean():.3f}"}
                    | {key: row[key] for key in ("accuracy", "ECE", "its null")}
                    | {"distance to truth": row["distance to truth"]}
                )
    return pd.DataFrame(rows)


def tables(predictions: Sequence[Predictions]) -> dict[str, pd.DataFrame]:
    """All tables by title."""
    questions = read_questions()
    by_model = model_table(predictions, true_probs(questions)).drop(
        columns=["null of SCE", "sce_ova"]
    )
    return {
        "Stages": stage_table(predictions, true_probs(questions)),
        "Models": by_model,
        "The true distributions as predictor": bayes_table(questions),
        "Sum and min": token_table(predictions, questions, ("base", "aligned")),
    }


def main(logs: Path) -> None:
    """Print the tables; evaluate the models first if there are no logs."""
    if not any(logs.rglob("samples_*.jsonl")):
        for name in dict.fromkeys((*MODELS, *STAGES)):
            evaluate(name, logs)
    print(render(tables(load_predictions(logs, methods=METHODS, cache=False)), Format.markdown))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
