"""What lm-eval 0.5's pre-release does otherwise than 0.4: the rest of the room knows 0.4 alone.

`StockTask` is lm-eval's multiple-choice task as 0.4 has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import lm_eval.api.metrics
import lm_eval.evaluator_utils
from lm_eval.api import registry, task
from lm_eval.api.instance import Instance

#: Whether tasks have scorers, as since 0.5.
HAS_SCORERS = find_spec("lm_eval.scorers") is not None

#: The module in which lm-eval looks `stderr_for_metric` up when it aggregates.
OF_STDERR: Any = lm_eval.api.metrics if HAS_SCORERS else lm_eval.evaluator_utils


def number_of(arguments: Mapping[str, Any]) -> int:
    """Return a question's number, out of what `construct_requests` is given by name."""
    return int(arguments["doc_id"] if HAS_SCORERS else arguments["metadata"][1])


def new_request(kind: str, arguments: tuple[Any, ...], question: Any) -> Instance:
    """Make a request that is of no task; `question` says which belong together."""
    of = (
        {"task_name": "probe", "doc_id": question}
        if HAS_SCORERS
        else {"metadata": ("probe", question, 1)}
    )
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0, **of)


def aggregation_of(metric: str) -> Any:
    """Return how lm-eval aggregates one of its own metrics."""
    if HAS_SCORERS:
        return registry.metric_registry.get(metric).aggregation
    return registry.get_metric_aggregation(metric)


def _stock_task() -> Any:
    if HAS_SCORERS:
        from calib_harness.harness.scorer_task import ScorerTask

        return ScorerTask
    return task.ConfigurableTask


StockTask = _stock_task()
