"""Which function scores the requests of which backend.

A backend's own module is imported only where lm-eval has imported that backend: importing vllm,
say, takes half a minute and is no business of others.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from functools import singledispatch

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from calib_harness.harness.backends.known_answer import confirm_by_generation
from calib_harness.harness.backends.sums import score_sums
from calib_harness.harness.responses import TokenLogprobs

_ROOM = "calib_harness.harness"

#: Module of lm-eval that holds backends -> our module that scores with them.
_MODULES = {
    "lm_eval.models.huggingface": f"{_ROOM}.huggingface.plain",
    "lm_eval.models.vllm_causallms": f"{_ROOM}.backends.vllm_engine",
    "lm_eval.models.openai_completions": f"{_ROOM}.backends.chat",  # and completions with it
    "lm_eval.models.sglang_causallms": f"{_ROOM}.backends.sglang_engine",
    "lm_eval.models.sglang_generate_API": f"{_ROOM}.backends.sglang_engine",
    "lm_eval.models.gguf": f"{_ROOM}.backends.llama_cpp",
}


@singledispatch
def score_tokens(lm: LM, requests: Sequence[Instance]) -> Iterator[tuple[int, TokenLogprobs]]:
    """Score requests; yield each one's index and result as soon as it is known.

    The fallback asks `lm.loglikelihood`, which knows sums only. Register a function for a
    model class with ``@score_tokens.register(ModelClass)`` to do better.
    """
    yield from score_sums(lm, requests)


@singledispatch
def confirm(lm: LM, requests: Sequence[Instance]) -> None:
    """Find out by a question with a known answer whether a backend's scores can be right.

    The fallback has the backend generate, and scores what it has said. Register a function for a
    model class with ``@confirm.register(ModelClass)`` where more can be known.

    Parameters
    ----------
    requests
        What is about to be scored; the probe takes its prompts from them.

    Raises
    ------
    UserError
        If the backend's log-probabilities are certainly wrong.
    """
    confirm_by_generation(lm, requests, score_tokens)


def register_known() -> None:
    """Register the backends that lm-eval has imported; safe to call again."""
    for theirs, ours in _MODULES.items():
        if theirs in sys.modules:
            importlib.import_module(ours)


def gives_tokens(lm: LM) -> bool:
    """Say whether a backend has a function of its own, and so tells each token."""
    return score_tokens.dispatch(type(lm)) is not score_tokens.dispatch(LM)
