"""One entry of an lm-eval sample log: from bytes to the few fields that matter.

The prompts and documents are nearly all of a log's bytes, so the decoder skips them: msgspec
decodes the named fields only. What its types do not foresee goes through the standard
library's json, which is slower and forgiving.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from calib_harness.core.confidence import is_lettered
from calib_harness.predictions.table import UNDECIDED


class EntryError(Exception):
    """An entry of a log that cannot be used; the message says why."""


class OtherFormatError(EntryError):
    """An entry of a file that another program wrote, or a version that is not read."""


class NoSampleError(EntryError):
    """An entry that lacks what makes an entry of a sample log."""


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
    truncated : int or None
        Tokens cut off the beginning of the longest request; None if the log does not tell.
    """

    continuations: list[str]
    logprobs: list[float]
    tokens: list[list[float]] | None
    truncated: int | None


class Facts(msgspec.Struct, gc=False):
    """What our own tasks state of a question, under the key ``calib_harness``."""

    gold: int | None = None
    prompt: str = ""


#: Metrics whose logged value names the gold as an index, beside what they are computed from.
_NAMING_GOLD = ("ece", "sce", "brier_score", "nll", "likelihood", "f1", "mcc")
#: Accuracies that lm-eval logs question by question.
ACCURACIES = ("acc", "acc_norm", "acc_bytes", "em")
_NOTHING = msgspec.Raw(b"")


class Entry(msgspec.Struct, gc=False):
    """The fields of a log entry that are read; the others are skipped."""

    doc_id: Any = None
    doc_hash: Any = None
    prompt_hash: Any = None
    target: Any = None
    filter: Any = None
    acc: Any = None
    acc_norm: Any = None
    acc_bytes: Any = None
    em: Any = None
    logit_0: Any = None
    calib_harness: Facts | None = None
    doc: msgspec.Raw = _NOTHING
    arguments: msgspec.Raw = _NOTHING
    resps: msgspec.Raw = _NOTHING
    ece: msgspec.Raw = _NOTHING
    sce: msgspec.Raw = _NOTHING
    brier_score: msgspec.Raw = _NOTHING
    nll: msgspec.Raw = _NOTHING
    likelihood: msgspec.Raw = _NOTHING
    f1: msgspec.Raw = _NOTHING
    mcc: msgspec.Raw = _NOTHING


class _Argument(msgspec.Struct, gc=False):
    arg_1: str


class _Response(msgspec.Struct, array_like=True, gc=False):
    """One answer of a backend that tells tokens; ours also tell what was cut off."""

    logprob: float
    is_greedy: msgspec.Raw
    tokens: list[float]
    truncated: int = -1


_ENTRY = msgspec.json.Decoder(Entry)
_ARGUMENTS = msgspec.json.Decoder(dict[str, _Argument] | list[tuple[msgspec.Raw, str]])
_PAIRS = msgspec.json.Decoder(list[list[tuple[float, msgspec.Raw]]], strict=False)
_RESPONSES = msgspec.json.Decoder(list[list[_Response]], strict=False)
_NO_CONTINUATION = "its requests have no continuation"
_IN_ORDER = tuple(tuple(f"gen_args_{i}" for i in range(n)) for n in range(65))
_NUMBER = re.compile(r"\d+$")


def decode_entry(data: bytes) -> Entry:
    """Decode one JSON object; raise :class:`EntryError` if it is none, or its keys are no keys."""
    try:
        entry = _ENTRY.decode(data)
    except msgspec.DecodeError:
        entry = _unforeseen_entry(data)
    if type(entry.doc_id) is int and type(entry.filter) is str:  # nearly always
        return entry
    for name in ("doc_id", "filter"):
        value = getattr(entry, name)
        if not isinstance(value, (str, int, float, type(None))):
            raise EntryError(f"its {name} is a JSON {type(value).__name__}, not a number or text")
    return entry


def _unforeseen_entry(data: bytes) -> Entry:
    raw = _loads(data)
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(Entry):
        value = raw.get(field.name)
        if field.type is msgspec.Raw:
            present = field.name in raw
            fields[field.name] = msgspec.Raw(json.dumps(value).encode()) if present else _NOTHING
        elif field.name == "calib_harness":
            fields[field.name] = _facts(value)
        else:
            fields[field.name] = value
    return Entry(**fields)


def _facts(value: Any) -> Facts | None:
    try:
        return msgspec.convert(value, Facts | None)
    except msgspec.ValidationError:
        raise EntryError("its 'calib_harness' is not what our tasks write there") from None


def stated_gold(entry: Entry) -> int | None:
    """Index of the right choice as the entry states it, beside its target; None if it does not.

    -1 where it states that there is none, ``UNDECIDED`` where it states several.
    """
    if entry.calib_harness is not None:
        gold = entry.calib_harness.gold
        return -1 if gold is None else gold
    e = entry
    if not (e.ece or e.sce or e.brier_score or e.nll or e.likelihood or e.f1 or e.mcc):
        return None  # quickly: most stock logs
    for name in _NAMING_GOLD:
        raw = getattr(entry, name)
        if raw:
            found = _gold_of_item(json.loads(bytes(raw)))
            if found is not None:
                return found
    return None


