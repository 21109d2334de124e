"""One model on several backends: by how much its scores differ."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from calib_harness.analysis.joining import on_shared_questions
from calib_harness.predictions.table import Header, Predictions

logger = logging.getLogger(__name__)

#: What a run on transformers is called: its settings name no backend.
TRANSFORMERS = "hf"


@dataclass(frozen=True)
class BackendDifference:
    """Two runs of one model, task and method that differ in their backend.

    Attributes
    ----------
    first, second : Header
    n : int
        Questions that both answered.
    score : float
        Largest difference of a choice's score (nats); infinite if one side has none.
    prob : float
        Largest difference of a choice's probability.
    predictions : int
        Questions on which another choice is the likeliest.
    settings : tuple of str
        Arguments whose values differ beside the backend: ``dtype: float32, bfloat16``.
    """

    first: Header
    second: Header
    n: int
    score: float
    prob: float
    predictions: int
    settings: tuple[str, ...]


def backend_differences(predictions: Iterable[Predictions]) -> list[BackendDifference]:
    """Hold the runs of a model on other backends against its first, transformers if there is one.

    Parameters
    ----------
    predictions : iterable of Predictions
        Of one backend and setting the newest run counts; runs that share no question are left
        out. An argument that only one side was given
        (vLLM's ``max_model_len``) makes no other setting.
    """
    groups: dict[tuple[object, ...], dict[str, Predictions]] = defaultdict(dict)
    for p in sorted(predictions, key=lambda p: p.header.date):
        h = p.header
        groups[h.label, h.task, h.method, h.n_shot, h.chat_template][backend_of(h)] = p
    found = []
    for of_backend in groups.values():
        first, *others = sorted(of_backend, key=lambda name: (name != TRANSFORMERS, name))
        found += [_difference(of_backend[first], of_backend[other]) for other in others]
    return [difference for difference in found if difference.n]


def say_differences(predictions: Iterable[Predictions]) -> None:
    """Say in a sentence for each model and two of its backends how far their scores are apart."""
    groups: dict[tuple[str, str, str], list[BackendDifference]] = defaultdict(list)
    for found in backend_differences(predictions):
        first, second = backend_of(found.first), backend_of(found.second)
        groups[found.first.label, first, second].append(found)
    for (model, first, second), group in groups.items():
        worst = max(group, key=lambda each: each.score)
        others = dict.fromkeys(text for each in group for text in each.settings)
        logger.warning(
            "%s was run on %s and %s%s: on their shared questions a choice's score differs by at "
            "most %.2g (%s, %s, %d questions), its probability by at most %.2g; %d of %d "
            "predictions differ",
            model,
            first,
            second,
            f", with other settings too ({'; '.join(others)})" if others else "",
            worst.score,
            worst.first.task,
            worst.first.method,
            worst.n,
            max(each.prob for each in group),
            sum(each.predictions for each in group),
            sum(each.n for each in group),
        )


def backend_of(header: Header) -> str:
    """Return the name of the backend that a run was made on."""
    return arguments_of(header).get("backend", TRANSFORMERS)


def arguments_of(header: Header) -> dict[str, str]:
    """Return what a header's settings say, by name."""
    return dict(part.split("=", 1) for part in header.settings.split(", ") if "=" in part)


def _difference(first: Predictions, second: Predictions) -> BackendDifference:
    runs = on_shared_questions([first, second])
    usable = runs[0].usable & runs[1].usable
    width = min(run.scores.shape[1] for run in runs)
    scores = [run.scores[usable, :width] for run in runs]
    probs = [run.probs[usable, :width] for run in runs]
    chosen = [np.nan_to_num(each, nan=-1.0).argmax(axis=1) for each in probs]
    own, theirs = arguments_of(first.header), arguments_of(second.header)
    settings = tuple(
        f"{name}: {own[name]}, {theirs[name]}"
        for name in own
        if name != "backend" and theirs.get(name, own[name]) != own[name]
    )
    return BackendDifference(
        first.header,
        second.header,
        n=int(usable.sum()),
        score=_largest(*scores),
        prob=_largest(*probs),
        predictions=int((chosen[0] != chosen[1]).sum()),
        settings=settings,
    )


def _largest(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference; 0 where both have nothing or the same infinity."""
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(one - other))
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))
