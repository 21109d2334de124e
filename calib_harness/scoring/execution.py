"""Score requests with a causal transformers model, computing each token of their tree once.

Knows nothing of lm-eval. `passes` decides what is computed when, `runner` runs it, and here each
request's tokens are put together again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import PreTrainedModel

from calib_harness.scoring.inspection import CacheKind
from calib_harness.scoring.passes import Budget, Costs, Manner, make_plan
from calib_harness.scoring.runner import Counts, Runner, Scored
from calib_harness.scoring.tree import Request

# Launching a pass costs an accelerator far more tokens' worth of time than a CPU.
# benchmarks/RESULTS.md has the measurement.
_COSTS = {"cpu": Costs()}
_COSTS_ELSEWHERE = Costs(per_pass=2048, min_length=8, min_saving=8)


class Ability(NamedTuple):
    """How the engine runs a model; `support.find_ability` finds it out.

    Attributes
    ----------
    kind
        The model's cache.
    manner
        How it goes on from what is kept.
    """

    kind: CacheKind
    manner: Manner


class TokenScores(NamedTuple):
    """The continuation of one request.

    Attributes
    ----------
    token_logprobs
        Natural logarithm of each token's probability given everything before it.
    is_greedy
        Whether each token is the most probable one (the first of them, on ties).
    """

    token_logprobs: list[float]
    is_greedy: bool


def execute(
    model: PreTrainedModel,
    requests: Sequence[Request],
    *,
    ability: Ability,
    budget: Budget,
    max_length: int,
    softmax_dtype: torch.dtype | None = None,
    pad_token_id: int = 0,
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    costs: Costs | None = None,
    counts: Counts | None = None,
    on_smaller_budget: Callable[[Budget], None] = lambda _: None,
    most_waiting: int | None = None,
) -> Iterator[tuple[int, TokenScores]]:
    """Score every request; see `engine.score`, which takes the same arguments but the last.

    What is to be scored waits for the model's head for `most_waiting` tokens at most, a pass's
    by default.
    """
    device = model.get_input_embeddings().weight.device
    plan = make_plan(
        requests,
        max_length=max_length,
        costs=costs or _COSTS.get(device.type, _COSTS_ELSEWHERE),
        manner=ability.manner,
    )
    counts = Counts() if counts is None else counts
    counts.planned += plan.n_tokens
    counts.bound += plan.bound
    runner = Runner(
        model,
        ability.kind,
        ability.manner,
        device,
        softmax_dtype or torch.float32,
        pad_token_id,
        context,
        counts,
        most_waiting=budget.tokens if most_waiting is None else most_waiting,
    )
    collected = _Collector(requests)

    def free_memory(smaller: Budget, slots_in_use: int) -> None:
        if not slots_in_use:
            runner.clear()
        clear_device_cache(garbage_collection=True)
        on_smaller_budget(smaller)

    for scored in plan.run(
        runner.forward,
        budget=budget,
        is_out_of_memory=should_reduce_batch_size,
        free_memory=free_memory,
    ):
        yield from collected.add(scored)
    yield from collected.add(runner.finish())


class _Collector:
    """Puts the tokens of each request together, in whatever order they arrive."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._logprobs = [[0.0] * len(request.continuation) for request in requests]
        self._missing = [len(request.continuation) for request in requests]
        self._greedy = [True] * len(requests)

    def add(self, scored: Sequence[Scored]) -> Iterator[tuple[int, TokenScores]]:
        """Take what a pass scored; yield the requests that are now complete."""
        for (request, nth, _), logprob, is_greedy in scored:
            self._logprobs[request][nth] = logprob
            self._greedy[request] &= is_greedy
            self._missing[request] -= 1
            if not self._missing[request]:
                yield request, TokenScores(self._logprobs[request], self._greedy[request])
