"""The metrics table as lm-eval metrics and aggregations, with standard errors.

lm-eval hands an aggregation one item per question. Ours is an `Outcome`: the probabilities of
the question's choices and its gold. Aggregations stack the outcomes and call the array
functions of `calib_harness.core`; nothing is computed here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from lm_eval.api import metrics as stock
from lm_eval.api.registry import (
    aggregation_registry,
    metric_registry,
    register_aggregation,
    register_metric,
)

from calib_harness.core.confidence import pack_scores
from calib_harness.core.inference import bootstrap
from calib_harness.core.metrics import METRICS
from calib_harness.harness.seam import OF_STDERR
from calib_harness.harness.stock_metrics import StockAggregation

logger = logging.getLogger(__name__)

#: Resamples never exceed this: lm-eval's default of 100,000 is meant for cheap means.
MAX_RESAMPLES = 1000
SEED = 1234


class Outcome(NamedTuple):
    """One question as an aggregation sees it.

    Attributes
    ----------
    probs : tuple of float or None
        Probability of each choice; None if the question cannot be used.
    gold : int or None
        Index of the right choice.
    """

    probs: tuple[float, ...] | None
    gold: int | None


class Aggregation:
    """A metric of the table over lm-eval's list of outcomes, and its standard error."""

    def __init__(self, name: str, options: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.name = name
        self.options = METRICS[name].own(options)

    def __call__(self, items: Sequence[Outcome]) -> float:
        """Compute the metric over the usable outcomes; NaN if there are none."""
        probs, gold = stack(items)
        if not len(gold):
            return float("nan")
        return float(METRICS[self.name].function(probs, gold, **self.options))

    def stderr(self, items: Sequence[Outcome], n_resamples: int) -> float:
        """Bootstrap standard error over questions; NaN if fewer than two are usable."""
        probs, gold = stack(items)
        if len(gold) < 2:
            return float("nan")
        estimates = bootstrap(
            [self.name],
            probs,
            gold,
            n_resamples=min(n_resamples, MAX_RESAMPLES),
            rng=SEED,
            **self.options,
        )
        return float(estimates[self.name].stderr)

    def __repr__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"{self.name}({options})"


class UsableMean:
    """The mean over the questions that can be used, for a metric of a question's scores."""

    def __call__(self, items: Sequence[float]) -> float:
        """Compute the mean of what is not NaN; NaN if nothing is left."""
        values = self._usable(items)
        return float(np.mean(values)) if len(values) else float("nan")

    def stderr(self, items: Sequence[float], n_resamples: int) -> float:
        """Compute the standard error as lm-eval does; NaN if fewer than two are usable."""
        values = self._usable(items)
        return float(stock.mean_stderr(values)) if len(values) > 1 else float("nan")

    def _usable(self, items: Sequence[float]) -> list[float]:
        return [value for value in items if not math.isnan(value)]


def stack(items: Sequence[Outcome]) -> tuple[np.ndarray, np.ndarray]:
    """Return the usable outcomes as probabilities (n, K), NaN where absent, and gold (n,)."""
    usable = [(probs, gold) for probs, gold in items if probs is not None]
    if not usable:
        return np.empty((0, 0)), np.empty(0, dtype=int)
    return pack_scores([probs for probs, _ in usable]), np.array([gold for _, gold in usable])


def total(items: Sequence[float]) -> float:
    """Aggregate by summing: for counts, which have no standard error."""
    return float(np.sum(items))


def hand_on(items: Any) -> Any:
    """Hand a question's outcome to the aggregation: lm-eval's form of a corpus metric."""
    return items


#: One aggregation per metric, with default options; entry points name its attributes.
AGGREGATIONS = SimpleNamespace(**{name: Aggregation(name) for name in METRICS})


def register() -> None:
    """Make every metric of the table known to lm-eval's registries; safe to call again.

    A name that lm-eval has already (`acc`, `brier_score`) keeps lm-eval's meaning there;
    `CalibrationTask` uses ours.
    """
    for name, metric in METRICS.items():
        if name in metric_registry:
            continue
        if name not in aggregation_registry:
            register_aggregation(name)(getattr(AGGREGATIONS, name))
        register_metric(
            metric=name, higher_is_better=metric.direction == "higher", aggregation=name
        )(hand_on)


_WITH_STDERR = (Aggregation, UsableMean, StockAggregation)


def install_stderr() -> None:
    """Let lm-eval ask an aggregation for its own standard error; safe to call again.

    lm-eval 0.4.13 looks standard errors up in a list inside one function, so that function is
    wrapped; it still answers for every aggregation that is not ours.
    """
    of_stock = OF_STDERR.stderr_for_metric
    if hasattr(of_stock, "calib_harness"):
        return

    def stderr_for_metric(metric: Any, bootstrap_iters: int) -> Callable[[Any], float] | None:
        if isinstance(metric, _WITH_STDERR) and bootstrap_iters > 0:
            return lambda items: metric.stderr(items, bootstrap_iters)
        found: Callable[[Any], float] | None = of_stock(metric, bootstrap_iters)
        return found

    stderr_for_metric.calib_harness = True  # type: ignore[attr-defined]
    OF_STDERR.stderr_for_metric = stderr_for_metric
