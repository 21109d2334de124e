"""`token_loglikelihood`: a request type for every lm-eval model.

lm-eval calls `getattr(lm, request_type)(requests)`, so a new request type is a new method of
its base class `LM`; no backend is subclassed or replaced. Results are cached one by one, so that
a killed run resumes where it was.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from calib_harness.core.confidence import LETTERS, is_lettered
from calib_harness.harness.backends.dispatch import (
    confirm,
    gives_tokens,
    register_known,
    score_tokens,
)
from calib_harness.harness.backends.known_answer import WRONG
from calib_harness.harness.backends.other_prompts import warn_of_other_prompts
from calib_harness.harness.backends.refused import refuse_unmeasurable
from calib_harness.harness.backends.run_checks import WrongScoresError, checked
from calib_harness.harness.backends.sums import warn_of_sums_only, without_cache
from calib_harness.harness.cached_scores import REQUEST_TYPE, CachedScores
from calib_harness.harness.responses import UNSCORABLE, TokenLogprobs

__all__ = ["REQUEST_TYPE", "install", "token_loglikelihood"]

logger = logging.getLogger(__name__)

# Cached requests that are asked again of a backend whose weights cannot be seen.
_N_ASKED_AGAIN = 2


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

    Raises
    ------
    UserError
        If the backend has no log-probabilities of choices, or they are found to be wrong, before
        or while it scores.
    """
    refuse_unmeasurable(self)
    register_known()
    warn_of_other_prompts(self, requests)
    cache = CachedScores(self)
    results = cache.read(requests)
    if any(results):
        results = _confirm_cached(self, cache, requests, results)
    # Choices after a neutral context recur from question to question: each is asked once.
    missing: dict[Hashable, list[int]] = defaultdict(list)
    for index, result in enumerate(results):
        if result is None:
            missing[requests[index].args].append(index)
    asked = [requests[first] for first, *_ in missing.values()]
    if asked:
        if not gives_tokens(self):
            warn_of_sums_only(self)
        confirm(self, asked)
    places = list(missing.values())
    for position, result in _score(self, cache, asked):
        for index in places[position]:
            results[index] = result
    # What a backend left out has no tokens, or more than it can read.
    scored = [UNSCORABLE if result is None else result for result in results]
    _warn_of_split_letters(self, requests, scored)
    return scored


def _score(
    lm: LM, cache: CachedScores, requests: Sequence[Instance]
) -> Iterator[tuple[int, TokenLogprobs]]:
    """Score requests, check the results, and keep each as it comes."""
    try:
        with cache.redirected():
            for index, result in checked(type(lm).__name__, requests, score_tokens(lm, requests)):
                cache.write(requests[index], result)
                yield index, result
    except WrongScoresError:
        cache.forget_written()
        raise


def _confirm_cached(
    lm: LM,
    cache: CachedScores,
    requests: Sequence[Instance],
    results: list[TokenLogprobs | None],
) -> list[TokenLogprobs | None]:
    """Ask some cached requests again where the weights behind them cannot be seen.

    A server may by now serve another model under the same name.
    """
    if cache.knows_weights:
        return results
    known = [index for index, result in enumerate(results) if result is not None]
    # A letter that a chat endpoint did not tell is judged by its question's others.
    told = [i for i, result in enumerate(results) if result and math.isfinite(result.logprob)]
    asked = told or known
    sample = asked[:: max(1, len(asked) // _N_ASKED_AGAIN)][:_N_ASKED_AGAIN]
    with without_cache(lm):
        again = dict(score_tokens(lm, [requests[index] for index in sample]))
    for position, index in enumerate(sample):
        old, new = results[index], again.get(position, UNSCORABLE)
        if old is not None and not _alike(old.logprob, new.logprob):
            logger.warning(
                "The cached score of a request is %.4f, but the backend now says %.4f: another "
                "model answers. The %d cached requests are scored again.",
                old.logprob,
                new.logprob,
                len(known),
            )
            cache.forget(requests[index] for index in known)
            return [None] * len(requests)
    return results


def _alike(one: float, other: float) -> bool:
    return one == other or abs(one - other) <= WRONG or (math.isnan(one) and math.isnan(other))


def install() -> None:
    """Give every lm-eval model the request type; safe to call again."""
    LM.token_loglikelihood = token_loglikelihood


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
            _tokenizer_name(lm),
            ", ".join(f"{letter!r} ({n})" for letter, n in sorted(split.items())),
        )


def _tokenizer_name(lm: LM) -> str:
    """Name the backend's tokenizer, or the backend if it does not say."""
    try:
        return str(lm.tokenizer_name or type(lm).__name__)
    except NotImplementedError:
        return type(lm).__name__
