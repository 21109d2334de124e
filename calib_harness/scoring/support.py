"""Which models the engine can run, found out by running them on a few tokens both ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import cycle, islice
from typing import Any

import torch
from transformers import PreTrainedModel

from calib_harness.scoring.execution import Ability, execute
from calib_harness.scoring.inspection import (
    CacheKind,
    CannotShareError,
    look_at_cache,
    static_reason_against,
)
from calib_harness.scoring.passes import Budget, Costs, Manner
from calib_harness.scoring.runner import without_cudnn_attention
from calib_harness.scoring.tree import Request

#: Largest difference of a continuation's log-probability between two ways of computing it.
TOLERANCE = 1e-3

#: The same in half precision, in units of its machine epsilon (so that bfloat16 may differ by 1 and
#: float16 by 1/8) for one token: 8 steps of a logit between 16 and 32. Roundings of several tokens
#: go either way, so their sum may differ by that times the square root of their number.
#: benchmarks/RESULTS.md has the measurement: about half of this at most.
HALF_TOLERANCE_IN_EPSILONS = 128

# Share whatever is shared, in as few passes as possible: every mechanism runs on few tokens, and
# rows of one pass are unlike each other in all that they may be.
_EAGER = Costs(per_pass=10_000, min_length=1, min_saving=1)
_PROBE_LENGTH = 32
# Token ids that any vocabulary has, beyond those of special tokens.
_COMMON_TOKENS = range(5, 90, 7)
# Memory of a token in a stock batch, per entry of the vocabulary: its logits in float32.
_LOGIT_BYTES = 4


def tolerance(dtype: torch.dtype, n_tokens: int) -> float:
    """Largest difference between two ways' sums over `n_tokens` that is rounding."""
    if dtype in (torch.float16, torch.bfloat16):
        return HALF_TOLERANCE_IN_EPSILONS * torch.finfo(dtype).eps * math.sqrt(n_tokens)
    return TOLERANCE


def reason_against(model: PreTrainedModel, *, longest: int) -> str | None:
    """Say why the engine cannot run a model; None if it can.

    Parameters
    ----------
    model
        A transformers model, possibly with a peft adapter.
    longest
        Tokens of the longest row.
    """
    try:
        find_ability(model, longest=longest)
    except CannotShareError as error:
        return str(error)
    return None


def find_ability(
    model: PreTrainedModel,
    *,
    longest: int,
    tokens: Sequence[int] = (),
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Ability:
    """Find out how the engine can run a model.

    Scores a few tokens with shared prefixes and one string at a time. A model that keeps states
    and cannot go on from them with several tokens at once is tried one token at a time.

    Parameters
    ----------
    model
        A transformers model, possibly with a peft adapter.
    longest
        Tokens of the longest row.
    tokens
        A text to try, best of those to be scored; a few common tokens by default.
    context
        Entered around each call of the model, for autocast.

    Raises
    ------
    CannotShareError
        If there is no way, or none that agrees; the message says why.
    """
    reason = static_reason_against(model, longest=longest)
    if reason is not None:
        raise CannotShareError(reason)
    with without_cudnn_attention():
        return _probe(model, tokens or _COMMON_TOKENS, _window(model, longest), context)


def _probe(
    model: PreTrainedModel,
    tokens: Sequence[int],
    window: int,
    context: Callable[[], AbstractContextManager[Any]],
) -> Ability:
    text = list(islice(cycle(tokens), _PROBE_LENGTH))
    requests = _requests(text, window)
    device = model.get_input_embeddings().weight.device
    try:
        kind = look_at_cache(model, torch.tensor([text[:8]], device=device), context)
        expected = [_score_alone(model, request, context) for request in requests]
    except CannotShareError:
        raise
    except Exception as error:  # whatever a model unknown to us may raise
        raise CannotShareError(describe_error("with a cache of its own", error)) from error
    against = ""
    for manner in _manners(model, kind):
        ability = Ability(kind, manner)
        try:
            difference = _try(model, ability, requests, expected, context)
        except Exception as error:
            against = against or describe_error("on a kept prefix", error)
            continue
        if difference is None:
            return ability
        against = against or (
            "its log-probabilities are others when prefixes are shared (on a probe they differ "
            f"by {difference:.2g})"
        )
    raise CannotShareError(against)


def describe_error(when: str, error: Exception) -> str:
    """Say in a clause that a model raises, and what."""
    first_line = (str(error).splitlines() or [""])[0][:200]
    return f"it raises {when} ({type(error).__name__}: {first_line})"


def _manners(model: PreTrainedModel, kind: CacheKind) -> Iterator[Manner]:
    """Yield what may work, fastest first."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    size = math.ceil(kind.state_bytes / (_LOGIT_BYTES * vocabulary))
    for one_by_one in (False, True) if kind.has_states else (False,):
        for same_start in (False, True):
            yield Manner(kind.has_states, one_by_one, size, same_start)


def _window(model: PreTrainedModel, longest: int) -> int:
    """Tokens that its layers attend to, where some rows are longer; 0 if none are."""
    text = model.config.get_text_config()
    sizes = (getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((size for size in sizes if isinstance(size, int) and size < longest), default=0)


def _requests(text: Sequence[int], window: int) -> list[Request]:
    """Shots, questions and choices in small: prefixes and continuations of unequal lengths.

    The shots fill the window: some models are right within it only.
    """
    shots = [*islice(cycle(text), window), *text[:7]]
    questions = [[*shots, *text[7:12]], [*shots, *text[12:20]], text[20:29]]
    first, second = text[29:32], text[28:30]
    return [
        Request(question, continuation)
        for question, continuations in zip(
            questions,
            ([first, [first[0], *second]], [second, first[:1]], [first[:2], [*second, text[0]]]),
            strict=True,
        )
        for continuation in continuations
    ]


def _score_alone(
    model: PreTrainedModel,
    request: Request,
    context: Callable[[], AbstractContextManager[Any]],
) -> torch.Tensor:
    """Log-probabilities of a continuation's tokens, from nothing but their own string."""
    read = [*request.context, *request.continuation][:-1]
    device = model.get_input_embeddings().weight.device
    with torch.no_grad(), context():
        output = model(input_ids=torch.tensor([read], device=device), use_cache=False)
    n_tokens = len(request.continuation)
    logprobs = torch.log_softmax(output.logits[0, -n_tokens:].float(), dim=-1).cpu()
    return logprobs[torch.arange(n_tokens), torch.tensor(request.continuation)]


def _try(
    model: PreTrainedModel,
    ability: Ability,
    requests: Sequence[Request],
    expected: Sequence[torch.Tensor],
    context: Callable[[], AbstractContextManager[Any]],
) -> float | None:
    """Largest difference of a token's log-probability if it is more than rounding, else None."""
    n_tokens = sum(len(c) + len(t) for c, t in requests)
    budget = Budget(n_tokens * (1 + ability.manner.state_size), 4 * n_tokens)
    scored = dict(
        execute(
            model,
            requests,
            ability=ability,
            budget=budget,
            max_length=n_tokens,
            context=context,
            costs=_EAGER,
            most_waiting=0,  # each pass is judged by the logits that it gives itself
        )
    )
    largest = 0.0
    for index, right in enumerate(expected):
        found = torch.tensor(scored[index].token_logprobs)
        same = (found == right) | (found.isnan() & right.isnan())
        difference = (found - right).abs().where(~same, torch.zeros(()))
        largest = max(largest, float(difference.nan_to_num(math.inf).max()))
    return largest if largest > tolerance(model.dtype, 1) else None
