"""Token log-probabilities from llama.cpp's server, which ignores `echo`: one request a token.

Its `/completion` is made to generate the wanted token by a large `logit_bias`. What it reports is
the softmax of the raw logits, so the bias does not show in it, and the server's prompt cache makes
the second and later requests of a context cheap. Letters of one question come from one request
where they are among the likeliest tokens.

The server's cache of keys and values is in half precision by default, which moves log-probabilities
by up to 7e-3; started with ``-ctk f32 -ctv f32 -fa off`` it agrees with hf to 1e-4.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.gguf import GGUFLM
from tqdm import tqdm

from calib_harness.errors import UserError
from calib_harness.harness.backends.dispatch import confirm, score_tokens
from calib_harness.harness.backends.http_client import Client, each_as_it_comes
from calib_harness.harness.backends.known_answer import KnownAnswer, choose_contexts, judge
from calib_harness.harness.backends.prompts import Prompt, make_prompts
from calib_harness.harness.backends.run_checks import WrongScoresError
from calib_harness.harness.responses import TokenLogprobs

logger = logging.getLogger(__name__)

Results = Iterator[tuple[int, TokenLogprobs]]

# Added to a token's logit: no other can then be generated.
_FORCED = 1e6

# Below this no log-probability lies: JSON has no infinity.
_LOWEST = -1e30

# Likeliest tokens that are asked for along with the forced one: most letters are among them.
_N_PROBS = 64


@score_tokens.register(GGUFLM)
def score_tokens_llama_cpp(lm: GGUFLM, requests: Sequence[Instance]) -> Results:
    """Score requests on llama.cpp's server by forced decoding.

    Raises
    ------
    UserError
        If the server refuses a request or stays away, or generates another token than it was
        forced to.
    """
    server = LlamaServer(lm)
    questions: dict[tuple[int, ...], list[Prompt]] = defaultdict(list)
    for prompt in make_prompts(server, requests, longest=lm.max_length):
        questions[tuple(prompt.context)].append(prompt)
    logger.info(
        "llama.cpp tells one token a request: %d prompts", sum(map(len, questions.values()))
    )
    with tqdm(total=len(questions), desc="Scoring", unit=" questions") as bar:
        for _, answers in each_as_it_comes(server.score, questions.values(), concurrent=1):
            yield from answers
            bar.update(1)


@confirm.register(GGUFLM)
def confirm_llama_cpp(lm: GGUFLM, requests: Sequence[Instance]) -> None:
    """Compare what the server says of the likeliest tokens when free and when forced."""
    server = LlamaServer(lm)
    answers = []
    for context in choose_contexts(requests):
        tokens = server.tok_encode(context)[-(lm.max_length - 1) :]
        for top in server.next_tokens(tokens)[:2]:
            scored, _ = server.force(tokens, int(top["id"]))
            answers.append(KnownAnswer(str(top["token"]), _logprob(top), scored))
    judge(type(lm).__name__, answers)


class LlamaServer:
    """llama.cpp's native endpoints behind lm-eval's backend `gguf`.

    Has what lm-eval's tokenizing functions need of a backend; the server tokenizes.
    """

    backend = "causal"

    def __init__(self, lm: GGUFLM) -> None:
        self._base = lm.base_url.rstrip("/").removesuffix("/v1")
        self._client = Client(f"{self._base}/completion")
        self._prefix: int | None = None

    @property
    def prefix_token_id(self) -> int:
        """The token that stands where a prompt has no context."""
        if self._prefix is None:
            tokens = self.tok_encode("")
            if not tokens:
                raise UserError(
                    "tasks: a question has an empty context, and this model's tokenizer puts no "
                    "token in front of a text, so nothing comes before the choice"
                )
            self._prefix = tokens[0]
        return self._prefix

    def tok_encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Tokens of a text, with what the model's tokenizer puts in front unless told not to."""
        answer = self._client.post(
            {"content": text, "add_special": add_special_tokens, "parse_special": True},
            f"{self._base}/tokenize",
        )
        tokens = answer.get("tokens") if isinstance(answer, dict) else None
        if not isinstance(tokens, list):
            raise UserError(
                f"base_url: {self._base}/tokenize gives no tokens; is it llama.cpp's llama-server? "
                "For llama-cpp-python's server use local-completions"
            )
        return [int(token) for token in tokens]

    _encode_pair = TemplateLM._encode_pair

    def score(self, prompts: Sequence[Prompt]) -> list[tuple[int, TokenLogprobs]]:
        """Score the choices of one question; return each one's index and result."""
        told = {}
        if sum(len(prompt.continuation) == 1 for prompt in prompts) > 1:
            tops = self.next_tokens(prompts[0].context)
            told = {int(top["id"]): (_logprob(top), rank == 0) for rank, top in enumerate(tops)}
        results = []
        for prompt in prompts:
            entries = []
            for place, token in enumerate(prompt.continuation):
                before = prompt.tokens[: prompt.n_context + place]
                known = told.get(token) if place == 0 else None
                entries.append(known or self.force(before, token))
            tokens = [logprob for logprob, _ in entries]
            greedy = all(is_top for _, is_top in entries)
            results.append((prompt.index, prompt.scored(tokens, is_greedy=greedy)))
        return results

    def next_tokens(self, tokens: list[int]) -> list[dict[str, Any]]:
        """Return the likeliest tokens after a prompt: ``id``, ``token``, ``logprob``."""
        entry = self._ask(tokens, n_probs=_N_PROBS)
        tops: list[dict[str, Any]] = entry["top_logprobs"]
        return tops

    def force(self, tokens: list[int], token: int) -> tuple[float, bool]:
        """Return a token's log-probability after a prompt, and whether it is the likeliest."""
        entry = self._ask(tokens, n_probs=1, logit_bias=[[token, _FORCED]])
        if entry["id"] != token:
            raise WrongScoresError(
                f"model: llama.cpp's server generated token {entry['id']} where it was made to "
                f"generate {token}; it ignores logit_bias, so choices cannot be scored"
            )
        return _logprob(entry), entry["top_logprobs"][0]["id"] == token

    def _ask(self, tokens: list[int], **wanted: Any) -> dict[str, Any]:
        answer = self._client.post(
            {
                "prompt": tokens,
                "n_predict": 1,
                "temperature": 0,
                "samplers": ["temperature"],
                "cache_prompt": True,
                **wanted,
            }
        )
        probabilities = answer.get("completion_probabilities") if isinstance(answer, dict) else None
        if not probabilities or "logprob" not in probabilities[0]:
            raise WrongScoresError(
                f"model: {self._base}/completion tells no log-probabilities "
                "(completion_probabilities is missing); update llama.cpp's server"
            )
        read = answer.get("tokens_evaluated")
        if read is not None and read != len(tokens):
            raise WrongScoresError(
                f"model: {self._base}/completion read {read} tokens where {len(tokens)} were sent; "
                "start the server with a larger context (-c)"
            )
        entry: dict[str, Any] = probabilities[0]
        return entry


def _logprob(entry: Mapping[str, Any]) -> float:
    """Read a log-probability; the server writes its lowest number for minus infinity."""
    value = float(entry["logprob"])
    return value if value > _LOWEST else -math.inf
