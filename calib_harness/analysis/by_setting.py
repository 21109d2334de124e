"""One model under several settings: 0 against 5 shots, with and without chat template, 4 bits."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from calib_harness.analysis.backend_differences import TRANSFORMERS, arguments_of, backend_of
from calib_harness.analysis.matching import Match
from calib_harness.errors import ArgumentError
from calib_harness.predictions.table import Header, Predictions

logger = logging.getLogger(__name__)

# What a header says of how a run was made, and may be compared; everything else is in `settings`.
_IN_HEADER = ("n_shot", "chat_template", "revision", "lm_eval_version", "task_version")
#: What stands for an argument that was not given.
DEFAULT = "default"


def match_by(predictions: Iterable[Predictions], by: str) -> list[Match]:
    """Match the runs of each model that differ in one setting and in nothing else.

    Parameters
    ----------
    predictions : iterable of Predictions
    by : str
        ``n_shot``, ``chat_template``, ``revision``, ``backend`` (whatever arguments each was
        given besides), or the name of a model argument (``dtype``, ``load_in_4bit``);
        ``NAME=VALUE`` says which value the others are compared with. Otherwise that is no chat
        template, the argument that was not given, the smallest value, or transformers.

    Returns
    -------
    list of (names, runs)
        ``family`` is the model, ``base`` and ``aligned`` the two values as ``NAME=VALUE``.

    Raises
    ------
    ArgumentError
        If no model was run on a task with two values of the setting, or with the one named.
    """
    name, named, reference = by.partition("=")
    if not name:
        raise ArgumentError(f"by must name a setting, e.g. n_shot or n_shot=0; got {by!r}.")
    matched: list[Match] = []
    seen: set[str] = set()
    for key, of_value in _groups(list(predictions), name).items():
        values = sorted(of_value, key=_order)
        seen |= set(values)
        first = reference if named else values[0]
        if first not in of_value or len(values) < 2:
            continue
        for value in values:
            if value != first:
                names = _names(key, name, first, value)
                matched.append((names, (of_value[first], of_value[value])))
    if not matched:
        raise ArgumentError(
            f"by {by}: no model was run on one task and method with two values of {name} and "
            f"otherwise alike; found {', '.join(sorted(seen, key=_order)) or 'none'}."
        )
    return matched


def _groups(
    predictions: list[Predictions], name: str
) -> dict[tuple[Any, ...], dict[str, Predictions]]:
    """Return the newest run for each value of the setting, by all else that a run is."""
    groups: dict[tuple[Any, ...], dict[str, Predictions]] = defaultdict(dict)
    for p in sorted(predictions, key=lambda p: p.header.date):
        h = p.header
        model = h.model if name == "revision" else h.label
        value, others = _value(h, name)
        if value is None:
            logger.warning("%s on %s: its %s is unknown; left out", h.label, h.task, name)
            continue
        shots = None if name == "n_shot" else h.n_shot
        chat = None if name == "chat_template" else h.chat_template
        groups[model, h.task, h.method, shots, chat, others][value] = p
    return groups


def _value(header: Header, name: str) -> tuple[str | None, str]:
    """Return the value of the setting, and the other settings."""
    if name in _IN_HEADER and name in {field.name for field in fields(header)}:
        value = getattr(header, name)
        missing = "main" if name == "revision" else None
        arguments = arguments_of(header)
        if name == "chat_template":  # lm-eval turns both on at once
            arguments.pop("fewshot_as_multiturn", None)
        return (missing if value in (None, "") else str(value)), _written(arguments)
    if name == "backend":
        return backend_of(header), ""
    arguments = arguments_of(header)
    value = arguments.pop(name, DEFAULT)
    return value, _written(arguments)


def _written(arguments: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in arguments.items())


def _order(value: str) -> tuple[int, float, str]:
    """Sort what was not given or is off first, then numbers by size, then texts."""
    if value in (DEFAULT, "False", TRANSFORMERS):
        return 0, 0.0, value
    try:
        return 1, float(value), value
    except ValueError:
        return 2, 0.0, value


def _names(key: tuple[Any, ...], name: str, first: str, value: str) -> dict[str, Any]:
    model, task, method, n_shot, chat_template, _ = key
    return {
        "family": model,
        "base": f"{name}={first}",
        "aligned": f"{name}={value}",
        "task": task,
        "method": method,
        "n_shot": n_shot,
        "chat_template": chat_template,
    }
