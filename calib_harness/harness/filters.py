"""Confidence methods as lm-eval filters.

A filter sees one flat list of responses, one per (question, choice), in order, and hands on
a pair (score, is_greedy) for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from lm_eval.api.filter import Filter
from lm_eval.api.registry import filter_registry, register_filter

from calib_harness.core.confidence import METHODS, choice_score
from calib_harness.errors import UserError
from calib_harness.harness.responses import TokenLogprobs


class Pair(tuple[float | None, bool]):
    """A choice's score and whether greedy decoding would write it, as lm-eval logs them.

    The score is None where the backend cannot give what the method needs. Of several filters
    lm-eval does not say whose pairs it hands to a task, so each pair knows its method.
    """

    method: str

    def __new__(cls, score: float | None, is_greedy: bool, method: str) -> Pair:
        """Make a pair; `method` is the filter's."""
        pair = super().__new__(cls, (score, is_greedy))
        pair.method = method
        return pair

    def __getnewargs__(self) -> tuple[Any, ...]:  # of several processes, one gathers the logs
        return (*self, self.method)


class MethodFilter(Filter):
    """Turn responses into scores by one confidence method."""

    method: ClassVar[str]

    def apply(self, resps: Iterable[Any], docs: Sequence[Any]) -> list[Pair]:
        """Score every response; `resps` holds one list per request, its first entry counts."""
        return [self.score(as_response(resp[0])) for resp in resps]

    def score(self, response: TokenLogprobs, n_bytes: int | None = None) -> Pair:
        """Score one choice; None if the backend does not give what the method needs."""
        tokens = response.token_logprobs
        if tokens is None and not METHODS[self.method].needs_token_logprobs:
            tokens = [response.logprob]
        if tokens is None:
            return Pair(None, response.is_greedy, self.method)
        score = choice_score(tokens, self.method, n_bytes=n_bytes)
        return Pair(score, response.is_greedy, self.method)


class ContinuationSum(MethodFilter):
    """Sum of the continuation's token log-probabilities."""

    method = "continuation-sum"


class ContinuationMin(MethodFilter):
    """Smallest of the continuation's token log-probabilities."""

    method = "continuation-min"


class ContinuationMean(MethodFilter):
    """Mean of the continuation's token log-probabilities."""

    method = "continuation-mean"


class ContinuationBytes(MethodFilter):
    """Sum of token log-probabilities per UTF-8 byte of the choice.

    A filter sees documents but not choices, so `CalibrationTask` passes its `doc_to_choice`.
    """

    method = "continuation-bytes"

    def __init__(self, doc_to_choice: Callable[[Any], list[str]] | None = None) -> None:
        if doc_to_choice is None:
            raise UserError(
                "filter 'continuation-bytes' needs the choices' texts; use it in a YAML with "
                "`class: !function calib_harness.CalibrationTask`"
            )
        self.doc_to_choice = doc_to_choice

    def apply(self, resps: Iterable[Any], docs: Sequence[Any]) -> list[Pair]:
        """Score every response, walking through the questions choice by choice."""
        pairs: list[Pair] = []
        responses = [as_response(resp[0]) for resp in resps]
        while len(pairs) < len(responses):
            for choice in self.doc_to_choice(docs[len(pairs)]):
                pairs.append(self.score(responses[len(pairs)], len(choice.encode())))
        return pairs


class Choice(MethodFilter):
    """Log-probability of the choice's letter under the choice prompt."""

    method = "choice"


FILTERS: dict[str, type[MethodFilter]] = {
    cls.method: cls
    for cls in (ContinuationSum, ContinuationMin, ContinuationMean, ContinuationBytes, Choice)
}


def as_response(response: Any) -> TokenLogprobs:
    """Accept what `loglikelihood` returns, too, so that filters work in any task."""
    if isinstance(response, TokenLogprobs):
        return response
    logprob, is_greedy = response[:2]
    return TokenLogprobs(float(logprob), bool(is_greedy), None)


def register() -> None:
    """Make the filters known to lm-eval's registry; safe to call again."""
    if set(FILTERS) != set(METHODS):
        raise RuntimeError(f"filters {sorted(FILTERS)} and methods {sorted(METHODS)} differ")
    for name, cls in FILTERS.items():
        if name not in filter_registry:
            register_filter(name)(cls)
