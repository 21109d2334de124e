"""Token log-probabilities from vLLM in this process.

lm-eval asks vLLM for the log-probabilities of a whole prompt, which keeps it from reading its
prefix cache: every choice costs all shots again. Here

- choices of one token (letters) cost one request for each question: the next token's
  log-probabilities of just these tokens, with the cache on;
- other choices are read with the cache on, too. vLLM then leaves the rows before the cached prefix
  as they lie in memory, so a request whose prefix reached into its continuation is asked again in
  lm-eval's way. A few requests are asked in both ways first, and have to agree.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.vllm_causallms import VLLM
from vllm import SamplingParams

from calib_harness.errors import UserError
from calib_harness.harness.backends.dispatch import confirm, score_tokens
from calib_harness.harness.backends.known_answer import (
    SHORT,
    KnownAnswer,
    choose_contexts,
    judge,
)
from calib_harness.harness.backends.prompts import Prompt, make_prompts
from calib_harness.harness.backends.run_checks import WrongScoresError
from calib_harness.harness.responses import TokenLogprobs

logger = logging.getLogger(__name__)

Results = Iterator[tuple[int, TokenLogprobs]]

#: Prompts handed to vLLM at once; results are kept after each.
CHUNK = 1024

# Tokens for which vLLM tells log-probabilities in one request.
_MOST_TOKENS = 128

# Requests that are scored in both ways before the prefix cache is trusted: from the start, and as
# many from the middle.
_CHECKED = 2

# Prompts that are asked for known answers.
_N_KNOWN = 2

#: Largest difference of a token's log-probability between the two ways, in single precision and in
#: half, where a batch of another shape rounds otherwise.
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.25


@score_tokens.register(VLLM)
def score_tokens_vllm(lm: VLLM, requests: Sequence[Instance]) -> Results:
    """Score requests with vLLM, prefixes shared where its version can be told so.

    Raises
    ------
    UserError
        If the model is to think first.
    """
    if lm.enable_thinking:
        raise UserError(
            "enable_thinking must be off: a model that thinks first has no choice's score"
        )
    # vLLM has to have room for one token more.
    prompts = make_prompts(lm, requests, longest=lm.max_length - 1)
    engine = _Engine(lm)
    single = [p for p in prompts if len(p.continuation) == 1] if engine.tells_tokens else []
    chosen = {prompt.index for prompt in single}
    yield from engine.score_single(single)
    yield from engine.score_several([prompt for prompt in prompts if prompt.index not in chosen])


@confirm.register(VLLM)
def confirm_vllm(lm: VLLM, requests: Sequence[Instance]) -> None:
    """Compare what vLLM says of the likeliest next tokens as it generates and as it scores."""
    engine = _Engine(lm)
    whole = [
        lm.tok_encode(context)[-(lm.max_length - 2) :]
        for context in choose_contexts(requests, _N_KNOWN)
    ]
    contexts = [*whole[:1], *(tokens[-SHORT:] for tokens in whole[1:])]
    said = engine.generate(contexts, SamplingParams(temperature=0, max_tokens=1, logprobs=2))
    asked = [
        (context, token, entry.logprob)
        for context, output in zip(contexts, said, strict=True)
        for token, entry in output.outputs[0].logprobs[0].items()
    ]
    prompts = [
        Prompt(index, [*context, token], len(context))
        for index, (context, token, _) in enumerate(asked)
    ]
    ways = [dict(engine.score_plainly(prompts))]
    if engine.tells_tokens:
        ways.append(dict(engine.score_single(prompts)))
    judge(
        type(lm).__name__,
        [
            KnownAnswer(lm.tokenizer.decode([token]), logprob, scored[index].logprob)
            for scored in ways
            for index, (_, token, logprob) in enumerate(asked)
        ],
    )


class _Engine:
    """vLLM as lm-eval holds it: its LoRA adapter and its replicas included."""

    def __init__(self, lm: VLLM) -> None:
        self._lm = lm
        fields = SamplingParams.__struct_fields__
        self.tells_tokens = "logprob_token_ids" in fields
        # Each call starts all replicas anew, so there is one call only.
        self._chunk = CHUNK if lm.data_parallel_size <= 1 else None
        self._shares = (
            self._chunk is not None
            and "skip_reading_prefix_cache" in fields
            and bool(lm.model.llm_engine.vllm_config.cache_config.enable_prefix_caching)
        )

    def generate(self, tokens: Sequence[list[int]], params: Any) -> list[Any]:
        """Return vLLM's outputs for prompts; `params` is one of `SamplingParams`, or one each."""
        if not tokens:
            return []
        many = params if isinstance(params, list) else [params] * len(tokens)
        return self._lm._model_generate(list(tokens), generate=True, sampling_params=many)

    def score_single(self, prompts: Sequence[Prompt]) -> Results:
        """Score choices of one token, those of one context in one request."""
        questions: dict[tuple[int, ...], list[Prompt]] = defaultdict(list)
        for prompt in prompts:
            questions[tuple(prompt.context)].append(prompt)
        groups = [
            (list(context), members[start : start + _MOST_TOKENS])
            for context, members in questions.items()
            for start in range(0, len(members), _MOST_TOKENS)
        ]
        for chunk in self._chunks(groups):
            params = []
            for _, members in chunk:
                wanted = sorted({prompt.continuation[0] for prompt in members})
                params.append(_asking(logprobs=len(wanted), logprob_token_ids=wanted))
            outputs = self.generate([context for context, _ in chunk], params)
            for (_, members), output in zip(chunk, outputs, strict=True):
                (row,), (said,) = output.outputs[0].logprobs, output.outputs[0].token_ids
                for prompt in members:
                    token = prompt.continuation[0]
                    logprob = float(row[token].logprob)
                    yield prompt.index, prompt.scored([logprob], is_greedy=token == said)

    def score_several(self, prompts: Sequence[Prompt]) -> Results:
        """Score choices of several tokens, with the prefix cache where it can be trusted."""
        ordered = sorted(prompts, key=lambda prompt: prompt.tokens)
        half = len(ordered) // 2
        if not self._shares or half < _CHECKED:
            yield from self.score_plainly(ordered)
            return
        first = [*ordered[:_CHECKED], *ordered[half : half + _CHECKED]]
        others = [*ordered[_CHECKED:half], *ordered[half + _CHECKED :]]
        # The cache first: afterwards it would reach into every continuation, and not be used.
        found = dict(self._score_cached(first))
        expected = dict(self.score_plainly(first))
        yield from expected.items()
        if self._agree(expected, found):
            yield from self._score_cached(others)
        else:
            yield from self.score_plainly(others)

    def score_plainly(self, prompts: Sequence[Prompt]) -> Results:
        """Score prompts in lm-eval's way: each is read whole."""
        for chunk in self._chunks(prompts):
            outputs = self.generate([prompt.tokens for prompt in chunk], _asking(prompt_logprobs=0))
            for prompt, output in zip(chunk, outputs, strict=True):
                yield prompt.index, _read(prompt, output.prompt_logprobs)

    def _score_cached(self, prompts: Sequence[Prompt]) -> Results:
        """Score prompts with the prefix cache; what it reached too far into is asked again."""
        asking = _asking(prompt_logprobs=0, skip_reading_prefix_cache=False)
        again = []
        for chunk in self._chunks(prompts):
            outputs = self.generate([prompt.tokens for prompt in chunk], asking)
            for prompt, output in zip(chunk, outputs, strict=True):
                cached, rows = output.num_cached_tokens, output.prompt_logprobs
                # The first token that is scored is predicted where the context ends.
                if cached is not None and cached < prompt.n_context and _is_whole(prompt, rows):
                    yield prompt.index, _read(prompt, rows)
                else:
                    again.append(prompt)
        logger.info("vLLM's cache reached too far in %d of %d requests", len(again), len(prompts))
        yield from self.score_plainly(again)

    def _agree(
        self, expected: Mapping[int, TokenLogprobs], found: Mapping[int, TokenLogprobs]
    ) -> bool:
        single = "32" in str(self._lm.model.llm_engine.model_config.dtype)
        allowed = TOLERANCE if single else HALF_TOLERANCE
        worst = max(
            abs(one - other) if not math.isnan(one - other) else math.inf
            for index, result in expected.items()
            for one, other in zip(
                result.token_logprobs or (), found[index].token_logprobs or (), strict=True
            )
        )
        if worst > allowed:
            logger.warning(
                "vLLM gives other log-probabilities when it reads its prefix cache (they differ by "
                "%.2g, allowed is %.2g); the run goes on without it.",
                worst,
                allowed,
            )
        return worst <= allowed

    def _chunks(self, items: Sequence[Any]) -> Iterator[Sequence[Any]]:
        size = self._chunk or max(1, len(items))
        return (items[start : start + size] for start in range(0, len(items), size))


def _asking(**wanted: Any) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=1, detokenize=False, **wanted)


def _is_whole(prompt: Prompt, rows: Sequence[Mapping[int, Any] | None]) -> bool:
    """Say whether every scored row tells of the token that stands there."""
    return len(rows) == len(prompt.tokens) and all(
        row is not None and token in row
        for token, row in zip(prompt.continuation, rows[prompt.n_context :], strict=True)
    )


def _read(prompt: Prompt, rows: Sequence[Mapping[int, Any] | None]) -> TokenLogprobs:
    """Read a continuation from vLLM's rows, one for each token of the prompt."""
    if not _is_whole(prompt, rows):
        raise WrongScoresError(
            "model: vLLM's log-probabilities of a prompt are those of other tokens than asked for; "
            "update it"
        )
    scored = zip(prompt.continuation, rows[prompt.n_context :], strict=True)
    entries = [row[token] for token, row in scored if row is not None]
    tokens = [float(entry.logprob) for entry in entries]
    return prompt.scored(tokens, is_greedy=all(entry.rank == 1 for entry in entries))
