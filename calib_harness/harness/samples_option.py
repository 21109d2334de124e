"""`--samples` of a task that is not run: lm-eval would score every question without a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import lm_eval.evaluator

from calib_harness.errors import UserError
from calib_harness.text import did_you_mean


def check_samples(tasks: Mapping[str, Any], samples: Mapping[str, Any]) -> None:
    """Refuse numbers of questions that are given for a name that is none of the tasks'.

    Raises
    ------
    UserError
        For the first such name: a misspelt one, or that of a group.
    """
    for name in samples:
        if name not in tasks:
            hint = did_you_mean(name, tasks)
            raise UserError(
                f"--samples: {name!r} is none of the tasks that are run; "
                f"{hint}{' ' if hint else ''}expected names of "
                f"single tasks, not of groups: {', '.join(sorted(tasks))}"
            )


def install() -> None:
    """Let lm-eval's evaluation check its samples first; safe to call again."""
    evaluate: Callable[..., Any] = lm_eval.evaluator.evaluate
    if hasattr(evaluate, "calib_harness"):
        return

    @wraps(evaluate)
    def checked(*args: Any, **kwargs: Any) -> Any:
        task_dict = kwargs.get("task_dict", args[1] if len(args) > 1 else {})
        tasks = task_dict.get("tasks") if isinstance(task_dict, Mapping) else None
        if isinstance(tasks, Mapping) and kwargs.get("samples"):
            check_samples(tasks, kwargs["samples"])
        return evaluate(*args, **kwargs)

    checked.calib_harness = True  # type: ignore[attr-defined]
    lm_eval.evaluator.evaluate = checked
