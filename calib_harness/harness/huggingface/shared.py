"""From lm-eval's Hugging Face backend to the engine that scores each token of the tree once.

Decides whether the engine may run a model, checks it against the plain path before it does,
and falls back to that path, saying so once.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from itertools import chain, islice
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm

from calib_harness.errors import UserError
from calib_harness.harness.huggingface.double_check import agree, choose_sample
from calib_harness.harness.huggingface.encoding import Encoded
from calib_harness.harness.responses import TokenLogprobs
from calib_harness.scoring.engine import Counts, budget_for, score
from calib_harness.scoring.passes import Budget
from calib_harness.scoring.support import reason_against
from calib_harness.scoring.tree import Request

logger = logging.getLogger(__name__)

Results = Generator[tuple[int, TokenLogprobs], None, None]

VARIABLE = "CALIB_HARNESS_SCORING"
MODES = ("auto", "shared", "plain")

# Results that are kept back until some of them are confirmed by the plain path: a batch of
# requests, or this many if that is more.
_FEWEST_HELD = 8

# `--batch_size auto` starts here and halves when memory runs out; more gains a CPU nothing.
AUTO_BATCH_SIZE_ON_CPU = 16


def score_shared(
    lm: HFLM,
    encoded: list[Encoded],
    questions: Sequence[Hashable],
    plain: Callable[..., Iterable[tuple[int, TokenLogprobs]]],
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
    if not encoded or not _may_share(lm, encoded):
        yield from plain(encoded)
        return
    counts = Counts()
    results = _run(lm, [Request(context, tokens) for _, context, tokens in encoded], counts)
    first = list(islice(results, max(_FEWEST_HELD, _batch_size(lm))))
    sample = choose_sample([encoded[position] for position, _ in first], counts.planned)
    expected = _score_in_memory(sample, plain)
    ours = {encoded[position][0]: result for position, result in first}
    if not agree(sample, ours, expected, lm.model):
        results.close()
        yield from plain(encoded)
        return
    yield from _with_progress(lm, encoded, chain(first, results), questions, counts)


def _score_in_memory(
    sample: list[Encoded], plain: Callable[..., Iterable[tuple[int, TokenLogprobs]]]
) -> dict[int, TokenLogprobs]:
    """Score the plain way; one by one if a batch, which the engine may never need, is too large."""
    try:
        return dict(plain(sample, quiet=True))
    except RuntimeError as error:
        if len(sample) == 1 or not should_reduce_batch_size(error):
            raise
    clear_device_cache(garbage_collection=True)
    return {index: result for item in sample for index, result in plain([item], quiet=True)}


def _with_progress(
    lm: HFLM,
    encoded: Sequence[Encoded],
    results: Iterable[tuple[int, TokenLogprobs]],
    questions: Sequence[Hashable],
    counts: Counts,
) -> Results:
    """Hand results on by index; show questions, tokens per second and time left."""
    left = Counter(questions[index] for index, _, _ in encoded)
    before = counts.forwarded
    with tqdm(total=len(left), disable=lm.rank != 0, desc="Scoring", unit=" questions") as bar:
        for position, result in results:
            index = encoded[position][0]
            yield index, result
            question = questions[index]
            left[question] -= 1
            if not left[question]:
                bar.update(1)
                elapsed = bar.format_dict["elapsed"] or 1e-9
                speed = (counts.forwarded - before) / elapsed
                bar.set_postfix_str(f"{speed:,.0f} tokens/s", refresh=False)


def _may_share(lm: HFLM, encoded: Sequence[Encoded]) -> bool:
    mode = os.environ.get(VARIABLE, "auto")
    if mode not in MODES:
        raise UserError(f"{VARIABLE} is {mode!r}; expected one of {', '.join(MODES)}")
    if mode == "plain":
        return False
    reason = _reason_against(lm, encoded)
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


def _reason_against(lm: HFLM, encoded: Sequence[Encoded]) -> str | None:
    """Say why the engine cannot stand in for the backend; None if it can."""
    if lm.backend == "seq2seq":
        return "it is an encoder-decoder"
    if not calls_as_usual(lm):
        return f"{type(lm).__name__} calls it in a way of its own"
    longest = max(len(context) + len(tokens) for _, context, tokens in encoded)
    return reason_against(lm.model, longest=min(longest, lm.max_length))


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
        context=lambda: autocast(lm),
        counts=counts,
        on_smaller_budget=say,
    ):
        yield position, TokenLogprobs(sum(tokens), is_greedy, tokens)


def _batch_size(lm: HFLM) -> int:
    if lm.batch_size != "auto":
        return int(lm.batch_size)
    return AUTO_BATCH_SIZE_ON_CPU if lm.device.type == "cpu" else int(lm.max_batch_size)


def calls_as_usual(lm: HFLM) -> bool:
    """Say whether nothing but lm-eval calls the model; others steer it, for example."""
    return getattr(lm._model_call, "__func__", None) is HFLM._model_call


def autocast(lm: HFLM) -> Any:
    """Enter what the backend enters around each call of its model."""
    return torch.autocast(
        device_type=lm.device.type,
        dtype=lm.mixed_precision_dtype,
        enabled=lm.mixed_precision_dtype is not None,
    )
