"""What can be seen of wrong results while a run goes on: places, signs, sums, constants."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence

from lm_eval.api.instance import Instance

from calib_harness.errors import UserError
from calib_harness.harness.responses import TokenLogprobs


class WrongScoresError(UserError):
    """A backend's scores are certainly wrong: none of them may be kept."""


#: A log-probability may exceed 0 by this: rounding, in half precision too.
_ABOVE_ZERO = 1e-2

#: A sum may differ from the sum of its tokens by this for each of them.
_SUM_TOLERANCE = 1e-3

#: Questions, all choices of each exactly alike, after which a run is ended at once.
_ALIKE = 8


def checked(
    backend: str, requests: Sequence[Instance], results: Iterator[tuple[int, TokenLogprobs]]
) -> Iterator[tuple[int, TokenLogprobs]]:
    """Hand results on as long as they can be right.

    Raises
    ------
    WrongScoresError
        If a result belongs to no request or comes twice, is above 0, differs from the sum of its
        tokens, or if all choices of all questions have the same score.
    """
    seen: set[int] = set()
    constants = _Constants(backend, requests)
    for index, result in results:
        if index in seen or not 0 <= index < len(requests):
            raise WrongScoresError(
                f"model: backend {backend} gave a result for request {index} "
                f"{'twice' if index in seen else f'of {len(requests)}'}; it cannot be known which "
                "result belongs to which request"
            )
        seen.add(index)
        _check_value(backend, requests[index], result)
        constants.note(index, result)
        yield index, result
    constants.judge(fewest=2)


def _check_value(backend: str, request: Instance, result: TokenLogprobs) -> None:
    tokens = result.token_logprobs
    continuation = repr(request.args[1][:60])
    # What is above 0 first: a NaN among the values would hide it from max.
    above = [value for value in (result.logprob, *(tokens or ())) if value > _ABOVE_ZERO]
    if above:
        raise WrongScoresError(
            f"model: backend {backend} gave {continuation} a log-probability above 0 "
            f"({max(above):.4g}); what it reports are no "
            "log-probabilities (logits, perhaps)"
        )
    if not tokens:
        return
    total = math.nan if any(map(math.isnan, tokens)) else sum(tokens)
    if math.isnan(total) and math.isnan(result.logprob):
        return  # of what could not be scored
    if total != result.logprob and not abs(total - result.logprob) <= _SUM_TOLERANCE * len(tokens):
        raise WrongScoresError(
            f"model: backend {backend} gave {continuation} the log-probability "
            f"{result.logprob:.4f}, but its tokens' add up to {total:.4f}"
        )


class _Constants:
    """Whether the choices of a question differ in score, as those of any model do."""

    def __init__(self, backend: str, requests: Sequence[Instance]) -> None:
        self._backend = backend
        self._questions: list[Hashable] = [(item.task_name, item.doc_id) for item in requests]
        self._left = Counter(self._questions)
        self._texts = [request.args[1] for request in requests]
        self._scores: dict[Hashable, dict[str, float]] = defaultdict(dict)
        self._alike, self._differ = 0, False

    def note(self, index: int, result: TokenLogprobs) -> None:
        if self._differ:
            return
        question = self._questions[index]
        self._scores[question][self._texts[index]] = result.logprob
        self._left[question] -= 1
        if self._left[question]:
            return
        scores = [value for value in self._scores.pop(question).values() if not math.isnan(value)]
        if len(set(scores)) > 1:
            self._differ = True
        elif len(scores) > 1:
            self._alike += 1
            self.judge(fewest=_ALIKE)

    def judge(self, fewest: int) -> None:
        if not self._differ and self._alike >= fewest:
            raise WrongScoresError(
                f"model: backend {self._backend} gave all choices of each of "
                f"{self._alike} questions exactly the same score, as no model does; it reports the "
                "log-probabilities of other tokens than asked for. Update it, or use another "
                "backend"
            )
