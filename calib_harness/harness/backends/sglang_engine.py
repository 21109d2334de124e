"""Token log-probabilities from SGLang: its engine in this process, and its native endpoint.

Written from the source and documentation of SGLang, and tried on a stand-in that returns what its
engine returns: it runs on CUDA devices only. `logprob_start_len` has it read what stands before
from its prefix cache, and tells log-probabilities from the token at that place on, the first of
them None. lm-eval's own `sglang` starts at 0, so that all shots are computed for every choice; its
`sglang-generate` takes what is greedy for what is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.sglang_causallms import SGLangLM
from lm_eval.models.sglang_generate_API import SGLANGGENERATEAPI

from calib_harness.errors import UserError
from calib_harness.harness.backends.completions import client_for
from calib_harness.harness.backends.dispatch import confirm, score_tokens
from calib_harness.harness.backends.http_client import each_as_it_comes
from calib_harness.harness.backends.known_answer import KnownAnswer, choose_contexts, judge
from calib_harness.harness.backends.prompts import Prompt, make_prompts
from calib_harness.harness.backends.run_checks import WrongScoresError
from calib_harness.harness.responses import TokenLogprobs

Results = Iterator[tuple[int, TokenLogprobs]]

#: Prompts handed to the engine at once; results are kept after each.
CHUNK = 1024

_GREEDY = {"temperature": 0, "max_new_tokens": 1}


@score_tokens.register(SGLangLM)
def score_tokens_sglang(lm: SGLangLM, requests: Sequence[Instance]) -> Results:
    """Score requests on SGLang's engine; those with one prefix follow one another."""
    prompts = make_prompts(lm, requests, longest=lm.max_length)
    prompts.sort(key=lambda prompt: prompt.tokens)
    for start in range(0, len(prompts), CHUNK):
        yield from _score_on_engine(lm, prompts[start : start + CHUNK])


@score_tokens.register(SGLANGGENERATEAPI)
def score_tokens_sglang_generate(lm: SGLANGGENERATEAPI, requests: Sequence[Instance]) -> Results:
    """Score requests on SGLang's native endpoint (…/generate), from several threads."""
    prompts = make_prompts(lm, requests, longest=lm.max_length)
    prompts.sort(key=lambda prompt: prompt.tokens)
    client = client_for(lm)

    def ask(prompt: Prompt) -> TokenLogprobs:
        return _read(prompt, client.post(_asking(prompt)))

    for prompt, result in each_as_it_comes(ask, prompts, concurrent=lm._concurrent):
        yield prompt.index, result


@confirm.register(SGLangLM)
def confirm_sglang(lm: SGLangLM, requests: Sequence[Instance]) -> None:
    """Compare what the engine says of the next token as it generates and as it scores."""
    contexts = [_encoded(lm, context) for context in choose_contexts(requests)]
    outputs = lm.model.generate(
        input_ids=contexts, sampling_params=dict(_GREEDY), return_logprob=True
    )
    said = [_said(output) for output in outputs]
    prompts = _after(contexts, said)
    _judge(lm, said, dict(_score_on_engine(lm, prompts)))


@confirm.register(SGLANGGENERATEAPI)
def confirm_sglang_generate(lm: SGLANGGENERATEAPI, requests: Sequence[Instance]) -> None:
    """Compare what the server says of the next token as it generates and as it scores."""
    client = client_for(lm)
    contexts = [_encoded(lm, context) for context in choose_contexts(requests)]
    said = [
        _said(
            client.post(
                {"input_ids": context, "sampling_params": dict(_GREEDY), "return_logprob": True}
            )
        )
        for context in contexts
    ]
    prompts = _after(contexts, said)
    _judge(lm, said, {p.index: _read(p, client.post(_asking(p))) for p in prompts})


def _score_on_engine(lm: SGLangLM, prompts: Sequence[Prompt]) -> Results:
    if not prompts:
        return
    outputs = lm.model.generate(
        input_ids=[prompt.tokens for prompt in prompts],
        sampling_params=[dict(_GREEDY) for _ in prompts],
        return_logprob=True,
        top_logprobs_num=1,
        logprob_start_len=[prompt.n_context - 1 for prompt in prompts],
    )
    if len(outputs) != len(prompts):
        raise WrongScoresError(
            f"model: SGLang gave {len(outputs)} results for {len(prompts)} prompts; it cannot be "
            "known which belongs to which"
        )
    for prompt, output in zip(prompts, outputs, strict=True):
        yield prompt.index, _read(prompt, output)


def _asking(prompt: Prompt) -> dict[str, Any]:
    return {
        "input_ids": prompt.tokens,
        "sampling_params": dict(_GREEDY),
        "return_logprob": True,
        "top_logprobs_num": 1,
        "logprob_start_len": prompt.n_context - 1,
    }


def _read(prompt: Prompt, output: Mapping[str, Any]) -> TokenLogprobs:
    """Read a continuation from the end of SGLang's (log-probability, token, text) of the input."""
    meta = _meta(output)
    n = len(prompt.continuation)
    entries = meta["input_token_logprobs"][-n:]
    if [entry[1] for entry in entries] != prompt.continuation:
        raise WrongScoresError(
            "model: SGLang's log-probabilities are those of other tokens than asked for; update it"
        )
    tokens = [math.nan if entry[0] is None else float(entry[0]) for entry in entries]
    tops = (meta.get("input_top_logprobs") or [])[-n:]
    greedy = len(tops) == n and all(
        bool(top) and max(top)[1] == token
        for top, token in zip(tops, prompt.continuation, strict=True)
    )
    return prompt.scored(tokens, is_greedy=greedy)


def _said(output: Mapping[str, Any]) -> tuple[int, float]:
    """Return the token that was generated, and its log-probability."""
    logprob, token, *_ = _meta(output)["output_token_logprobs"][0]
    return int(token), float(logprob)


def _meta(output: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = output.get("meta_info")
    if not isinstance(meta, Mapping) or not meta.get("output_token_logprobs"):
        raise UserError(
            "model: SGLang's answer holds no token log-probabilities; is base_url its native "
            "endpoint (…/generate)?"
        )
    return meta


def _encoded(lm: Any, context: str) -> list[int]:
    return list(lm.tok_encode(context))[-(lm.max_length - 1) :]


def _after(contexts: Sequence[list[int]], said: Sequence[tuple[int, float]]) -> list[Prompt]:
    return [
        Prompt(index, [*context, token], len(context))
        for index, (context, (token, _)) in enumerate(zip(contexts, said, strict=True))
    ]


def _judge(lm: Any, said: Sequence[tuple[int, float]], scored: Mapping[int, TokenLogprobs]) -> None:
    judge(
        type(lm).__name__,
        [
            KnownAnswer(lm.tokenizer.decode([token]), logprob, scored[index].logprob)
            for index, (token, logprob) in enumerate(said)
        ],
    )
