"""From lm-eval's Hugging Face backend to the engine that scores each token of the tree once.

Decides whether the engine may run a model, checks it against the plain path before it does,
and falls back to that path, saying so once.
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm

from calib_harness.errors import UserError
from calib_harness.harness.backends import TokenLogprobs
from calib_harness.scoring.engine import Counts, budget_for, score
from calib_harness.scoring.plan import Budget
from calib_harness.scoring.support import reason_against
from calib_harness.scoring.tree import Request

logger = logging.getLogger(__name__)

# The key lm-eval carries along with a request (here: its index), context, continuation.
Encoded = tuple[int, list[int], list[int]]
Results = Iterator[tuple[int, TokenLogprobs]]

VARIABLE = "CALIB_HARNESS_SCORING"
MODES = ("auto", "shared", "plain")

#: Largest difference of a continuation's log-probability between the two paths; in half
#: precision, where the two round differently, per token. benchmarks/RESULTS.md has the measurement.
TOLERANCE = 1e-3
HALF_TOLERANCE_PER_TOKEN = 0.25

# `--batch_size auto` starts here and halves when memory runs out; more gains a CPU nothing.
AUTO_BATCH_SIZE_ON_CPU = 16


def score_shared(
    lm: HFLM,
    encoded: list[Encoded],
    questions: Sequence[Hashable],
    plain: Callable[..., Results],
) -> Results:
    """Score encoded requests, on the engine if it can run the model, else on the plain path.

    Parameters
    ----------
    lm
        lm-eval's backend.
    encoded
        Index, context and continuation of each request; none of them empty.
    questions
        What each index belongs to, for the progress bar.
    plain
        Scores requests the plain way.

    Raises
    ------
    UserError
        If the environment asks for a mode that does not exist or is not possible.
    """
    if not encoded or not _may_share(lm, encoded) or not _paths_agree(lm, encoded, plain):
        yield from plain(encoded)
        return
    requests = [Request(context, continuation) for _, context, continuation in encoded]
    counts = Counts()
    left = Counter(questions[index] for index, _, _ in encoded)
    with tqdm(total=len(left), disable=lm.rank != 0, desc="Scoring", unit=" questions") as bar:
        for position, result in _run(lm, requests, counts):
            index = encoded[position][0]
            yield index, result
            question = questions[index]
            left[question] -= 1
            if not left[question]:
                bar.update(1)
                elapsed = bar.format_dict["elapsed"] or 1e-9
                bar.set_postfix_str(f"{counts.forwarded / elapsed:,.0f} tokens/s", refresh=False)


def _may_share(lm: HFLM, encoded: Sequence[Encoded]) -> bool:
    mode = os.environ.get(VARIABLE, "auto")
    if mode not in MODES:
        raise UserError(f"{VARIABLE} is {mode!r}; expected one of {', '.join(MODES)}")
    if mode == "plain":
        return False
    longest = max(len(context) + len(tokens) for _, context, tokens in encoded)
    reason = (
        "it is an encoder-decoder"
        if lm.backend == "seq2seq"
        else reason_against(lm.model, longest=min(longest, lm.max_length))
    )
    if reason is None:
        return True
    name = type(lm.model).__name__
    if mode == "shared":
        raise UserError(
            f"{VARIABLE} is 'shared', but {name} cannot share prefixes: {reason}; use 'auto' or "
            "'plain'"
        )
    logger.warning("%s is scored on the plain path: %s.", name, reason)
    return False


def _paths_agree(lm: HFLM, encoded: Sequence[Encoded], plain: Callable[..., Results]) -> bool:
    """Score a few requests both ways; say so if the engine's results cannot be trusted."""
    sample = _sample(encoded)
    expected = dict(plain(sample, quiet=True))
    requests = [Request(context, continuation) for _, context, continuation in sample]
    for position, result in _run(lm, requests, Counts()):
        index, _, continuation = sample[position]
        ours, plains = result.logprob, expected[index].logprob
        difference = abs(ours - plains)
        allowed = tolerance(lm.model.dtype, len(continuation))
        same = ours == plains or (math.isnan(ours) and math.isnan(plains))
        if not (same or difference <= allowed):  # so that a single NaN disagrees
            logger.warning(
                "%s gives other log-probabilities when prefixes are shared (they differ by %.2g, "
                "allowed is %.2g); the run continues on the plain path.",
                type(lm.model).__name__,
                difference,
                allowed,
            )
            return False
    return True


def tolerance(dtype: torch.dtype, n_tokens: int) -> float:
    """Largest difference between the two paths' sums over `n_tokens` that is rounding."""
    if dtype in (torch.float16, torch.bfloat16):
        return HALF_TOLERANCE_PER_TOKEN * n_tokens
    return TOLERANCE


def _sample(encoded: Sequence[Encoded]) -> list[Encoded]:
    """Two choices each of the first two questions: every kind of sharing, at little cost."""
    by_context: dict[tuple[int, ...], list[Encoded]] = {}
    for item in encoded:
        siblings = by_context.setdefault(tuple(item[1]), [])
        if len(siblings) < 2:
            siblings.append(item)
        if len(by_context) > 2:
            break
    return [item for siblings in list(by_context.values())[:2] for item in siblings]


def _run(lm: HFLM, requests: Sequence[Request], counts: Counts) -> Results:
    """Score requests on the engine with the backend's settings."""

    def say(budget: Budget) -> None:
        logger.warning("Out of memory; going on with %d tokens a pass.", budget.tokens)

    for position, (tokens, is_greedy) in score(
        lm.model,
        requests,
        budget=budget_for(_batch_size(lm), requests, lm.max_length),
        max_length=lm.max_length,
        softmax_dtype=lm.softmax_dtype,
        context=lambda: _autocast(lm),
        counts=counts,
        on_smaller_budget=say,
    ):
        yield position, TokenLogprobs(sum(tokens), is_greedy, tokens)


def _batch_size(lm: HFLM) -> int:
    if lm.batch_size != "auto":
        return int(lm.batch_size)
    return AUTO_BATCH_SIZE_ON_CPU if lm.device.type == "cpu" else int(lm.max_batch_size)


def _autocast(lm: HFLM) -> Any:
    return torch.autocast(
        device_type=lm.device.type,
        dtype=lm.mixed_precision_dtype,
        enabled=lm.mixed_precision_dtype is not None,
    )
