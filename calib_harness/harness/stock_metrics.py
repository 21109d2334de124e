"""Metrics of lm-eval's own that a calibration task keeps, computed exactly as lm-eval does."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lm_eval.api.metrics import mean, mean_stderr
from lm_eval.api.registry import get_aggregation

from calib_harness.harness.seam import aggregation_of

logger = logging.getLogger(__name__)

MAX_RESAMPLES = 1000
SEED = 1234


def _normalised(lengths: Callable[[str], int]) -> Callable[..., float]:
    def accuracy(
        sums: Sequence[float], greedy: Sequence[bool], choices: Sequence[str], gold: int
    ) -> float:
        with np.errstate(divide="ignore"):  # of an empty choice, as in lm-eval
            per_unit = np.array(sums) / np.array([float(lengths(choice)) for choice in choices])
        return float(np.argmax(per_unit) == gold)

    return accuracy


def _accuracy(
    scores: Sequence[float], greedy: Sequence[bool], choices: Sequence[str], gold: int
) -> float:
    return float(np.argmax(scores) == gold)


def _exact_match(
    sums: Sequence[float], greedy: Sequence[bool], choices: Sequence[str], gold: int
) -> float:
    return float(greedy[gold])


def _gold_and_prediction(
    sums: Sequence[float], greedy: Sequence[bool], choices: Sequence[str], gold: int
) -> tuple[int, int]:
    return gold, int(np.argmax(sums))


#: Metric -> one question's item, of its choices' sums of log-probabilities, whether each choice is
#: what the model would have written, the choices and gold.
STOCK_METRICS: dict[str, Callable[..., Any]] = {
    "acc_norm": _normalised(len),
    "acc_bytes": _normalised(lambda choice: len(choice.encode())),
    "exact_match": _exact_match,
    "f1": _gold_and_prediction,
    "mcc": _gold_and_prediction,
    "acc_mutual_info": _accuracy,
}

# Methods whose scores are sums of log-probabilities, for which most of these are defined.
_SUMS = ("continuation-sum", "choice")

#: Shares of right answers, in which a question that cannot be used counts as wrong, as in `acc`;
#: from the others it is left out.
_SHARES = frozenset({"acc_norm", "acc_bytes", "exact_match", "acc_mutual_info"})


def is_defined(metric: str, method: str) -> bool:
    """Tell whether one of lm-eval's metrics is defined for the scores of a method."""
    if metric == "acc_mutual_info":
        return method == "continuation-pmi"
    return metric in STOCK_METRICS and method in _SUMS


def stock_item(
    metric: str,
    pairs: Sequence[tuple[float | None, bool]],
    choices: Sequence[str],
    gold: int | None,
) -> Any:
    """One question's item of one of lm-eval's metrics.

    Parameters
    ----------
    metric : str
        One of `STOCK_METRICS`.
    pairs : sequence of (float, bool)
        Each choice's sum of log-probabilities, and whether greedy decoding would write it.
    choices : sequence of str
        Their texts.
    gold : int or None
        Index of the right choice; None if the question cannot be used.
    """
    if gold is None:
        return 0.0 if metric in _SHARES else None
    sums, greedy = zip(*pairs, strict=True)
    return STOCK_METRICS[metric](sums, greedy, choices, gold)


class StockAggregation:
    """lm-eval's aggregation of one of its own metrics, with a standard error that ends in time.

    lm-eval's own resamples F1 100,000 times, in as many processes as there are cores.

    Parameters
    ----------
    metric : str
        One of `STOCK_METRICS`.
    aggregation : str or callable, optional
        How the YAML wants it aggregated; lm-eval's way for this metric unless given.
    """

    def __init__(self, metric: str, aggregation: Any = None) -> None:
        self.metric = metric
        if aggregation is None:
            aggregation = aggregation_of(metric)
        self.aggregate = (
            get_aggregation(aggregation) if isinstance(aggregation, str) else aggregation
        )

    def __call__(self, items: Sequence[Any]) -> float:
        """Aggregate the questions' items; NaN, said once, if that cannot be done."""
        try:
            return self._aggregate(items)
        except ValueError as error:  # F1 of more than two choices, say
            logger.warning("%s cannot be computed: %s", self.metric, str(error).rstrip("."))
            return math.nan

    def stderr(self, items: Sequence[Any], n_resamples: int) -> float:
        """Bootstrap standard error over questions; of a mean, lm-eval's own formula."""
        if len(items) < 2:
            return math.nan
        if self.aggregate is mean:
            return float(mean_stderr(items))
        rng = np.random.default_rng(SEED)
        draws = rng.integers(len(items), size=(min(n_resamples, MAX_RESAMPLES), len(items)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a resample without one of the classes
                values = [self._aggregate([items[i] for i in draw]) for draw in draws]
        except ValueError:
            return math.nan
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan

    def _aggregate(self, items: Sequence[Any]) -> float:
        usable = [item for item in items if item is not None]
        return float(self.aggregate(usable)) if usable else math.nan
