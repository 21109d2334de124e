"""The fallback: what lm-eval's own `loglikelihood` knows of any backend, sums only."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, cast

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, CacheHook

from calib_harness.core.confidence import METHODS
from calib_harness.errors import UserError
from calib_harness.harness.backends.run_checks import WrongScoresError
from calib_harness.harness.responses import TokenLogprobs

logger = logging.getLogger(__name__)

#: Requests handed to a backend at once; of one that writes no cache itself, what a kill can cost.
CHUNK = 256


def score_sums(lm: LM, requests: Sequence[Instance]) -> Iterator[tuple[int, TokenLogprobs]]:
    """Score requests by `lm.loglikelihood`; yield each one's index and result.

    Raises
    ------
    UserError
        If the backend has no log-probabilities, or answers another number of requests than it was
        asked: it cannot be known which answer belongs to which.
    """
    todo = iter(enumerate(requests))
    while chunk := list(islice(todo, CHUNK)):
        answers = ask_for_sums(lm, [request for _, request in chunk])
        for (index, _), answer in zip(chunk, answers, strict=True):
            yield index, answer


def warn_of_sums_only(lm: LM) -> None:
    """Say which methods a backend without token log-probabilities cannot give."""
    missing = [method.name for method in METHODS.values() if method.needs_token_logprobs]
    logger.warning(
        "Backend %s gives no token log-probabilities: %s will be NaN; %s are not affected.",
        type(lm).__name__,
        " and ".join(missing),
        ", ".join(method for method in METHODS if method not in missing),
    )


def ask_for_sums(lm: LM, requests: Sequence[Instance]) -> list[TokenLogprobs]:
    """Return `lm.loglikelihood` of requests, as many answers as requests."""
    name = type(lm).__name__
    try:
        with failing_in_a_sentence(lm):
            answers = list(lm.loglikelihood(list(requests)))
    except NotImplementedError as error:
        raise UserError(
            f"model: backend {name} gives no log-probabilities of a text ({_first_line(error)}); "
            "score this model with a backend that does (docs/how-to/backends.md lists them)"
        ) from None
    if len(answers) != len(requests):
        raise WrongScoresError(
            f"model: backend {name} gave {len(answers)} results for {len(requests)} requests, so "
            "it cannot be known which belongs to which; it dropped what the server answered badly. "
            "Look at its messages above and mend the server, or use another backend"
        )
    return [_read(name, answer) for answer in answers]


def _read(name: str, answer: object) -> TokenLogprobs:
    try:
        logprob, greedy = cast("tuple[float, bool]", answer)
        return TokenLogprobs(float(logprob), bool(greedy), None)
    except (TypeError, ValueError):
        raise WrongScoresError(
            f"model: backend {name} answered a request with {str(answer)[:60]!r}, expected a "
            "log-probability and whether it is greedy; its server did not tell one. Look at its "
            "messages above and mend the server, or use another backend"
        ) from None


@contextmanager
def failing_in_a_sentence(lm: LM) -> Iterator[None]:
    """Turn what a backend's own code raises into a sentence; the rest is logged for debugging.

    Raises
    ------
    UserError
        In place of any other error but NotImplementedError.
    """
    try:
        yield
    except (UserError, NotImplementedError):
        raise
    except Exception as error:
        logger.debug("Backend %s failed", type(lm).__name__, exc_info=True)
        raise UserError(
            f"model: backend {type(lm).__name__} failed ({type(error).__name__}: "
            f"{_first_line(error)}); what was scored is in the cache if one is used (use_cache): "
            "mend the cause and run the same command (LMEVAL_LOG_LEVEL=DEBUG shows where it failed)"
        ) from None


@contextmanager
def without_cache(lm: LM) -> Iterator[None]:
    """Keep what is asked inside out of lm-eval's cache."""
    hook: Any = lm.cache_hook
    lm.set_cache_hook(CacheHook(None))
    try:
        yield
    finally:
        lm.set_cache_hook(hook)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["it says nothing more"])[0]
