"""Counted warnings about a task's questions, once they are scored."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from lm_eval.api.instance import Instance

from calib_harness.core.confidence import pack_scores
from calib_harness.harness.filters import as_response

logger = logging.getLogger(__name__)

#: What the probabilities of a question's letters may exceed 1 by: rounding, in half precision too.
MASS_TOLERANCE = 0.01


def warn_of_unusable(
    task: str, unusable: Mapping[str, Sequence[int]], methods: Iterable[str], n: int
) -> None:
    """Count and name questions that cannot be used; methods that lose the same ones together.

    Parameters
    ----------
    unusable
        Numbers of the questions that cannot be used, by method.
    methods
        The methods to speak of.
    n
        Number of questions.
    """
    by_questions: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for method in methods:
        by_questions[tuple(unusable[method])].append(method)
    for questions, alike in by_questions.items():
        if questions:
            logger.warning(
                "%s, %s: %d of %d questions cannot be used (gold not among the choices, a "
                "score NaN, or all of them -inf) and count for acc only, as wrong. First: %s",
                task,
                " and ".join(alike),
                len(questions),
                n,
                _first(questions),
            )


def warn_of_left_out(task: str, metrics: Sequence[str]) -> None:
    """Name the metrics of a YAML that a calibration task does not compute."""
    if metrics:
        logger.warning(
            "%s: metric_list holds %s, which no score of a choice gives; left out.",
            task,
            ", ".join(metrics),
        )


def warn_of_empty_choices(
    task: str, questions: Mapping[int, Sequence[Instance]], delimiter: str
) -> None:
    """Count and name questions with a choice of which the delimiter alone was scored.

    They are kept, since lm-eval's own tasks score them so.
    """
    empty = [
        doc_id
        for doc_id, requests in questions.items()
        if any(request.args[1] and not request.args[1].strip() for request in requests)
    ]
    if empty:
        logger.warning(
            "%s: %d of %d questions have an empty choice, scored by the delimiter %r alone; "
            "leave them out with process_docs. First: %s",
            task,
            len(empty),
            len(questions),
            delimiter,
            _first(empty),
        )


def warn_of_mass(task: str, questions: Mapping[int, Sequence[Instance]]) -> None:
    """Count questions whose letters have more than all probability, which is impossible."""
    logprobs = [
        [as_response(request.resps[0]).logprob for request in requests]
        for requests in questions.values()
    ]
    with np.errstate(over="ignore"):
        mass = np.nansum(np.exp(pack_scores(logprobs)), axis=1)
    beyond = [n for n, m in zip(questions, mass, strict=True) if m > 1.0 + MASS_TOLERANCE]
    if beyond:
        logger.warning(
            "%s: in %d of %d questions the probabilities of the letters add up to more than 1 "
            "(to %.2f at most): this backend's scores are no log-probabilities, and confidences "
            "made of them mean nothing. First: %s",
            task,
            len(beyond),
            len(questions),
            mass.max(),
            _first(beyond),
        )


def _first(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5]))
