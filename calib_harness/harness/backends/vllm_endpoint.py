"""A served vLLM's own endpoint of tokens, which reads prompts from its prefix cache.

The OpenAI endpoints read each prompt whole when they are asked for its log-probabilities. This one
takes all of vLLM's sampling parameters, as its engine does. A server has it that was started with
``--enable-scale-out``, and says how much of a prompt came from the cache with
``--enable-prompt-tokens-details``. Rows before that are uninitialised memory: without knowing where
they end, nothing is read from it. Where that memory happens to hold a NaN, which JSON has not, the
server refuses the request with 400, and the prompt is asked again without the cache.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias

from calib_harness.errors import UserError
from calib_harness.harness.backends.http_client import Client, RefusedError, each_as_it_comes
from calib_harness.harness.backends.known_answer import distance
from calib_harness.harness.backends.prompts import Prompt
from calib_harness.harness.backends.run_checks import WrongScoresError
from calib_harness.harness.responses import TokenLogprobs

logger = logging.getLogger(__name__)

Answers: TypeAlias = list[tuple[int, TokenLogprobs]]

# Prompts of the beginning, and of the middle, that are asked in both ways first.
_CHECKED = 2

# Half precision moves what is computed in batches of other sizes by as much; a server does not say
# its precision. Rows that were never written differ by nats.
_TOLERANCE = 0.25


_ASKED = {
    "temperature": 0,
    "max_tokens": 1,
    "prompt_logprobs": 0,
    "skip_reading_prefix_cache": False,
    "detokenize": False,
}

# Status of an answer that JSON cannot hold.
_NO_JSON = 400


def score_from_cache(
    endpoint: VllmEndpoint,
    prompts: Sequence[Prompt],
    plainly: Callable[[Sequence[Prompt]], Answers],
    *,
    concurrent: int,
) -> Generator[Answers, None, list[Prompt]]:
    """Score prompts from the cache if the first come out as they do without it.

    Parameters
    ----------
    plainly
        Scores prompts in the way that needs no cache.
    concurrent
        How many requests may be under way.

    Yields
    ------
    list of (int, TokenLogprobs)
        Index and result of prompts, as they come.

    Returns
    -------
    list of Prompt
        What is left to be scored without the cache.
    """
    # What begins alike follows one another, so that it is still in the cache.
    ordered = sorted(prompts, key=lambda prompt: prompt.tokens)
    half = len(ordered) // 2
    if half < _CHECKED:
        return list(prompts)
    first = [*ordered[:_CHECKED], *ordered[half : half + _CHECKED]]
    others = [*ordered[_CHECKED:half], *ordered[half + _CHECKED :]]
    try:
        # The cache first: afterwards it would reach into every continuation, and not be used.
        found = [endpoint.score(prompt) for prompt in first]
    except UserError as error:
        logger.debug("vLLM's endpoint of tokens is not used: %s", error)
        return list(prompts)
    expected = [answer for prompt in first for answer in plainly([prompt])]
    yield expected
    if not _agree(found, [result for _, result in expected]):
        return others
    again = []
    for prompt, result in each_as_it_comes(endpoint.score, others, concurrent=concurrent):
        if result is None:
            again.append(prompt)
        else:
            yield [(prompt.index, result)]
    logger.info(
        "vLLM could not tell %d of %d requests from its cache; they are asked again",
        len(again),
        len(others),
    )
    return again


def _agree(found: Sequence[TokenLogprobs | None], expected: Sequence[TokenLogprobs]) -> bool:
    pairs = [
        (a, b)
        for one, other in zip(found, expected, strict=True)
        if one is not None
        for a, b in zip(one.token_logprobs or (), other.token_logprobs or (), strict=True)
    ]
    worst = max((distance(a, b) for a, b in pairs), default=0.0)
    if worst > _TOLERANCE:
        logger.warning(
            "The server gives other log-probabilities when it reads its prefix cache (they differ "
            "by %.2g, allowed is %.2g); the run goes on without it.",
            worst,
            _TOLERANCE,
        )
    return bool(pairs) and worst <= _TOLERANCE


class VllmEndpoint:
    """The endpoint beside a completions endpoint.

    Parameters
    ----------
    client : Client
        Of the completions endpoint.
    model : str
        What the server calls the model.
    """

    def __init__(self, client: Client, model: str) -> None:
        self._client, self._model = client, model
        self._url = client.url.partition("/v1/")[0] + "/inference/v1/generate"

    def score(self, prompt: Prompt) -> TokenLogprobs | None:
        """Return a prompt's result; None where the cache does not let the server tell it.

        Raises
        ------
        UserError
            If the server has no such endpoint, or does not say what came from the cache.
        """
        asked = {"model": self._model, "token_ids": prompt.tokens, "sampling_params": _ASKED}
        try:
            answer = self._client.post(asked, self._url)
        except RefusedError as error:
            if error.status == _NO_JSON:
                return None
            raise
        try:
            n_cached = int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
            rows = answer["prompt_logprobs"]
        except (KeyError, TypeError):
            raise UserError(
                f"base_url: {self._url} does not say how much of a prompt came from its cache; "
                "start the server with --enable-prompt-tokens-details"
            ) from None
        # The first token that is scored is predicted where the context ends.
        return None if n_cached >= prompt.n_context else self._read(prompt, rows)

    def _read(self, prompt: Prompt, rows: Any) -> TokenLogprobs:
        entries = []
        try:
            if len(rows) == len(prompt.tokens):
                scored = zip(prompt.continuation, rows[prompt.n_context :], strict=True)
                entries = [row[str(token)] for token, row in scored]
            tokens = [float(entry["logprob"]) for entry in entries]
            is_greedy = all(entry["rank"] == 1 for entry in entries)
        except (KeyError, TypeError, ValueError):
            entries = []
        if not entries:
            raise WrongScoresError(
                f"model: the log-probabilities of the server at {self._url} are those of other "
                "tokens than asked for; start it without --enable-scale-out, or update it"
            )
        return prompt.scored(tokens, is_greedy=is_greedy)
