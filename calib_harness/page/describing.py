"""Words about what a page shows: metrics, models, runs and chains, ready for JSON."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from calib_harness.analysis.matching import Models
from calib_harness.core.accuracy import choice_mass
from calib_harness.core.loss import LOSSES, calibration_losses
from calib_harness.core.metrics import METRICS
from calib_harness.core.nulls import calibrated_null
from calib_harness.core.recalibration import cross_fit_temperature, fit_temperature
from calib_harness.page.packing import Numbering
from calib_harness.page.sources import Place, Sources

# Rows of a metrics table that are no metrics of METRICS: what computes them, their formula, and
# which values are better.
_OTHERS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "ece_null": (calibrated_null, "ece with each gold drawn from the model's own p_i", ""),
    "choice_mass": (choice_mass, "mean of Σ_k exp(s_ik), before normalising", ""),
    "temperature": (fit_temperature, "the T of softmax(s_i / T) with the least nll", ""),
    "ece_recalibrated": (
        cross_fit_temperature,
        "ece of softmax(s_i / T), T fitted on other questions",
        "lower",
    ),
}


def metric_words(name: str) -> dict[str, Any]:
    """Describe a metric, from the package's own table and docstrings."""
    if name in LOSSES:
        return {
            "name": name,
            "direction": "lower",
            "formula": f"mean of {LOSSES[name]}_i − {LOSSES[name]}_i after recalibration by others",
            "source": "Bröcker 2009",
            "about": _first_paragraphs(calibration_losses),
            "biased": False,
            "of_changes": True,
        }
    if name in METRICS:
        metric = METRICS[name]
        function: Callable[..., Any] = metric.function
        return {
            "name": name,
            "direction": metric.direction,
            "formula": metric.formula,
            "source": metric.source,
            "about": _first_paragraphs(function),
            "biased": metric.deviation is not None,
            "of_changes": False,
        }
    function, formula, direction = _OTHERS[name]
    return {
        "name": name,
        "direction": direction,
        "formula": formula,
        "source": "",
        "about": _first_paragraphs(function),
        "biased": name == "ece_recalibrated",
        "of_changes": False,
    }


def _first_paragraphs(function: Callable[..., Any]) -> str:
    """Return what a docstring says before its list of parameters, as a sentence about a metric."""
    text = inspect.getdoc(function) or ""
    text = text.partition("\nParameters\n")[0].strip().removeprefix("Return ")
    return text[:1].upper() + text[1:]


def model_words(label: str, sources: Sources) -> dict[str, Any]:
    """Say where a model stands among its relatives."""
    place = sources.places.get(label, Place())
    return {"label": label, "family": place.family, "stage": place.stage, "step": place.step}


def run_words(sources: Sources) -> dict[str, dict[str, Any]]:
    """Tell what was measured: one row per sample log, by its path or URL."""
    runs: dict[str, dict[str, Any]] = {}
    for p in sources.predictions:
        h = p.header
        if h.source in runs:
            runs[h.source]["methods"].append(h.method)
            continue
        log = sources.logs[h.source]
        runs[h.source] = {
            "model": h.model,
            "revision": h.revision or "",
            "task": h.task,
            "task_version": log.info.task_versions.get(h.task, ""),
            "prompt": log.info.prompts.get(h.task, {}),
            "n_shot": h.n_shot,
            "chat_template": h.chat_template,
            "settings": h.settings,
            "n": len(p),
            "unusable": int((~p.usable).sum()),
            "tied": int(p.tied.sum()),
            "distinct": p.n_distinct,
            "truncated": p.n_truncated,
            "gold": h.gold,
            "methods": [h.method],
            "packages": {"lm_eval": h.lm_eval_version or "", **log.info.packages},
            "date": h.date,
            "source": h.source,
        }
    return runs


def chain_words(sources: Sources, models: Numbering) -> list[dict[str, Any]]:
    """Chains of stages or steps, as lists of models."""
    if sources.chains is None:
        return []
    finder = Models(sources.predictions)
    chains = []
    for family, stages in sources.chains.groupby("family", sort=False):
        steps = []
        for row in stages.itertuples(index=False):
            label = finder.find(str(row.model))
            if label is not None:
                steps.append(
                    {"model": models.of(label), "stage": row.stage, "position": row.position}
                )
        if len(steps) >= 2:
            chains.append({"family": str(family), "steps": steps})
    return chains
