"""A language model over letters that is known exactly: a backend to break on purpose."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
from lm_eval.api.model import LM

ALPHABET = [*map(chr, range(32, 127)), "\n"]
_TABLE = np.random.default_rng(0).gumbel(scale=2.0, size=(len(ALPHABET), len(ALPHABET)))
LOGPROBS = _TABLE - np.log(np.exp(_TABLE).sum(axis=1, keepdims=True))


def next_logprobs(context: str) -> np.ndarray:
    """Log-probabilities of every letter after a text: its last letter decides."""
    return LOGPROBS[ALPHABET.index(context[-1])]


def true_tokens(context: str, continuation: str) -> list[float]:
    whole = context + continuation
    return [
        float(next_logprobs(whole[:place])[ALPHABET.index(whole[place])])
        for place in range(len(context), len(whole))
    ]


def greedy(context: str) -> str:
    return ALPHABET[int(next_logprobs(context).argmax())]


class LetterModel(LM):
    """The letter model behind lm-eval's plainest interface; `fault` makes it lie as servers do."""

    def __init__(self, fault: str = "", dies_after: float = math.inf) -> None:
        super().__init__()
        self.fault, self.dies_after, self.n_scored = fault, dies_after, 0

    def loglikelihood(self, requests):
        results = [self.score(*request.args[:2]) for request in requests]
        return results[: -len(results) // 20] if self.fault == "drops" else results

    def score(self, context: str, continuation: str) -> tuple[float, bool]:
        if self.n_scored >= self.dies_after:
            raise ConnectionError("the server is gone")
        self.n_scored += 1
        tokens = true_tokens(context, continuation)
        whole = context + continuation
        said = all(
            greedy(whole[:place]) == whole[place] for place in range(len(context), len(whole))
        )
        if self.fault == "zeros":  # a server that drops `echo`
            answer = 0.0, True
        elif self.fault == "off by one":
            before = true_tokens(context[:-1], context[-1])
            answer = sum([*before, *tokens][:-1]), False
        elif self.fault == "logits":
            answer = sum(tokens) + 30.0, said
        else:
            answer = sum(tokens), said
        self.cache_hook.add_partial("loglikelihood", (context, continuation), answer)
        return answer

    def generate_until(self, requests):
        return [greedy(request.args[0]) for request in requests]

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError


def requests_for(questions: int, choices: tuple[str, ...] = (" A", " B", " C")):
    return [
        SimpleNamespace(args=(f"Question {i}?\nAnswer:"[: 20 + i], choice), task_name="t", doc_id=i)
        for i in range(questions)
        for choice in choices
    ]
