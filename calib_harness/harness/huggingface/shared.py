"""From lm-eval's Hugging Face backend to the engine that scores each token of the tree once.

The engine says whether it can run a model; its first results are checked against the plain path,
and where it cannot, or they disagree, that path is taken, with one warning.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm

from calib_harness.errors import UserError
from calib_harness.harness.huggingface.double_check import choose_sample, disagreement
from calib_harness.harness.huggingface.encoding import Encoded
from calib_harness.harness.responses import TokenLogprobs
from calib_harness.harness.scoring_record import ScoringRecord, note_scoring
from calib_harness.scoring.engine import Counts, budget_for, score
from calib_harness.scoring.execution import Ability
from calib_harness.scoring.inspection import CannotShareError
from calib_harness.scoring.passes import Budget, OutOfMemoryError
from calib_harness.scoring.support import describe_error, find_ability
from calib_harness.scoring.tree import Request, build_tree, count_tokens

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
    questions: Sequence[tuple[str, Hashable]],
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
        The task that each index belongs to, and its question there.
    plain
        Scores requests the plain way.

    Raises
    ------
    UserError
        If the environment asks for a mode that does not exist or is not possible.
    """
    mode = _mode()
    if not encoded:
        return
    record = ScoringRecord("shared")
    note_scoring(record, (questions[index][0] for index, _, _ in encoded))
    done: set[int] = set()
    try:
        if mode == "plain":
            raise CannotShareError(f"{VARIABLE} is 'plain'")
        results = _checked(lm, encoded, plain, record)
        for position, result in _with_progress(lm, encoded, results, questions, record):
            done.add(position)
            yield encoded[position][0], result
        return
    except CannotShareError as error:
        record.path = "shared, then plain" if done else "plain"
        record.why = str(error)
    if mode != "plain":
        _warn_or_refuse(lm, record, mode)
    left = [item for position, item in enumerate(encoded) if position not in done]
    if not record.tokens_of_tree and lm.backend == "causal":
        record.tokens_of_tree = count_tokens(build_tree(_requests(left), max_length=lm.max_length))
    yield from plain(left, record=record)


def _mode() -> str:
    mode = os.environ.get(VARIABLE, "auto")
    if mode not in MODES:
        raise UserError(f"{VARIABLE} is {mode!r}; expected one of {', '.join(MODES)}")
    return mode


def _warn_or_refuse(lm: HFLM, record: ScoringRecord, mode: str) -> None:
    name = type(lm.model).__name__
    if mode == "shared":
        raise UserError(
            f"{VARIABLE} is 'shared', but {name} cannot share prefixes: {record.why}; use 'auto' "
            "or 'plain'"
        )
    logger.warning(
        "%s is scored on the plain path: %s. Every choice's whole text is run through the model: "
        "the numbers are right, but it takes longer, often several times.",
        name,
        record.why,
    )


def _checked(
    lm: HFLM,
    encoded: Sequence[Encoded],
    plain: Callable[..., Iterable[tuple[int, TokenLogprobs]]],
    record: ScoringRecord,
) -> Results:
    """Results of the engine, by position; the first are kept back until some are confirmed.

    Raises
    ------
    CannotShareError
        If the engine cannot run the model, or some pass of it fails.
    """
    _check_backend(lm)
    ability = find_ability(
        lm.model,
        longest=min(max(len(c) + len(t) for _, c, t in encoded), lm.max_length),
        tokens=_text_to_try(encoded),
        context=lambda: autocast(lm),
    )
    counts = Counts()
    results = _run(lm, _requests(encoded), ability, counts)
    try:
        first = list(islice(results, max(_FEWEST_HELD, _batch_size(lm))))
        sample = choose_sample([encoded[position] for position, _ in first], counts.planned)
        expected = _score_in_memory(sample, partial(plain, quiet=True, record=record))
        ours = {encoded[position][0]: result for position, result in first}
        reason = disagreement(sample, ours, expected, lm.model)
        if reason is not None:
            raise CannotShareError(reason)
        for result in chain(first, results):
            record.tokens_forwarded, counts.forwarded = (
                record.tokens_forwarded + counts.forwarded,
                0,
            )
            yield result
    except (CannotShareError, OutOfMemoryError):
        raise
    except Exception as error:  # whatever a model unknown to us may raise
        if _mode() == "shared":
            raise
        raise CannotShareError(describe_error("on the shared path", error)) from error
    finally:
        results.close()
        record.tokens_forwarded += counts.forwarded
        record.tokens_of_tree = counts.bound


def _text_to_try(encoded: Sequence[Encoded]) -> list[int]:
    """Tokens of one of the first requests, the longest."""
    texts = [[*context, *tokens] for _, context, tokens in encoded[:_FEWEST_HELD]]
    return max(texts, key=len)


def _requests(encoded: Sequence[Encoded]) -> list[Request]:
    return [Request(context, tokens) for _, context, tokens in encoded]


def _score_in_memory(
    sample: list[Encoded], plain: Callable[..., Iterable[tuple[int, TokenLogprobs]]]
) -> dict[int, TokenLogprobs]:
    """Score the plain way; one by one if a batch, which the engine may never need, is too large."""
    try:
        return dict(plain(sample))
    except RuntimeError as error:
        if len(sample) == 1 or not should_reduce_batch_size(error):
            raise
    clear_device_cache(garbage_collection=True)
    return {index: result for item in sample for index, result in plain([item])}


def _with_progress(
    lm: HFLM,
    encoded: Sequence[Encoded],
    results: Iterable[tuple[int, TokenLogprobs]],
    questions: Sequence[Hashable],
    record: ScoringRecord,
) -> Results:
    """Hand results on; show questions, tokens per second and time left."""
    left = Counter(questions[index] for index, _, _ in encoded)
    before = None
    with tqdm(total=len(left), disable=lm.rank != 0, desc="Scoring", unit=" questions") as bar:
        for position, result in results:
            before = record.tokens_forwarded if before is None else before
            yield position, result
            question = questions[encoded[position][0]]
            left[question] -= 1
            if not left[question]:
                bar.update(1)
                elapsed = bar.format_dict["elapsed"] or 1e-9
                speed = (record.tokens_forwarded - before) / elapsed
                bar.set_postfix_str(f"{speed:,.0f} tokens/s", refresh=False)


def _check_backend(lm: HFLM) -> None:
    """Refuse a backend that the engine cannot stand in for."""
    if lm.backend == "seq2seq":
        raise CannotShareError("it is an encoder-decoder")
    if not calls_as_usual(lm):
        raise CannotShareError(f"{type(lm).__name__} calls it in a way of its own")


def _run(lm: HFLM, requests: Sequence[Request], ability: Ability, counts: Counts) -> Results:
    """Score requests on the engine with the backend's settings."""

    def say(budget: Budget) -> None:
        logger.warning("Out of memory; going on with %d tokens a pass.", budget.tokens)

    for position, (tokens, is_greedy) in score(
        lm.model,
        requests,
        ability=ability,
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
