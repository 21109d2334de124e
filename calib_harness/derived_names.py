"""Names of calibration tasks that are made of lm-eval's own, and what they stand for."""

from __future__ import annotations

import re
from typing import Literal

Prompt = Literal["stock", "cloze", "choice", "both"]
PROMPTS: tuple[Prompt, ...] = ("stock", "cloze", "choice", "both")
SUFFIX = "_calib"
POOLED = "_calib_pooled"
#: Of a variant that asks in words of its own; their name follows.
WORDED = "_calib_prompt_"
_OF_THE_PROMPT = re.compile(rf"{SUFFIX}(_cloze|_choice|_prompt_.+)?$")


def stem_of(name: str) -> tuple[str, Prompt, bool] | None:
    """Take a derived task's name apart: stock name, prompt, whether pooled; None if it is not one.

    Examples
    --------
    >>> stem_of("arc_easy_calib_choice"), stem_of("mmlu_calib_pooled"), stem_of("arc_easy")
    (('arc_easy', 'choice', False), ('mmlu', 'stock', True), None)
    """
    endings: tuple[tuple[str, Prompt, bool], ...] = (
        (POOLED, "stock", True),
        (f"{SUFFIX}_cloze", "cloze", False),
        (f"{SUFFIX}_choice", "choice", False),
        (SUFFIX, "stock", False),
    )
    for ending, prompt, pool in endings:
        if name.endswith(ending) and len(name) > len(ending):
            return name.removesuffix(ending), prompt, pool
    return None


def benchmark_of(task: str) -> str:
    """Return what a task and its variants under other prompts have in common.

    Examples
    --------
    >>> benchmark_of("arc_easy_calib_prompt_plain"), benchmark_of("arc_easy_calib_choice")
    ('arc_easy', 'arc_easy')
    """
    return _OF_THE_PROMPT.sub("", task)
