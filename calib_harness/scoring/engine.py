"""Score requests with a causal transformers model, computing each token of their tree once.

Knows nothing of lm-eval. `plan.py` decides what is computed when; this module runs the passes:
prefixes come out of a store of keys and values, logits are computed only where a token is
scored, and normalised in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import nn
from transformers import PreTrainedModel

from calib_harness.scoring.passes import Budget, Costs, Pass, make_plan
from calib_harness.scoring.support import cache_argument, cache_layers, forward_arguments
from calib_harness.scoring.token_store import PassCache, TokenStore
from calib_harness.scoring.tree import Request, Target

# Positions whose logits are computed together, at least: a product of few rows with the head's
# matrix takes as long as reading the matrix does.
_FEWEST_POSITIONS = 128

# Logits that are normalised at a time: few enough to stay in a CPU's cache, many enough to
# keep an accelerator busy.
_CHUNK = {"cpu": 2**20}
_CHUNK_ELSEWHERE = 2**26

# Launching a pass costs an accelerator far more tokens' worth of time than a CPU.
# benchmarks/RESULTS.md has the measurement.
_COSTS = {"cpu": Costs()}
_COSTS_ELSEWHERE = Costs(per_pass=2048, min_length=8, min_saving=8)


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


@dataclass
class Counts:
    """What was computed so far, in tokens.

    Attributes
    ----------
    planned, bound
        What the plan computes without padding, and the fewest any plan has to.
    done
        What of `planned` is done.
    forwarded
        What the model was run on, padding and repeated work included.
    passes
        How often the model was run.
    """

    planned: int = 0
    bound: int = 0
    done: int = 0
    forwarded: int = 0
    passes: int = 0


def budget_for(batch_size: int, requests: Sequence[Request], max_length: int) -> Budget:
    """Return the budget that takes no more memory than `batch_size` rows of the longest request.

    A stock batch holds its rows' keys and values in every layer, a pass only in one.
    """
    longest = max((len(c) + len(t) - 1 for c, t in requests), default=1)
    tokens = max(1, batch_size * min(longest, max_length))
    return Budget(tokens=tokens, cached=4 * tokens)


def score(
    model: PreTrainedModel,
    requests: Sequence[Request],
    *,
    budget: Budget,
    max_length: int,
    softmax_dtype: torch.dtype | None = None,
    pad_token_id: int = 0,
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    costs: Costs | None = None,
    counts: Counts | None = None,
    on_smaller_budget: Callable[[Budget], None] = lambda _: None,
) -> Iterator[tuple[int, TokenScores]]:
    """Score every request; yield its index and scores as soon as they are known.

    Parameters
    ----------
    model
        A transformers causal language model in eval mode; see `support.reason_against`.
    requests
        Token ids; contexts and continuations must not be empty.
    budget
        Size of a pass; halved when memory runs out. See `budget_for`.
    max_length
        Tokens the model can read; longer requests are truncated from the left.
    softmax_dtype
        In which probabilities are normalised; float32 by default.
    pad_token_id
        Fills rows up; never attended to.
    context
        Entered around each call of the model, for autocast.
    costs
        What decides between padding and passes; by default, what suits the model's device.
    counts
        Kept up to date, for a progress bar.
    on_smaller_budget
        Told of the new budget after memory ran out.

    Raises
    ------
    ValueError
        If a request cannot be scored; see `tree.read_window`.
    plan.OutOfMemoryError
        If a single row does not fit into memory.
    """
    device = model.get_input_embeddings().weight.device
    plan = make_plan(
        requests,
        max_length=max_length,
        costs=costs or _COSTS.get(device.type, _COSTS_ELSEWHERE),
    )
    counts = Counts() if counts is None else counts
    counts.planned += plan.n_tokens
    counts.bound += plan.bound
    runner = _Runner(
        model,
        device,
        softmax_dtype or torch.float32,
        pad_token_id,
        context,
        counts,
        most_waiting=budget.tokens,
    )
    collected = _Collector(requests)

    def free_memory(smaller: Budget, slots_in_use: int) -> None:
        if not slots_in_use:
            runner.store.clear()
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


class _Scored(NamedTuple):
    """A target with its log-probability, and whether it is the most probable token."""

    target: Target
    logprob: float
    is_greedy: bool


class _Collector:
    """Puts the tokens of each request together, in whatever order they arrive."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._logprobs = [[0.0] * len(request.continuation) for request in requests]
        self._missing = [len(request.continuation) for request in requests]
        self._greedy = [True] * len(requests)

    def add(self, scored: Sequence[_Scored]) -> Iterator[tuple[int, TokenScores]]:
        """Take what a pass scored; yield the requests that are now complete."""
        for (request, nth, _), logprob, is_greedy in scored:
            self._logprobs[request][nth] = logprob
            self._greedy[request] &= is_greedy
            self._missing[request] -= 1
            if not self._missing[request]:
                yield request, TokenScores(self._logprobs[request], self._greedy[request])


