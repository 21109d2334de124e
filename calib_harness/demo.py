"""Two embedded models through the real pipeline: one calibrated by construction, one not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from calib_harness.analysis import compare
from calib_harness.analysis.metrics_frame import metrics_frame
from calib_harness.paths import task_path, toy_world_path
from calib_harness.predictions import Predictions, load_predictions

METHODS = ("continuation-sum", "continuation-min", "choice")
METRICS = {"acc": "accuracy", "ece": "ECE", "sce": "SCE"}
MODELS = ("base", "aligned")
TASK = "toy_world_calib"


def run_demo(limit: int | None = None) -> list[Predictions]:
    """Evaluate both models of the toy world and read the logs that lm-eval wrote.

    Parameters
    ----------
    limit
        Questions per task; all of them by default.

    Returns
    -------
    list of Predictions
        One per model and method.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            evaluate(name, Path(folder), limit)
        return load_predictions(folder, methods=METHODS, cache=False)


def evaluate(name: str, folder: Path, limit: int | None = None) -> None:
    """Run lm-eval on one model of the toy world; its logs lie under `folder` afterwards."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    import calib_harness.harness  # noqa: F401 registers the plugin

    tracker = EvaluationTracker(output_path=str(folder))
    results = simple_evaluate(
        model="hf",
        model_args={"pretrained": f"{toy_world_path()}/models/{name}", "dtype": "float32"},
        tasks=[TASK],
        task_manager=TaskManager(include_path=f"{task_path()}/toy_world", include_defaults=False),
        device="cpu",
        batch_size=64,
        limit=limit,
        fewshot_as_multiturn=False,  # as on the command line
        log_samples=True,
        evaluation_tracker=tracker,
        bootstrap_iters=0,  # standard errors come from the logs
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, lines in samples.items():
        tracker.save_results_samples(task_name=task, samples=lines)


def print_demo(predictions: list[Predictions], console: Console) -> None:
    """Print one table of both models, and two sentences on what it shows."""
    values = metrics_frame(predictions, metrics=list(METRICS))
    values = values.assign(model=[Path(model).name for model in values["model"]])
    values = values.set_index(["model", "method", "metric"])
    changes = compare(predictions, base="base", aligned="aligned", metrics=list(METRICS)).changes
    entries = values.to_dict("index")
    n, n_bins = values["n"].iloc[0], values["M"].iloc[0]
    title = f"{TASK}: {n} questions, {n_bins} bins, ± one standard error"
    table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, padding=0)
    for column in ("method", "metric", *MODELS, "change", "95 % interval"):
        table.add_column(column, no_wrap=True)
    changes["method"] = pd.Categorical(changes["method"], METHODS)
    for row in changes.sort_values("method", kind="stable").to_dict("records"):
        method, metric = row["method"], row["metric"]
        found = [entries[model, method, metric] for model in MODELS]
        table.add_row(
            method if metric == "acc" else "",
            METRICS[metric],
            *(f"{entry['value']:.3f} ±{entry['stderr']:.3f}" for entry in found),
            f"{row['change']:+.3f}",
            f"{row['low']:+.3f} to {row['high']:+.3f}",
            end_section=metric == "sce",
        )
    console.print(table)
    console.print(tell_changes(changes), tell_nulls(values), soft_wrap=True)


def tell_changes(changes: pd.DataFrame) -> str:
    """Say in a sentence how accuracy and ECE moved.

    Parameters
    ----------
    changes : DataFrame
        ``Comparison.changes`` of one pair and benchmark.
    """
    acc, ece = (_moved(changes[changes["metric"] == metric]) for metric in ("acc", "ece"))
    return f"From base to aligned, accuracy {acc}; ECE {ece}."


def _moved(rows: pd.DataFrame) -> str:
    """Say which way one metric went; an interval without 0 decides, not the change itself."""
    span = f"{rows['change'].min():+.3f} to {rows['change'].max():+.3f}"
    rose, fell = int((rows["low"] > 0).sum()), int((rows["high"] < 0).sum())
    if not rose and not fell:
        return f"did not change beyond chance ({span})"
    if len(rows) in (rose, fell):
        return f"{'rose' if rose else 'fell'} under all {len(rows)} methods ({span})"
    ways = [f"{way} under {k}" for way, k in (("rose", rose), ("fell", fell)) if k]
    return f"{' and '.join(ways)} of {len(rows)} methods, elsewhere not beyond chance ({span})"


def tell_nulls(values: pd.DataFrame) -> str:
    """Say in a sentence how many of each model's ECEs lie within their calibrated null.

    Parameters
    ----------
    values : DataFrame
        ``metrics_frame``, indexed by model, method and metric.
    """
    parts = []
    for model in MODELS:
        ece, null = (values.loc[model].xs(key, level="metric") for key in ("ece", "ece_null"))
        within = int((ece["value"] <= null["high"]).sum())
        parts.append(f"{model}'s ECE under {within} of {len(ece)} methods")
    return f"A perfectly calibrated model as confident as these could show {' and '.join(parts)}."
