"""Which tokenizers can encode a text line by line, and where a line may be cut off.

The prompts of a task repeat their lines: the shots stand in every one of them. A tokenizer
encodes the parts of a text as it encodes the whole if it splits words there in any case.
"""

from __future__ import annotations

import json
import string
from itertools import pairwise
from typing import Any

from tokenizers import AddedToken
from tokenizers.models import BPE

# A cut comes after a newline that follows one of these and before one of those.
_BEFORE = frozenset(string.ascii_letters + string.digits + string.punctuation)
_AFTER = frozenset(string.ascii_letters + string.digits)

_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
)
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"

# Word patterns whose matches always end after such a newline: none takes a newline and a letter
# or digit together, none looks back, and none looks further ahead than one character.
_PATTERNS = frozenset(
    {
        rf"{_SHORT}|{_LETTERS}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACE}",  # Llama 3
        rf"{_SHORT}|{_LETTERS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACE}",  # Qwen 2 and 3
        rf"{_CASED}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACE}",  # gpt-oss
    }
)


def split_lines(text: str) -> list[str]:
    """Cut a text where lines may be encoded apart; ``"".join`` undoes it."""
    lines = text.split("\n")
    parts = [lines[0]]
    for before, line in pairwise(lines):
        if before[-1:] in _BEFORE and line[:1] in _AFTER:
            parts[-1] += "\n"
            parts.append(line)
        else:
            parts[-1] += "\n" + line
    return parts


def encodes_by_line(tokenizer: Any) -> bool:
    """Say whether the lines of `split_lines` are surely encoded alike apart and together.

    Parameters
    ----------
    tokenizer
        A fast transformers tokenizer. Only those whose parts are all known say yes: byte-level
        BPE (GPT-2, GPT-NeoX, OLMo, Llama 3, Qwen, gpt-oss). SentencePiece's do not split words
        at lines.
    """
    parts = tokenizer.backend_tokenizer
    return (
        isinstance(parts.model, BPE)
        and not parts.model.dropout
        and (parts.normalizer is None or _state(parts.normalizer) == {"type": "NFC"})
        and parts.pre_tokenizer is not None
        and _splits_at_lines(_state(parts.pre_tokenizer))
        and not any(map(_may_cross, parts.get_added_tokens_decoder().values()))
        and _adds_nothing_at_the_end(tokenizer)
    )


def _state(part: Any) -> Any:
    """Read what tokenizer.json says of one part: all of it would include the vocabulary."""
    return json.loads(part.__getstate__())


def _splits_at_lines(pre_tokenizer: dict[str, Any]) -> bool:
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    byte_level = parts[-1]
    if byte_level["type"] != "ByteLevel" or byte_level["add_prefix_space"]:
        return False
    if len(parts) == 1:
        return bool(byte_level.get("use_regex", True))  # GPT-2's pattern
    return (
        len(parts) == 2
        and not byte_level.get("use_regex", True)
        and parts[0]["type"] == "Split"
        and parts[0]["pattern"].get("Regex") in _PATTERNS
        and (parts[0]["behavior"], parts[0]["invert"]) in {("Isolated", False), ("Removed", True)}
    )


def _may_cross(token: AddedToken) -> bool:
    """Whether an added token may take a newline, or depend on what stands beside it."""
    return "\n" in token.content or token.lstrip or token.rstrip or token.single_word


def _adds_nothing_at_the_end(tokenizer: Any) -> bool:
    """Whether special tokens, if any, are put in front only."""
    word = tokenizer.encode("a", add_special_tokens=False)
    whole = tokenizer.encode("a", add_special_tokens=True)
    return bool(whole == tokenizer.encode("", add_special_tokens=True) + word)
