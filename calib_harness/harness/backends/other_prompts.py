"""Whether a backend asks a model other prompts than lm-eval's `hf` would."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

logger = logging.getLogger(__name__)


def warn_of_other_prompts(lm: LM, requests: Sequence[Instance]) -> None:
    """Say so if the first prompt has other tokens than `hf` gives it, and what makes them equal.

    `hf` leaves special tokens to the tokenizer; lm-eval's API backends and its `sglang` add none
    unless told to. The numbers of one model then differ between backends.
    """
    tokenizer: Any = getattr(lm, "tokenizer", None)
    context = next((r.args[0] for r in requests if isinstance(r.args[0], str) and r.args[0]), None)
    if context is None or not hasattr(tokenizer, "backend_tokenizer"):
        return
    own = _tokens(lm.tok_encode(context))
    hf = _as_hf(lm, tokenizer, context)
    if own == hf:
        return
    front = tokenizer.convert_ids_to_tokens(hf[: len(hf) - len(own)]) if len(hf) > len(own) else []
    if front and hf[len(front) :] == own:
        if getattr(lm, "tokenized_requests", True) is False:
            logger.warning(
                "%s sends texts without %s, which hf puts in front of each prompt: unless the "
                "server does, the scores of the two cannot be compared; add_bos_token=True in the "
                "model's arguments then sends it.",
                type(lm).__name__,
                " ".join(map(repr, front)),
            )
            return
        logger.warning(
            "%s asks the model other prompts than hf does: hf puts %s in front of each. The scores "
            "of the two cannot be compared; add_bos_token=True in the model's arguments makes the "
            "prompts equal.",
            type(lm).__name__,
            " ".join(map(repr, front)),
        )
        return
    logger.warning(
        "%s asks the model other prompts than hf does: the first has %d tokens, %d with hf. The "
        "scores of the two cannot be compared; give both backends the same tokenizer and the same "
        "add_bos_token.",
        type(lm).__name__,
        len(own),
        len(hf),
    )


def n_left_to_server(lm: LM) -> int:
    """Count the tokens that hf puts in front of a text and this backend does not."""
    tokenizer: Any = getattr(lm, "tokenizer", None)
    if not hasattr(tokenizer, "backend_tokenizer"):
        return 0
    own, hf = _tokens(lm.tok_encode("a")), _as_hf(lm, tokenizer, "a")
    return len(hf) - len(own) if hf[len(hf) - len(own) :] == own else 0


def _tokens(tokens: Any) -> list[int]:
    return list(tokens)


def _as_hf(lm: LM, tokenizer: Any, context: str) -> list[int]:
    """Tokens that `hf` with its defaults makes of a prompt (lm-eval's `HFLM.tok_encode`)."""
    bos = tokenizer.bos_token
    if bos and context.startswith(bos):
        return list(tokenizer(context, add_special_tokens=False).input_ids)
    return list(tokenizer(context).input_ids)