@dataclass(eq=False)
class _Runner:
    """Runs passes through the model.

    A pass with few scored positions leaves their hidden states to a later one, so that the
    head's large matrix is used on many at a time; but no longer than for `most_waiting` tokens,
    since only what is scored can be cached.
    """

    model: PreTrainedModel
    device: torch.device
    dtype: torch.dtype
    pad_token_id: int
    context: Callable[[], AbstractContextManager[Any]]
    counts: Counts
    most_waiting: int
    store: TokenStore = field(default_factory=TokenStore)
    waiting: list[torch.Tensor] = field(default_factory=list)
    waiting_targets: list[list[Target]] = field(default_factory=list)
    waiting_tokens: int = 0

    def __post_init__(self) -> None:
        self._arguments = forward_arguments(self.model)
        self._cache_argument = cache_argument(self.model) or ""
        self._n_layers = len(cache_layers(self.model))
        self._head: nn.Module | None = self.model.get_output_embeddings()

    def forward(self, batch: Pass) -> list[_Scored]:
        """Compute a pass, store what later passes read; return what has been scored by now."""
        width = batch.width
        inputs = torch.tensor(
            [
                [*node.tokens, *[self.pad_token_id] * (width - len(node.tokens))]
                for node in batch.nodes
            ]
        )
        arguments: dict[str, Any] = {"use_cache": False}
        cache = PassCache(batch, self.store, self._n_layers)
        if cache.prefix_length or batch.is_kept:
            arguments = {"use_cache": True, self._cache_argument: cache}
        if cache.prefix_length:  # else the default is right: causal, and padding comes last
            arguments["attention_mask"] = cache.attention_mask.to(self.device)
            if "position_ids" in self._arguments:
                arguments["position_ids"] = cache.position_ids.to(self.device)
        scored = self._run(inputs, list(batch.targets()), _FEWEST_POSITIONS, arguments)
        self.counts.done += sum(
            len(node.tokens)
            for node, is_new in zip(batch.nodes, batch.is_scored, strict=True)
            if is_new
        )
        return scored

    def finish(self) -> list[_Scored]:
        """Score what is left waiting: one token carries it through the model's own head."""
        if not self.waiting_targets:
            return []
        return self._run(torch.tensor([[self.pad_token_id]]), [], 0, {"use_cache": False})

    def _run(
        self,
        inputs: torch.Tensor,
        places: Sequence[tuple[int, int, list[Target]]],
        fewest: int,
        arguments: Mapping[str, Any],
    ) -> list[_Scored]:
        """Call the model; score these places and those waiting, or let all of them wait.

        What waits changes only after the model has run: out of memory, nothing is lost.
        """
        rows = torch.tensor([row for row, _, _ in places], dtype=torch.long)
        columns = torch.tensor([column for _, column, _ in places], dtype=torch.long)
        targets = [*self.waiting_targets, *(targets for _, _, targets in places)]
        tokens = self.waiting_tokens + inputs.numel()
        waits = len(targets) < fewest and tokens <= self.most_waiting
        reached: list[torch.Tensor] | None = None

        def select(_: nn.Module, hidden: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            nonlocal reached
            states, *others = hidden
            own = states[rows.to(states.device), columns.to(states.device)]
            reached = [*self.waiting, *([own] if places else [])]
            ready = states[0, :0] if waits or not reached else torch.cat(reached)
            return ready[None], *others

        hook = self._head.register_forward_pre_hook(select) if self._head is not None else None
        with torch.no_grad(), self.context(), _without_cudnn_attention():
            try:
                logits = self.model(input_ids=inputs.to(self.device), **arguments).logits
            finally:
                if hook is not None:
                    hook.remove()
            if reached is None:  # a model that does not call its head as a module
                logits = logits[rows.to(logits.device), columns.to(logits.device)][None]
                waits = False
            scored = [] if waits else self._score(logits[0], targets)
        self.waiting, self.waiting_targets = (reached or [], targets) if waits else ([], [])
        self.waiting_tokens = tokens if waits and targets else 0
        self.counts.passes += 1
        self.counts.forwarded += inputs.numel()
        return scored

    def _score(self, logits: torch.Tensor, places: Sequence[Sequence[Target]]) -> list[_Scored]:
        """Score the targets of each row of `logits`, a few rows at a time."""
        limit = _CHUNK.get(logits.device.type, _CHUNK_ELSEWHERE)
        step = max(1, limit // logits.shape[1])
        scored: list[_Scored] = []
        for first in range(0, len(places), step):
            part = places[first : first + step]
            targets = [target for place in part for target in place]
            row = [i for i, place in enumerate(part) for _ in place]
            logprobs, is_greedy = log_probabilities(
                logits[first : first + step],
                torch.tensor(row, device=logits.device),
                torch.tensor([target.token for target in targets], device=logits.device),
                self.dtype,
            )
            scored += map(_Scored, targets, logprobs.tolist(), is_greedy.tolist())
        return scored


@contextmanager
def _without_cudnn_attention() -> Iterator[None]:
    """Leave attention to the kernels that take any shape at once.

    cuDNN's prepares itself for each new shape, which takes longer than a pass of a small model
    does, and hardly two passes have the same.
    """
    enabled = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)


def log_probabilities(
    logits: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of tokens, and whether each is its row's first largest.

    Parameters
    ----------
    logits
        Shape (positions, vocabulary). Overwritten if already of `dtype`.
    rows, tokens
        Shape (targets,): the position of each target, and its token.
    dtype
        The softmax is taken in it.
    """
    logits = logits.to(dtype)
    largest, at = logits.max(dim=-1)
    above = logits[rows, tokens] - largest[rows]
    normaliser = logits.sub_(largest[:, None]).exp_().sum(dim=-1).log_()
    return above - normaliser[rows], at[rows] == tokens
