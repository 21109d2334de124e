"""`token_loglikelihood`: a request type for every lm-eval model.

lm-eval calls `getattr(lm, request_type)(requests)`, so a new request type is a new method of
its base class `LM`; no backend is subclassed or replaced. Results are cached one by one, so that
a killed run resumes where it was.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, hash_args

from calib_harness.core.confidence import LETTERS, is_lettered
from calib_harness.harness.backends import score_tokens
from calib_harness.harness.responses import UNSCORABLE, TokenLogprobs

logger = logging.getLogger(__name__)

REQUEST_TYPE = "token_loglikelihood"


def token_loglikelihood(self: LM, requests: list[Instance]) -> list[TokenLogprobs]:
    """Log-probability of every continuation token of every request.

    Parameters
    ----------
    requests
        lm-eval instances whose arguments are (context, continuation).

    Returns
    -------
    list of TokenLogprobs
        In the order of `requests`. Results are written to lm-eval's cache (`--use_cache`) as
        they are scored, so that a killed run resumes where it was.
    """
    if "lm_eval.models.huggingface" in sys.modules:
        # Registers the backend; not imported for others, since it loads transformers.
        import calib_harness.harness.huggingface.plain  # noqa: F401
    results: list[TokenLogprobs | None] = _read_cache(self, requests)
    missing = [index for index, result in enumerate(results) if result is None]
    for position, result in score_tokens(self, [requests[index] for index in missing]):
        index = missing[position]
        self.cache_hook.add_partial(REQUEST_TYPE, requests[index].args, result)
        results[index] = result
    # What a backend left out has no tokens, or more than it can read.
    scored = [UNSCORABLE if result is None else result for result in results]
    _warn_of_split_letters(self, requests, scored)
    return scored


def install() -> None:
    """Give every lm-eval model the request type; safe to call again."""
    LM.token_loglikelihood = token_loglikelihood


def _read_cache(lm: LM, requests: Sequence[Instance]) -> list[TokenLogprobs | None]:
    store = lm.cache_hook.dbdict
    if store is None:
        return [None] * len(requests)
    gives_tokens = score_tokens.dispatch(type(lm)) is not score_tokens.dispatch(LM)
    found: list[TokenLogprobs | None] = []
    without_tokens = 0
    for request in requests:
        cached: Any = store.get(hash_args(REQUEST_TYPE, request.args))
        result = None if cached is None else TokenLogprobs(*cached)
        if result is None:
            without_tokens += hash_args("loglikelihood", request.args) in store
        elif result.token_logprobs is None and gives_tokens:
            without_tokens += 1
            result = None
        found.append(result)
    logger.info("Cached requests: %d of %d", sum(r is not None for r in found), len(found))
    if without_tokens:
        logger.warning(
            "The cache holds %d of these requests as sums only, written without token "
            "log-probabilities; they are scored again.",
            without_tokens,
        )
    return found


def _warn_of_split_letters(
    lm: LM, requests: Sequence[Instance], results: Sequence[TokenLogprobs]
) -> None:
    """Say once if the tokenizer has no single token for a choice's letter."""
    questions: dict[Hashable, list[str]] = defaultdict(list)
    for request in requests:
        questions[request.task_name, request.doc_id].append(request.args[1])
    lettered = {question for question, choices in questions.items() if is_lettered(choices)}
    split = {
        request.args[1]: len(result.token_logprobs)
        for request, result in zip(requests, results, strict=True)
        if result.token_logprobs is not None
        and len(result.token_logprobs) > 1
        and request.args[1].strip() in LETTERS
        and (request.task_name, request.doc_id) in lettered
    }
    if split:
        logger.warning(
            "Tokenizer %s splits the letters %s into several tokens; their score under "
            "`choice` is the sum over these tokens.",
            getattr(lm, "tokenizer_name", type(lm).__name__),
            ", ".join(f"{letter!r} ({n})" for letter, n in sorted(split.items())),
        )
