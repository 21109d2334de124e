"""One entry of an lm-eval sample log: from bytes to the few fields that matter.

The prompts and documents are nearly all of a log's bytes, so the decoder skips them: msgspec
decodes the named fields only. What its types do not foresee goes through the standard
library's json, which is slower and forgiving.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec


class EntryError(Exception):
    """An entry of a log that cannot be used; the message says why."""


class NotMultipleChoiceError(EntryError):
    """An entry of a task without choices."""


class Choices(NamedTuple):
    """The scored choices of one question.

    Attributes
    ----------
    continuations : list of str
        As scored, delimiter included.
    logprobs : list of float
        Sum over each continuation's tokens.
    tokens : list of list of float or None
        Log-probability of each token, if the log has them for every choice.
    """

    continuations: list[str]
    logprobs: list[float]
    tokens: list[list[float]] | None


class Entry(msgspec.Struct, gc=False):
    """The fields of a log entry that are read; the others are skipped."""

    doc_id: Any = None
    doc_hash: Any = None
    target: Any = None
    filter: Any = None
    acc: Any = None
    arguments: msgspec.Raw = msgspec.Raw(b"")
    resps: msgspec.Raw = msgspec.Raw(b"")


class _Argument(msgspec.Struct, gc=False):
    arg_1: Any = None


_ENTRY = msgspec.json.Decoder(Entry)
_ARGUMENTS = msgspec.json.Decoder(dict[str, _Argument] | list[tuple[msgspec.Raw, Any]])
_PAIRS = msgspec.json.Decoder(list[list[tuple[float, msgspec.Raw]]], strict=False)
_TRIPLES = msgspec.json.Decoder(list[list[tuple[float, msgspec.Raw, list[float]]]], strict=False)
_NO_CONTINUATION = "requests have no continuation"
_MOST_DIGITS = 100  # of an index; longer numbers are a choice's text, or nothing
_DECIMAL = re.compile(r"[+-]?\d+(\.0*)?")


def decode_entry(data: bytes) -> Entry:
    """Decode one JSON object; raise :class:`EntryError` if it is none, or its keys are no keys."""
    entry = _decode(data)
    for name in ("doc_id", "filter"):
        value = getattr(entry, name)
        if not isinstance(value, (str, int, float, type(None))):
            raise EntryError(f"its {name} is a JSON {type(value).__name__}, not a number or text")
    return entry


def _decode(data: bytes) -> Entry:
    try:
        return _ENTRY.decode(data)
    except msgspec.DecodeError:
        raw = _loads(data)
        fields = {name: raw.get(name) for name in ("doc_id", "doc_hash", "target", "filter", "acc")}
        arguments, resps = (
            msgspec.Raw(json.dumps(raw[name]).encode()) if name in raw else msgspec.Raw(b"")
            for name in ("arguments", "resps")
        )
        return Entry(**fields, arguments=arguments, resps=resps)


def decode_choices(entry: Entry, *, expect_tokens: bool = False) -> Choices:
    """Read the scored choices of an entry.

    Parameters
    ----------
    entry : Entry
    expect_tokens : bool
        Try first whether there are log-probabilities of tokens; it only saves time.

    Raises
    ------
    NotMultipleChoiceError
        If the entry holds generated text or a single continuation.
    EntryError
        If its responses cannot be understood.
    """
    if not bytes(entry.arguments) or not bytes(entry.resps):
        raise EntryError("it has no 'arguments' and 'resps', so it is no entry of a sample log")
    continuations = _continuations(entry)
    logprobs, tokens = _responses(entry, expect_tokens)
    if len(continuations) != len(logprobs):
        raise EntryError(
            f"it has {len(continuations)} continuations but {len(logprobs)} log-probabilities"
        )
    k = _without_unconditional(continuations)
    return Choices(continuations[:k], logprobs[:k], tokens[:k] if tokens else None)


def document_hash(data: bytes) -> str:
    """Hash an entry's document as lm-eval does, for early logs that lack ``doc_hash``.

    Where the document was taken out of the log, its requests say which question it is.
    """
    raw = _loads(data)
    document = raw.get("arguments") if raw.get("doc") is None else raw["doc"]
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def gold_index(target: Any, texts: Sequence[str]) -> int:
    """Index of the gold choice, -1 where there is none.

    lm-eval logs the target as a string: of the index, of the choice's text, or of a list of
    indices. A list of several is no single gold and gives -1, as does an index outside the
    choices.

    Examples
    --------
    >>> gold_index("1", ["x", "y"]), gold_index("y", ["x", "y"]), gold_index("[1]", ["x", "y"])
    (1, 1, 1)
    >>> gold_index("2", ["x", "y"]), gold_index([0, 1], ["x", "y"]), gold_index(None, ["x", "y"])
    (-1, -1, -1)
    """
    if isinstance(target, str):
        if target.isdecimal() and len(target) <= _MOST_DIGITS:  # by far the most common
            return int(target) if int(target) < len(texts) else -1
        stripped = target.strip()
        if _DECIMAL.fullmatch(stripped) and len(stripped) <= _MOST_DIGITS:
            target = int(float(stripped))
        elif target in texts:
            return texts.index(target)
        elif stripped.startswith("["):
            target = _literal(stripped)
        else:
            plain = [text.strip() for text in texts]
            return plain.index(stripped) if stripped in plain else -1
    if isinstance(target, list):
        return gold_index(target[0], texts) if len(target) == 1 else -1
    if isinstance(target, float) and target.is_integer():
        target = int(target)
    if isinstance(target, int) and 0 <= target < len(texts):
        return int(target)
    return -1


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two: nested deeply
        return None


def _loads(data: bytes) -> dict[str, Any]:
    """Parse with the standard library, which also knows NaN and Infinity."""
    try:
        raw = json.loads(data)
    except UnicodeDecodeError as error:
        raise EntryError(f"it is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise EntryError(f"it is not JSON ({error.msg} at character {error.pos})") from None
    except RecursionError:
        raise EntryError("its JSON is nested too deeply") from None
    if not isinstance(raw, dict):
        raise EntryError(f"it is a JSON {type(raw).__name__}, not an object")
    return raw


def _continuations(entry: Entry) -> list[str]:
    """Second argument of each request, in either layout of ``arguments``."""
    try:
        arguments = _ARGUMENTS.decode(entry.arguments)
    except msgspec.DecodeError:
        raise NotMultipleChoiceError(f"its {_NO_CONTINUATION}") from None
    if isinstance(arguments, dict):
        texts = [argument.arg_1 for argument in arguments.values()]
    else:
        texts = [argument[1] for argument in arguments]
    for text in texts:
        if type(text) is not str:
            what = "answers are generated text" if type(text) is dict else _NO_CONTINUATION
            raise NotMultipleChoiceError(f"its {what}")
    if not texts:
        raise NotMultipleChoiceError(f"its {_NO_CONTINUATION}")
    return texts


def _responses(entry: Entry, expect_tokens: bool) -> tuple[list[float], list[list[float]] | None]:
    """Log-probability of each choice, and of each of its tokens where logged."""
    for with_tokens in (expect_tokens, not expect_tokens):
        with contextlib.suppress(msgspec.DecodeError, IndexError):
            if with_tokens:
                triples = _TRIPLES.decode(entry.resps)
                return [choice[0][0] for choice in triples], [choice[0][2] for choice in triples]
            return [choice[0][0] for choice in _PAIRS.decode(entry.resps)], None
    return _unforeseen_responses(json.loads(bytes(entry.resps)))


def _unforeseen_responses(resps: Any) -> tuple[list[float], list[list[float]] | None]:
    """Responses with NaN, missing token lists, or one level of lists less."""
    logprobs: list[float] = []
    tokens: list[list[float]] = []
    for choice in resps if isinstance(resps, list) else []:
        response = choice[0] if isinstance(choice, list) and choice else choice
        if not isinstance(response, list):
            response = choice
        if not isinstance(response, list) or not response:
            raise NotMultipleChoiceError("its responses are not log-probabilities")
        logprobs.append(_number(response[0]))
        if len(response) > 2 and isinstance(response[2], list):
            tokens.append([_number(token) for token in response[2]])
    return logprobs, tokens if logprobs and len(tokens) == len(logprobs) else None


def _number(value: Any) -> float:
    """Read a logged number; what lm-eval wrote for "none" becomes NaN."""
    if value is None or value == "None":
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise NotMultipleChoiceError("its responses are not log-probabilities") from None


def _without_unconditional(continuations: list[str]) -> int:
    """Count the choices proper.

    A task with ``acc_mutual_info`` scores every choice a second time without its context;
    those requests follow the others and are left out.
    """
    n = len(continuations)
    half = n // 2
    doubled = n >= 4 and n % 2 == 0 and continuations[:half] == continuations[half:]
    return half if doubled and len(set(continuations)) > 1 else n