def _gold_of_item(item: Any) -> int | None:
    """Read [probabilities, gold], as our metrics are logged, or [gold, …], as lm-eval's are."""
    if not isinstance(item, list) or len(item) != 2:
        return None
    first, second = item
    ours = (isinstance(first, list) or first is None) and not isinstance(second, (list, str))
    gold = second if ours else first
    if isinstance(gold, list):
        return UNDECIDED
    if gold is None:
        return -1
    whole = isinstance(gold, int) or (isinstance(gold, float) and gold.is_integer())
    return max(int(gold), -1) if whole else None


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
    if not entry.arguments or not entry.resps:
        if entry.logit_0 is not None:
            raise OtherFormatError(
                "is what lm-eval 0.3 wrote with --write_out, which is not read: run lm-eval 0.4 "
                "with --log_samples, or give its columns logit_0, logit_1, … and truth as a table"
            )
        raise NoSampleError("it has no 'arguments' and 'resps', so it is no entry of a sample log")
    continuations = _continuations(entry)
    logprobs, tokens, truncated = _responses(entry, expect_tokens)
    if len(continuations) != len(logprobs):
        raise EntryError(
            f"it has {len(continuations)} continuations but {len(logprobs)} log-probabilities"
        )
    k = _without_unconditional(continuations)
    cut = truncated if truncated >= 0 else None
    if k == len(continuations):
        return Choices(continuations, logprobs, tokens, cut)
    return Choices(continuations[:k], logprobs[:k], tokens[:k] if tokens else None, cut)


def document_hash(data: bytes) -> str:
    """Hash an entry's document as lm-eval does, for early logs that lack ``doc_hash``.

    Where the document was taken out of the log, its requests say which question it is.
    """
    raw = _loads(data)
    document = raw.get("arguments") if raw.get("doc") is None else raw["doc"]
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


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
        raise NotMultipleChoiceError(_why_no_continuations(entry.arguments)) from None
    if not arguments:
        raise NotMultipleChoiceError(_NO_CONTINUATION)
    if isinstance(arguments, list):
        return [continuation for _, continuation in arguments]
    if tuple(arguments) == _IN_ORDER[min(len(arguments), len(_IN_ORDER) - 1)]:
        return [argument.arg_1 for argument in arguments.values()]
    return [arguments[key].arg_1 for key in _by_number(arguments)]


def _why_no_continuations(arguments: msgspec.Raw) -> str:
    _, second = _first_request(arguments)
    return "its answers are generated text" if isinstance(second, dict) else _NO_CONTINUATION


def first_context(arguments: msgspec.Raw) -> str:
    """Return the context of an entry's first request; empty if it has none."""
    context, _ = _first_request(arguments)
    return context if isinstance(context, str) else ""


def _first_request(arguments: msgspec.Raw) -> tuple[Any, Any]:
    """Return both arguments of an entry's first request; None for what it lacks."""
    requests = json.loads(bytes(arguments))
    if isinstance(requests, dict):
        requests = list(requests.values())
    first = requests[0] if isinstance(requests, list) and requests else None
    if isinstance(first, dict):
        return first.get("arg_0"), first.get("arg_1")
    values = first if isinstance(first, list) else []
    context, continuation = [*values, None, None][:2]
    return context, continuation


def _by_number(keys: Iterable[str]) -> Sequence[str]:
    """Return keys of requests by number; sorted as texts, the tenth would precede the second."""
    named = list(keys)
    numbers = [_NUMBER.search(key) for key in named]
    if not all(numbers):
        return named
    return [
        key
        for _, key in sorted(
            (int(number[0]), key) for number, key in zip(numbers, named, strict=True) if number
        )
    ]


_Responses: TypeAlias = tuple[list[float], list[list[float]] | None, int]


def _responses(entry: Entry, expect_tokens: bool) -> _Responses:
    """Log-probability of each choice, of each of its tokens where logged, and what was cut off."""
    for with_tokens in (expect_tokens, not expect_tokens):
        try:
            if with_tokens:
                first = [choice[0] for choice in _RESPONSES.decode(entry.resps)]
                tokens = [response.tokens for response in first]
                truncated = -1
                if first and first[0].truncated >= 0:
                    truncated = max([response.truncated for response in first])
                return [response.logprob for response in first], tokens, truncated
            return [choice[0][0] for choice in _PAIRS.decode(entry.resps)], None, -1
        except (msgspec.DecodeError, IndexError):  # of the other kind, or unforeseen
            continue
    return _unforeseen_responses(json.loads(bytes(entry.resps)))


def _unforeseen_responses(resps: Any) -> _Responses:
    """Responses with NaN, missing token lists, or one level of lists less."""
    logprobs: list[float] = []
    tokens: list[list[float]] = []
    truncated = -1
    for choice in resps if isinstance(resps, list) else []:
        response = choice[0] if isinstance(choice, list) and choice else choice
        if not isinstance(response, list):
            response = choice
        if not isinstance(response, list) or not response:
            raise NotMultipleChoiceError("its responses are not log-probabilities")
        logprobs.append(_number(response[0]))
        if len(response) > 2 and isinstance(response[2], list):
            tokens.append([_number(token) for token in response[2]])
        if len(response) > 3 and str(response[3]).isdecimal():
            truncated = max(truncated, int(response[3]))
    return logprobs, tokens if logprobs and len(tokens) == len(logprobs) else None, truncated


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

    A task with ``acc_mutual_info`` scores every choice a second time without its context, one with
    ``orders`` scores the letters again under every other order of the choices; those requests
    follow the others and are left out.
    """
    n = len(continuations)
    if continuations.count(continuations[0]) == 1:  # nearly always
        return n
    for k in range(2, n // 2 + 1):
        repeated = n % k == 0 and continuations == continuations[:k] * (n // k)
        if repeated and is_lettered(continuations[:k]):
            return k
    half = n // 2
    if n < 4 or n % 2:
        return n
    doubled = continuations[:half] == continuations[half:]
    return half if doubled and len(set(continuations)) > 1 else n
