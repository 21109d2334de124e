"""Names of calibration tasks that are made of lm-eval's own, and what they stand for."""

from __future__ import annotations

from typing import Literal

Prompt = Literal["stock", "cloze", "choice", "both"]
PROMPTS: tuple[Prompt, ...] = ("stock", "cloze", "choice", "both")
SUFFIX = "_calib"
POOLED = "_calib_pooled"


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
