"""Confidence methods as lm-eval filters.

A filter sees one flat list of responses, one per (question, choice), in order, and hands on
a pair (score, is_greedy) for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from lm_eval.api.filter import Filter
from lm_eval.api.registry import filter_registry, register_filter

from calib_harness.core.checks import FloatArray
from calib_harness.core.choice_order import letter_effect, permuted_probs, prior_free_probs
from calib_harness.core.confidence import METHODS, choice_score
from calib_harness.errors import UserError
from calib_harness.harness.question_requests import Layout
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
    """Turn responses into scores by one confidence method.

    Parameters
    ----------
    layout : callable, optional
        Says what a question's requests are, where there are others than its choices: these are
        handed on as they are.
    """

    method: ClassVar[str]

    def __init__(self, layout: Callable[[Any], Layout] | None = None) -> None:
        self.layout = layout

    def apply(self, resps: Iterable[Any], docs: Sequence[Any]) -> list[Any]:
        """Score every response; `resps` holds one list per request, its first entry counts."""
        responses = [as_response(resp[0]) for resp in resps]
        if self.layout is None:
            return [self.score(response) for response in responses]
        scored: list[Any] = []
        for layout, part in _questions(responses, docs, self.layout):
            scored += self.question(part, layout)
            scored += _as_they_are(part, layout)
        return scored

    def question(self, responses: Sequence[TokenLogprobs], layout: Layout) -> list[Pair]:
        """Score one question's choices; `responses` holds all its requests'."""
        return [self.score(response) for response in responses[: layout.n_choices]]

    def score(self, response: TokenLogprobs, n_bytes: int | None = None) -> Pair:
        """Score one choice; None if the backend does not give what the method needs."""
        tokens = response.token_logprobs
        if tokens is None and not METHODS[self.method].needs_token_logprobs:
            tokens = [response.logprob]
        if tokens is None:
            return Pair(None, response.is_greedy, self.method)
        score = choice_score(tokens, self.method, n_bytes=n_bytes)
        return Pair(score, response.is_greedy, self.method)


def _questions(
    responses: Sequence[TokenLogprobs], docs: Sequence[Any], layout_of: Callable[[Any], Layout]
) -> Iterator[tuple[Layout, Sequence[TokenLogprobs]]]:
    """Cut the flat list into questions."""
    begin = 0
    while begin < len(responses):
        layout = layout_of(docs[begin])
        yield layout, responses[begin : begin + layout.n_requests]
        begin += layout.n_requests


def _as_they_are(responses: Sequence[TokenLogprobs], layout: Layout) -> list[tuple[float, bool]]:
    """Return what a log keeps of a question's other requests: their sums."""
    others = responses[layout.n_choices :]
    return [(response.logprob, response.is_greedy) for response in others]


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

    A filter sees documents but not choices, so `CalibrationTask` passes its `layout`.
    """

    method = "continuation-bytes"

    def __init__(self, layout: Callable[[Any], Layout] | None = None) -> None:
        if layout is None:
            raise UserError(
                "filter 'continuation-bytes' needs the choices' texts; use it in a YAML with "
                "`class: !function calib_harness.CalibrationTask`"
            )
        super().__init__(layout)

    def question(self, responses: Sequence[TokenLogprobs], layout: Layout) -> list[Pair]:
        """Score one question's choices, each by its own length."""
        return [
            self.score(response, len(choice.encode()))
            for choice, response in zip(layout.choices, responses, strict=False)
        ]


class Choice(MethodFilter):
    """Log-probability of the choice's letter under the choice prompt."""

    method = "choice"


class ContinuationPmi(MethodFilter):
    """What the question adds to a choice: its sum less its sum after the neutral context.

    Holtzman et al. 2021; lm-eval's `acc_mutual_info`, whose neutral context is empty.
    """

    method = "continuation-pmi"

    def question(self, responses: Sequence[TokenLogprobs], layout: Layout) -> list[Pair]:
        """Score one question's choices, of which the last requests were without it."""
        k = layout.n_choices
        sums = [math.fsum(_tokens(response)) for response in responses]
        return [
            Pair(with_it - without, response.is_greedy, self.method)
            for response, with_it, without in zip(responses[:k], sums[:k], sums[-k:], strict=True)
        ]


