"""Tokens of contexts and continuations: lm-eval's, with each distinct text encoded once.

lm-eval encodes every request's context and whole text one by one, a question's context anew for
each choice. Here its own functions say which texts are to be encoded, a fast tokenizer encodes
them in one call, and the same functions then take the tokens from a table.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from types import MethodType
from typing import Any

from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import _add_special_kwargs, has_bos_prefix

from calib_harness.harness.backends.prompts import Encoded, encode
from calib_harness.harness.huggingface.newlines import encodes_by_line, split_lines

__all__ = ["Encoded", "encode", "encode_requests"]

logger = logging.getLogger(__name__)

# Requests, spread over all, that are encoded by lm-eval itself as well, to compare.
_CHECKED = 8

# Contexts follow one another for their choices, and whole texts come once: few need keeping.
_REMEMBERED = 64


def encode_requests(lm: HFLM, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
    """Encode (context, continuation) pairs exactly as `TemplateLM.loglikelihood` does.

    The results of one context may share one list.
    """
    if not _is_known(lm):
        return [encode(lm, index, *pair) for index, pair in enumerate(pairs)]
    texts = _Texts(lm)
    for index, pair in enumerate(pairs):
        encode(texts.asked, index, *pair)
    texts.encode()
    encoded = [encode(texts.answered, index, *pair) for index, pair in enumerate(pairs)]
    for index in range(0, len(pairs), max(1, len(pairs) // _CHECKED)):
        if encoded[index] != encode(lm, index, *pairs[index]):
            logger.warning(
                "%s gives other tokens in batches than text by text; texts are encoded one by one.",
                type(lm.tokenizer).__name__,
            )
            return [encode(lm, index, *pair) for index, pair in enumerate(pairs)]
    return encoded


def _is_known(lm: HFLM) -> bool:
    """Whether a batch can be encoded in place of calls of `tok_encode`."""
    return lm.tokenizer.is_fast and getattr(lm.tok_encode, "__func__", None) is HFLM.tok_encode


class _StandIn:
    """Encodes for lm-eval's functions in place of the backend."""

    def __init__(self, lm: HFLM, tok_encode: Any) -> None:
        self.backend, self.prefix_token_id = lm.backend, lm.prefix_token_id
        self.tok_encode = tok_encode
        self._encode_pair = MethodType(type(lm)._encode_pair, self)


class _Texts:
    """Texts that are to be encoded, cut into lines where that changes nothing.

    Attributes
    ----------
    asked
        Takes note of the texts it is to encode.
    answered
        Knows their tokens, after `encode`.
    """

    def __init__(self, lm: HFLM) -> None:
        self._lm = lm
        self._bos = lm.tokenizer.decode(lm.prefix_token_id)
        self._by_line = encodes_by_line(lm.tokenizer)
        # Whether special tokens are added (None: the tokenizer's default) -> part -> tokens.
        self._parts: dict[bool | None, dict[str, list[int]]] = {}
        self.asked = _StandIn(lm, self._note)
        self.answered = _StandIn(lm, lru_cache(_REMEMBERED)(self._look_up))

    def encode(self) -> None:
        """Encode what was asked for."""
        for special, parts in self._parts.items():
            kwargs = {} if special is None else {"add_special_tokens": special}
            tokens = self._lm.tokenizer(list(parts), return_attention_mask=False, **kwargs)
            parts.update(zip(parts, tokens["input_ids"], strict=True))

    def _note(self, text: str, add_special_tokens: bool | None = None) -> list[int]:
        for special, part in self._cut(text, add_special_tokens):
            self._parts.setdefault(special, {}).setdefault(part, [])
        return []

    def _look_up(self, text: str, add_special_tokens: bool | None = None) -> list[int]:
        parts = self._cut(text, add_special_tokens)
        return list(chain.from_iterable(self._parts[special][part] for special, part in parts))

    def _cut(self, text: str, add_special_tokens: bool | None) -> Iterable[tuple[bool | None, str]]:
        first, *others = split_lines(text) if self._by_line else [text]
        yield self._special(text, add_special_tokens), first
        for part in others:
            yield False, part

    def _special(self, text: str, add_special_tokens: bool | None) -> bool | None:
        """Whether `HFLM.tok_encode` has special tokens added to a text."""
        if add_special_tokens is None and has_bos_prefix(text, self._bos):
            return False
        kwargs = _add_special_kwargs(add_special_tokens, self._lm.add_bos_token)
        return kwargs.get("add_special_tokens")
