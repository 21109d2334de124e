"""The table of metrics: each stands beside its function, and is found here by its name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy.typing as npt

from calib_harness.core import accuracy, calibration, classwise, smece
from calib_harness.core.answers import Answers
from calib_harness.core.checks import check_choice_of
from calib_harness.core.registry import REGISTERED, Metric

# Whose functions enter themselves; the table has their order, whichever was imported first.
_FILES = (accuracy, calibration, classwise, smece)

METRICS: dict[str, Metric] = {
    name: metric
    for file in _FILES
    for name, metric in REGISTERED.items()
    if metric.function.__module__ == file.__name__
}


def point_values(
    names: Collection[str], probs: npt.ArrayLike, gold: npt.ArrayLike, **options: Any
) -> dict[str, float]:
    """Return several metrics without resamples, each given those of the options that it takes."""
    metrics = metrics_named(names)
    answers = answers_for(metrics, probs, gold)
    return {metric.name: metric.value(answers, **metric.own(options)) for metric in metrics}


def answers_for(metrics: Collection[Metric], probs: npt.ArrayLike, gold: npt.ArrayLike) -> Answers:
    """Return the checked answers: rows that cannot be used are let in if all metrics take them."""
    some_need_usable = any(metric.needs_usable for metric in metrics)
    return Answers.of(probs, gold, allow_unusable=not some_need_usable)


def metrics_named(names: Collection[str]) -> list[Metric]:
    """Return the metrics of these names, or raise ValueError naming the unknown one."""
    if isinstance(names, str):
        raise ValueError(f"names must be a list of metrics; got the string {names!r}.")
    for name in names:
        check_choice_of("metric", name, METRICS)
    return [METRICS[name] for name in names]
