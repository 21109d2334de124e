"""Token log-probabilities from lm-eval's Hugging Face backend, with its own batching.

This is the plain path: it works for every causal and sequence-to-sequence model the backend
can load, and computes what `HFLM._loglikelihood_tokens` computes, keeping each token's
log-probability instead of the sum alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import Collator
from lm_eval.models.utils_hf import pad_and_concat
from tqdm import tqdm

from calib_harness.errors import UserError
from calib_harness.harness.backends import confirm, score_tokens
from calib_harness.harness.huggingface.encoding import Encoded, encode_requests
from calib_harness.harness.huggingface.shared import autocast, calls_as_usual, score_shared
from calib_harness.harness.responses import TokenLogprobs
from calib_harness.harness.scoring_record import ScoringRecord
from calib_harness.scoring.inspection import forward_arguments

logger = logging.getLogger(__name__)


@score_tokens.register(HFLM)
def score_tokens_hf(lm: HFLM, requests: Sequence[Instance]) -> Iterator[tuple[int, TokenLogprobs]]:
    """Score requests with a causal or sequence-to-sequence Hugging Face model."""
    if lm.chat_template_args.get("enable_thinking"):
        raise UserError(
            "enable_thinking must be off: a model that thinks first has no choice's score"
        )
    kept = keep_scorable(lm, encode_requests(lm, [request.args[:2] for request in requests]))
    max_length = lm.max_length
    truncated = {item[0]: max(_length(lm, item) - max_length, 0) for item in kept}
    for index, response in score_shared(
        lm,
        kept,
        questions=[(request.task_name, request.doc_id) for request in requests],
        plain=partial(score_plain, lm),
    ):
        yield index, response._replace(truncated=truncated[index])


@confirm.register(HFLM)
def confirm_hf(lm: HFLM, requests: Sequence[Instance]) -> None:
    """Ask nothing: logits are read here, and shared prefixes are checked against the plain path."""


def keep_scorable(lm: HFLM, encoded: Sequence[Encoded]) -> list[Encoded]:
    """Leave out what cannot be scored, and count what will be truncated; warn once of each."""
    max_length = lm.max_length  # the backend looks it up in the model's config each time
    kept = [item for item in encoded if 0 < len(item[2]) <= max_length]
    if len(kept) < len(encoded):
        logger.warning(
            "%d of %d continuations cannot be scored: they have no tokens, or more than the "
            "model's maximum of %d. Their questions will be left out and counted.",
            len(encoded) - len(kept),
            len(encoded),
            max_length,
        )
    truncated = sum(_length(lm, item) > max_length for item in kept)
    if truncated:
        logger.warning(
            "%d of %d requests are longer than the model's maximum of %d tokens; their "
            "contexts are truncated from the left.",
            truncated,
            len(encoded),
            max_length,
        )
    return kept


def _length(lm: HFLM, item: Encoded) -> int:
    """Tokens that the model, or its encoder, would have to read."""
    _, context, continuation = item
    return len(context) + (0 if lm.backend == "seq2seq" else len(continuation) - 1)


def score_plain(
    lm: HFLM,
    encoded: list[Encoded],
    *,
    quiet: bool = False,
    record: ScoringRecord | None = None,
) -> Iterator[tuple[int, TokenLogprobs]]:
    """Score encoded requests in lm-eval's order and batches, each with its whole context.

    Parameters
    ----------
    lm
        lm-eval's backend.
    encoded
        Index, context and continuation of each request.
    quiet
        Show no progress.
    record
        Its forwarded tokens are counted up.
    """
    ordered = Collator(
        encoded,
        sort_fn=lambda item: (-len(item[1] + item[2]), tuple(item[1] + item[2])),
        # Requests that differ in their last token only share one row of a batch.
        group_by="contexts" if lm.backend == "causal" and lm.logits_cache else None,
        group_fn=lambda item: item[1] + item[2][:-1],
    )
    automatic = lm.batch_size == "auto" and bool(encoded)
    if automatic:
        lm.batch_sizes = {}  # sizes found for an earlier task's lengths do not hold here
    chunks = ordered.get_batched(
        n=0 if lm.batch_size == "auto" else lm.batch_size,
        batch_fn=lm._batch_scheduler if automatic else None,
    )
    with tqdm(
        total=len(encoded), disable=quiet or lm.rank != 0, desc="Running requests"
    ) as progress:
        for chunk in chunks:
            if record is not None:
                record.tokens_forwarded += len(chunk) * max(_length(lm, item) for item in chunk)
            rows = _continuation_logits(lm, chunk)
            for (index, context, continuation), logits in zip(chunk, rows, strict=True):
                for shared_index, tokens, shared in ordered.get_cache(
                    req_str=index,
                    cxt_toks=context,
                    cont_toks=continuation,
                    logits=logits.unsqueeze(0),
                ):
                    yield shared_index, read_tokens(shared[0], tokens, lm.softmax_dtype)
                    progress.update(1)


def read_tokens(
    logits: torch.Tensor, tokens: Sequence[int], softmax_dtype: torch.dtype | None = None
) -> TokenLogprobs:
    """Log-probabilities of `tokens` from the logits that predict them.

    Parameters
    ----------
    logits
        Shape (at least len(tokens), vocabulary); the last rows belong to `tokens`.
    tokens
        The continuation's tokens.
    softmax_dtype
        The softmax is taken in this dtype; float32 by default, where lm-eval takes the model's
        own: sums of bfloat16 log-probabilities are too coarse to compare choices by.
    """
    target = torch.as_tensor(tokens, device=logits.device)
    rows = logits[-len(tokens) :]
    is_greedy = bool((rows.argmax(dim=-1) == target).all())
    logprobs = torch.log_softmax(rows, dim=-1, dtype=softmax_dtype or torch.float32)
    chosen = logprobs.gather(1, target.unsqueeze(1)).squeeze(1).tolist()
    return TokenLogprobs(sum(chosen), is_greedy, chosen)


def _continuation_logits(lm: HFLM, chunk: Sequence[Encoded]) -> Iterator[torch.Tensor]:
    """Run one batch; yield, per request, the logits that predict its continuation."""
    if lm.backend == "seq2seq":
        return _seq2seq_logits(lm, chunk)
    return _causal_logits(lm, chunk)


def _causal_logits(lm: HFLM, chunk: Sequence[Encoded]) -> Iterator[torch.Tensor]:
    inputs = [
        torch.tensor((context + continuation)[-(lm.max_length + 1) :][:-1], device=lm.device)
        for _, context, continuation in chunk
    ]
    lengths = [len(row) for row in inputs]  # pad_and_concat pads them in place
    longest = max(lengths)
    first = min(
        length - len(continuation)
        for length, (_, _, continuation) in zip(lengths, chunk, strict=True)
    )
    rows = pad_and_concat(longest, inputs, padding_side="right")
    logits = _last_logits(lm, rows, longest - first)
    # Prompt tuning puts virtual tokens in front of every row, and not all positions may be there.
    offset = logits.shape[1] - longest
    for row, length, (_, _, continuation) in zip(logits, lengths, chunk, strict=True):
        end = length + offset
        yield row[end - len(continuation) : end]


def _last_logits(lm: HFLM, rows: torch.Tensor, count: int) -> torch.Tensor:
    """Logits of at least the last `count` positions; of no more if the model can be told so."""
    if calls_as_usual(lm) and "logits_to_keep" in forward_arguments(lm.model):
        with torch.no_grad(), autocast(lm):
            return lm.model(rows, logits_to_keep=count).logits
    return lm._model_call(rows)


def _seq2seq_logits(lm: HFLM, chunk: Sequence[Encoded]) -> Iterator[torch.Tensor]:
    contexts = [torch.tensor(item[1][-lm.max_length :], device=lm.device) for item in chunk]
    targets = [torch.tensor(item[2], device=lm.device) for item in chunk]
    masks = [torch.ones_like(row) for row in contexts]
    longest = max(len(row) for row in contexts)
    lengths = [len(row) for row in targets]  # pad_and_concat pads them in place
    logits = lm._model_call(
        pad_and_concat(longest, contexts),
        attn_mask=pad_and_concat(longest, masks),
        labels=pad_and_concat(max(lengths), targets),
    )
    for row, length in zip(logits, lengths, strict=True):
        yield row[:length]
