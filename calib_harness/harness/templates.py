"""Templates of YAMLs, compiled once.

lm-eval compiles a template each time it reads a field of a question, and a question with a choice
prompt is read eleven times: 8 ms each on a small CPU, more than a small model takes to score it.
"""

from __future__ import annotations

from functools import lru_cache

from lm_eval import utils

from calib_harness.harness.seam import HAS_SCORERS

#: Few tasks have more than four templates; past this the one longest unused is compiled again.
_MOST_KEPT = 4096


def install() -> None:
    """Make lm-eval's Jinja environment keep what it compiled; once is enough, and 0.5 does so."""
    if not HAS_SCORERS and not hasattr(utils.env.from_string, "cache_info"):
        keeping = lru_cache(maxsize=_MOST_KEPT)(utils.env.from_string)
        setattr(utils.env, "from_string", keeping)  # noqa: B010 (a method, to mypy)
