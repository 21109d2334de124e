"""Log-probabilities from a causal transformers model; what requests share is computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers import PreTrainedModel

from calib_harness.scoring.execution import Ability, TokenScores, execute
from calib_harness.scoring.passes import Budget, Costs
from calib_harness.scoring.runner import Counts, log_probabilities
from calib_harness.scoring.support import find_ability
from calib_harness.scoring.tree import Request

__all__ = ["Counts", "TokenScores", "budget_for", "log_probabilities", "score"]


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
    ability: Ability | None = None,
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
        A transformers causal language model in eval mode.
    requests
        Token ids; contexts and continuations must not be empty.
    budget
        Size of a pass; halved when memory runs out. See `budget_for`.
    max_length
        Tokens the model can read; longer requests are truncated from the left.
    ability
        How the engine runs the model; found out on a few tokens by default.
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
    inspection.CannotShareError
        If the engine cannot run the model.
    ValueError
        If a request cannot be scored; see `tree.read_window`.
    passes.OutOfMemoryError
        If a single row does not fit into memory.
    """
    if ability is None:
        longest = max((len(c) + len(t) - 1 for c, t in requests), default=1)
        ability = find_ability(model, longest=min(longest, max_length), context=context)
    yield from execute(
        model,
        requests,
        ability=ability,
        budget=budget,
        max_length=max_length,
        softmax_dtype=softmax_dtype,
        pad_token_id=pad_token_id,
        context=context,
        costs=costs,
        counts=counts,
        on_smaller_budget=on_smaller_budget,
    )
