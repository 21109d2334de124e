"""Run passes through a model: prefixes out of the stores, logits only where a token is scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from calib_harness.scoring.inspection import CacheKind, forward_arguments
from calib_harness.scoring.pass_cache import PassCache, make_cache
from calib_harness.scoring.passes import Manner, Pass
from calib_harness.scoring.state_store import StateStore
from calib_harness.scoring.token_store import TokenStore
from calib_harness.scoring.tree import Target

# Positions whose logits are computed together, at least: a product of few rows with the head's
# matrix takes as long as reading the matrix does.
_FEWEST_POSITIONS = 128

# Logits that are normalised at a time: few enough to stay in a CPU's cache, many enough to
# keep an accelerator busy.
_CHUNK = {"cpu": 2**20}
_CHUNK_ELSEWHERE = 2**26


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


# Row and column in a pass, and what is predicted there.
Place = tuple[int, int, list[Target]]


class Scored(NamedTuple):
    """A target with its log-probability, and whether it is the most probable token."""

    target: Target
    logprob: float
    is_greedy: bool


@dataclass(eq=False)
class Runner:
    """Runs passes through the model.

    A pass with few scored positions leaves their hidden states to a later one, so that the
    head's large matrix is used on many at a time; but no longer than for `most_waiting` tokens,
    since only what is scored can be cached.
    """

    model: PreTrainedModel
    kind: CacheKind
    manner: Manner
    device: torch.device
    dtype: torch.dtype
    pad_token_id: int
    context: Callable[[], AbstractContextManager[Any]]
    counts: Counts
    most_waiting: int
    tokens: TokenStore = field(default_factory=TokenStore)
    states: StateStore = field(default_factory=StateStore)
    waiting: list[torch.Tensor] = field(default_factory=list)
    waiting_targets: list[list[Target]] = field(default_factory=list)
    waiting_tokens: int = 0

    def __post_init__(self) -> None:
        self._arguments = forward_arguments(self.model)
        self._head: nn.Module | None = self.model.get_output_embeddings()

    def clear(self) -> None:
        """Forget all prefixes and free their memory."""
        self.tokens.clear()
        self.states.clear()

    def forward(self, batch: Pass) -> list[Scored]:
        """Compute a pass, store what later passes read; return what has been scored by now."""
        inputs = torch.tensor(
            [
                [*node.tokens, *[self.pad_token_id] * (batch.width - len(node.tokens))]
                for node in batch.nodes
            ]
        )
        places = list(batch.targets())
        goes_on = any(node.start for node in batch.nodes)
        if not goes_on and not batch.is_kept:
            scored = self._run(inputs, places, _FEWEST_POSITIONS, {"use_cache": False})
        else:
            scored = self._run_with_cache(batch, inputs, places, goes_on=goes_on)
        self.counts.done += sum(
            len(node.tokens)
            for node, is_new in zip(batch.nodes, batch.is_scored, strict=True)
            if is_new
        )
        return scored

    def _run_with_cache(
        self, batch: Pass, inputs: torch.Tensor, places: Sequence[Place], *, goes_on: bool
    ) -> list[Scored]:
        cache = make_cache(
            batch,
            own=self.kind.own,
            kinds=self.kind.layers,
            tokens=self.tokens,
            states=self.states,
            manner=self.manner,
        )
        before = list(self.waiting), list(self.waiting_targets), self.waiting_tokens
        scored: list[Scored] = []
        step = 1 if goes_on and self.manner.one_by_one else batch.width
        try:
            for first in range(0, batch.width, step):
                part = slice(first, first + step)
                cache.column = first
                here = [(row, at - first, t) for row, at, t in places if first <= at < part.stop]
                arguments = self._cache_arguments(cache, part, goes_on=goes_on)
                scored += self._run(inputs[:, part], here, _FEWEST_POSITIONS, arguments)
        except Exception:
            # Of some of its tokens: what they took along is left waiting, and scored again.
            self.waiting, self.waiting_targets, self.waiting_tokens = before
            raise
        cache.keep_states(batch)
        return scored

    def _cache_arguments(self, cache: PassCache, part: slice, *, goes_on: bool) -> dict[str, Any]:
        """Tell the model of a prefix; without one its defaults are right."""
        arguments: dict[str, Any] = {"use_cache": True, self.kind.argument: cache}
        if not goes_on:  # causal, and padding comes last
            return arguments
        # States read no mask: padding comes last, and what follows it is of no use.
        if "attention_mask" in self._arguments and self.kind.keeps_tokens:
            mask = cache.layout.attention_mask[:, : cache.layout.prefix_length + part.stop]
            arguments["attention_mask"] = mask.to(self.device)
        if "position_ids" in self._arguments and not self.manner.same_start:
            arguments["position_ids"] = cache.layout.position_ids[:, part].to(self.device)
        return arguments

    def finish(self) -> list[Scored]:
        """Score what is left waiting: one token carries it through the model's own head."""
        if not self.waiting_targets:
            return []
        return self._run(torch.tensor([[self.pad_token_id]]), [], 0, {"use_cache": False})

    def _run(
        self,
        inputs: torch.Tensor,
        places: Sequence[Place],
        fewest: int,
        arguments: Mapping[str, Any],
    ) -> list[Scored]:
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
        with torch.no_grad(), self.context(), without_cudnn_attention():
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

    def _score(self, logits: torch.Tensor, places: Sequence[Sequence[Target]]) -> list[Scored]:
        """Score the targets of each row of `logits`, a few rows at a time."""
        limit = _CHUNK.get(logits.device.type, _CHUNK_ELSEWHERE)
        step = max(1, limit // logits.shape[1])
        scored: list[Scored] = []
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
            scored += map(Scored, targets, logprobs.tolist(), is_greedy.tolist())
        return scored


@contextmanager
def without_cudnn_attention() -> Iterator[None]:
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
