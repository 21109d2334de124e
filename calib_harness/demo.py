"""Two embedded models through the real pipeline: one calibrated by construction, one not."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from calib_harness.paths import task_path, toy_world_path

METHODS = ("continuation-sum", "continuation-min", "choice")
METRICS = {"acc": "accuracy", "ece": "ECE", "sce": "SCE"}
MODELS = ("base", "aligned")


def run_demo(limit: int | None = None) -> dict[str, dict[str, Any]]:
    """Evaluate both models of the toy world; return lm-eval's results by model.

    Parameters
    ----------
    limit
        Questions per task; all of them by default.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    import calib_harness.harness  # noqa: F401 registers the plugin

    manager = TaskManager(include_path=f"{task_path()}/toy_world", include_defaults=False)
    results = {}
    for name in MODELS:
        model = HFLM(pretrained=f"{toy_world_path()}/models/{name}", device="cpu", batch_size=64)
        output = simple_evaluate(
            model=model, tasks=["toy_world_calib"], task_manager=manager, limit=limit
        )
        merged: dict[str, Any] = {}
        for task in output["results"].values():
            merged |= task
        results[name] = merged
    return results


def print_demo(results: dict[str, dict[str, Any]], console: Console) -> None:
    """Print one table of both models, and two sentences on what it shows."""
    table = Table("method", "metric", *MODELS, "change")
    for method in METHODS:
        for metric, label in METRICS.items():
            values = [results[name][f"{metric},{method}"] for name in MODELS]
            errors = [results[name][f"{metric}_stderr,{method}"] for name in MODELS]
            table.add_row(
                method if metric == "acc" else "",
                label,
                *(f"{v:.3f} ± {e:.3f}" for v, e in zip(values, errors, strict=True)),
                f"{values[1] - values[0]:+.3f}",
            )
    console.print(table)
    base, aligned = (results[name] for name in MODELS)
    console.print(
        f"Alignment changed accuracy by {aligned['acc,choice'] - base['acc,choice']:+.3f} and ECE "
        f"by {aligned['ece,choice'] - base['ece,choice']:+.3f} (choice prompt). The base model is "
        "calibrated by construction: what it says happens as often as it says, and what the "
        "aligned model says does not."
    )