class ChoicePermuted(MethodFilter):
    """Log of a choice's probability, averaged over the orders in which the choices were shown."""

    method = "choice-permuted"

    def question(self, responses: Sequence[TokenLogprobs], layout: Layout) -> list[Pair]:
        """Score one question's choices by all its orders."""
        probs = permuted_probs(_by_order(responses, layout), layout.orders)
        with np.errstate(divide="ignore"):
            scores = np.log(probs)
        return _pairs(scores, responses, self.method)


class ChoicePriorFree(MethodFilter):
    """`choice` with the model's prior over letters divided out (Zheng et al. 2024).

    The prior comes from the questions' other orders; each question's, from the half of the
    questions that it is not in.
    """

    method = "choice-prior-free"

    def apply(self, resps: Iterable[Any], docs: Sequence[Any]) -> list[Any]:
        """Score all questions; those with one number of choices share a prior."""
        if self.layout is None:
            raise UserError("filter 'choice-prior-free' needs a calibration task with `orders`")
        responses = [as_response(resp[0]) for resp in resps]
        questions = list(_questions(responses, docs, self.layout))
        scores: dict[int, FloatArray] = {}
        for k in {layout.n_choices for layout, _ in questions}:
            numbers = [i for i, (layout, _) in enumerate(questions) if layout.n_choices == k]
            tables = [_by_order(questions[i][1], questions[i][0]) for i in numbers]
            effects = [
                letter_effect(table, questions[i][0].orders)
                for i, table in zip(numbers, tables, strict=True)
            ]
            probs, _ = prior_free_probs([table[0] for table in tables], effects)
            with np.errstate(divide="ignore"):
                scores.update(zip(numbers, np.log(probs), strict=True))
        scored: list[Any] = []
        for i, (layout, part) in enumerate(questions):
            scored += _pairs(scores[i], part, self.method)
            scored += _as_they_are(part, layout)
        return scored


def _tokens(response: TokenLogprobs) -> list[float]:
    """Log-probabilities of the tokens, or of all of them in one; as every sum here is made."""
    tokens = response.token_logprobs
    if tokens is None:
        return [response.logprob]
    return tokens or [math.nan]


def _by_order(responses: Sequence[TokenLogprobs], layout: Layout) -> FloatArray:
    n = layout.n_choices * len(layout.orders)
    sums = [math.fsum(_tokens(response)) for response in responses[:n]]
    return np.reshape(sums, (len(layout.orders), layout.n_choices))


def _pairs(scores: Iterable[float], responses: Iterable[TokenLogprobs], method: str) -> list[Pair]:
    return [
        Pair(float(score), response.is_greedy, method)
        for score, response in zip(scores, responses, strict=False)
    ]


#: Filters of requests beside a question's own choices, which a log's plain readers pass over.
DERIVED_FILTERS: dict[str, type[MethodFilter]] = {
    cls.method: cls for cls in (ContinuationPmi, ChoicePermuted, ChoicePriorFree)
}
FILTERS: dict[str, type[MethodFilter]] = {
    cls.method: cls
    for cls in (ContinuationSum, ContinuationMin, ContinuationMean, ContinuationBytes, Choice)
} | DERIVED_FILTERS


def is_method_filter(name: object) -> bool:
    """Say whether lm-eval's registry has a method's filter of this name, ours or another's."""
    if not isinstance(name, str) or name not in filter_registry:
        return False
    found = filter_registry.get(name)
    return isinstance(found, type) and issubclass(found, MethodFilter)


def as_response(response: Any) -> TokenLogprobs:
    """Accept what `loglikelihood` returns, too, so that filters work in any task."""
    if isinstance(response, TokenLogprobs):
        return response
    logprob, is_greedy = response[:2]
    return TokenLogprobs(float(logprob), bool(is_greedy), None)


def register() -> None:
    """Make the filters known to lm-eval's registry; safe to call again."""
    if set(FILTERS) - set(DERIVED_FILTERS) != set(METHODS):
        raise RuntimeError(f"filters {sorted(FILTERS)} and methods {sorted(METHODS)} differ")
    for name, cls in FILTERS.items():
        if name not in filter_registry:
            register_filter(name)(cls)
