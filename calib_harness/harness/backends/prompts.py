"""Requests as tokens, for backends that read a prompt and tell each of its tokens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MethodType
from typing import Any

from lm_eval.api.instance import Instance

from calib_harness.harness.responses import TokenLogprobs

logger = logging.getLogger(__name__)

#: The key lm-eval carries along with a request (here: its index), context, continuation.
Encoded = tuple[int, list[int], list[int]]

# Contexts follow one another for their choices.
_REMEMBERED = 64


@dataclass(frozen=True)
class Prompt:
    """One request as a backend reads it.

    Attributes
    ----------
    index : int
        Which request it is.
    tokens : list of int
        Context and continuation, cut off on the left where it is too long.
    n_context : int
        How many of the tokens are the context, at least 1.
    n_cut : int
        How many were cut off the beginning.
    """

    index: int
    tokens: list[int]
    n_context: int
    n_cut: int = 0

    @property
    def context(self) -> list[int]:
        """The tokens that the continuation follows."""
        return self.tokens[: self.n_context]

    @property
    def continuation(self) -> list[int]:
        """The tokens that are scored."""
        return self.tokens[self.n_context :]

    def scored(self, logprobs: list[float], *, is_greedy: bool) -> TokenLogprobs:
        """Return the result that a log-probability for each token of the continuation makes."""
        return TokenLogprobs(sum(logprobs), is_greedy, logprobs, self.n_cut)


def encode(lm: Any, index: int, context: str, continuation: str) -> Encoded:
    """Tokens of one context and continuation, as `TemplateLM.loglikelihood` has them."""
    if context:
        return (index, *lm._encode_pair(context, continuation))
    tokens = lm.tok_encode(continuation, add_special_tokens=False)
    if tokens[:1] == [lm.prefix_token_id]:
        return index, tokens[:1], tokens[1:]
    return index, [lm.prefix_token_id], tokens


def make_prompts(lm: Any, requests: Sequence[Instance], *, longest: int) -> list[Prompt]:
    """Encode requests as lm-eval does; leave out, and count, what cannot be scored.

    Parameters
    ----------
    lm
        A backend with lm-eval's tokenizing functions.
    longest
        Tokens that it reads at most; longer contexts are cut off on the left.
    """
    encoder = _Remembering(lm)
    prompts = []
    for index, request in enumerate(requests):
        _, context, continuation = encode(encoder, index, *request.args[:2])
        kept = (context + continuation)[-longest:]
        n_context = len(kept) - len(continuation)
        if continuation and context and n_context > 0:
            n_cut = len(context) - n_context
            prompts.append(Prompt(index, kept, n_context, n_cut))
    if len(prompts) < len(requests):
        logger.warning(
            "%d of %d continuations cannot be scored: they have no tokens, or more than the "
            "model's maximum of %d. Their questions will be left out and counted.",
            len(requests) - len(prompts),
            len(requests),
            longest,
        )
    truncated = sum(prompt.n_cut > 0 for prompt in prompts)
    if truncated:
        logger.warning(
            "%d of %d requests are longer than the model's maximum of %d tokens; their contexts "
            "are truncated from the left.",
            truncated,
            len(requests),
            longest,
        )
    return prompts


class _Remembering:
    """A backend's tokenizing functions, each text encoded once while it is in use."""

    def __init__(self, lm: Any) -> None:
        self.backend, self._lm = lm.backend, lm
        self.tok_encode = lru_cache(_REMEMBERED)(lm.tok_encode)
        self._encode_pair = MethodType(type(lm)._encode_pair, self)

    @property
    def prefix_token_id(self) -> int:
        """The token that stands where a prompt has no context; only then is it asked for."""
        token: int = self._lm.prefix_token_id
        return token
