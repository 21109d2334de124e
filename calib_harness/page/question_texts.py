"""The text of questions, read from sample logs when a page is to carry it."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from calib_harness.core.confidence import is_lettered
from calib_harness.predictions.entry import EntryError, document_hash
from calib_harness.predictions.files import describe
from calib_harness.predictions.headers import Log
from calib_harness.predictions.records import read_records

logger = logging.getLogger(__name__)

_LOGS_IN_VAIN = 3  # logs of a task, one after the other, after which no more are searched
_LONGEST = 2000  # signs of a question; what comes first is left out, the question stands last
# Benchmarks whose authors ask that questions not be put where models are trained on them.
_NOT_TO_BE_SPREAD = re.compile(r"(^|_)(gpqa|hle|humanitys_last_exam|bigbench|bbh)(_|$)", re.I)
_CANARY = re.compile(r"canary guid|should never appear in training", re.I)


@dataclass(frozen=True)
class QuestionText:
    """What a model was asked.

    Attributes
    ----------
    text : str
        The prompt without the part that all questions share.
    choices : tuple of str
        As they were scored, or as the document has them if letters were scored.
    has_canary : bool
        Whether the log's entry asks not to be spread.
    """

    text: str
    choices: tuple[str, ...]
    has_canary: bool


class _Entry(msgspec.Struct, gc=False):
    doc_hash: Any = None
    doc: Any = None
    arguments: Any = None


_ENTRY = msgspec.json.Decoder(_Entry)


def may_be_spread(task: str) -> bool:
    """Whether the questions of a task may be put into a page without being asked for.

    Examples
    --------
    >>> may_be_spread("sciq"), may_be_spread("gpqa_main_zeroshot")
    (True, False)
    """
    return _NOT_TO_BE_SPREAD.search(task) is None


def read_texts(logs: Sequence[Log], hashes: Sequence[str]) -> dict[str, QuestionText]:
    """Read the texts of questions from the first logs that hold them, by ``doc_hash``.

    Questions that no log has text of are left out. What cannot be read is no error here: its
    scores have been read before.
    """
    missing, in_vain = set(hashes), 0
    found: dict[str, QuestionText] = {}
    for log in {log.file.url: log for log in logs}.values():
        if not missing or in_vain == _LOGS_IN_VAIN:
            break
        try:
            entries = _entries(log, missing)
        except OSError as error:
            logger.warning("%s: texts of questions not read (%s)", log.file.url, describe(error))
            entries = {}
        found.update(_without_shared_part(entries))
        missing -= entries.keys()
        in_vain = 0 if entries else in_vain + 1
    return found


def _entries(log: Log, wanted: set[str]) -> dict[str, tuple[str, tuple[str, ...], bool]]:
    """Return context, choices and whether there is a canary, of the wanted entries of a log."""
    found: dict[str, tuple[str, tuple[str, ...], bool]] = {}
    with log.file.open() as stream:
        for record in read_records(stream):
            if record.problem:
                continue
            try:
                entry = _ENTRY.decode(record.data)
                key = entry.doc_hash
                if not isinstance(key, str):
                    key = document_hash(record.data)
            except (msgspec.DecodeError, EntryError):
                continue
            requests = _requests(entry.arguments)
            if key in wanted and key not in found and requests:
                context = requests[0][0]
                choices = _choices([text for _, text in requests], entry.doc)
                canary = _CANARY.search(record.data.decode("utf-8", "replace")) is not None
                found[key] = context, choices, canary
    return found


def _requests(arguments: Any) -> list[tuple[str, str]]:
    """Return (context, continuation) of each choice, in either layout of ``arguments``."""
    pairs: list[Any] = []
    if isinstance(arguments, dict):
        pairs = [
            (each.get("arg_0"), each.get("arg_1"))
            for each in arguments.values()
            if isinstance(each, dict)
        ]
    elif isinstance(arguments, list):
        pairs = [
            (each[0], each[1]) for each in arguments if isinstance(each, list) and len(each) > 1
        ]
    return [(str(context), str(text)) for context, text in pairs]


def _choices(continuations: list[str], document: Any) -> tuple[str, ...]:
    """Return the choices as they read; letters with the text that the document has for them."""
    plain = tuple(text.strip() for text in continuations)
    if not is_lettered(continuations) or not isinstance(document, dict):
        return plain
    for name in ("choices", "options", "endings"):
        texts = document.get(name)
        if isinstance(texts, dict):
            texts = texts.get("text")
        if isinstance(texts, list) and len(texts) == len(plain):
            return tuple(f"{letter}. {text}" for letter, text in zip(plain, texts, strict=True))
    return plain


def _without_shared_part(
    entries: dict[str, tuple[str, tuple[str, ...], bool]],
) -> dict[str, QuestionText]:
    """Leave out the shots and instructions that all prompts begin with, up to a line's end."""
    contexts = [context for context, _, _ in entries.values()]
    start = _shared_start(contexts)
    texts = {}
    for key, (context, choices, canary) in entries.items():
        text = context[start:]
        if len(text) > _LONGEST:
            text = "…" + text[1 - _LONGEST :]
        texts[key] = QuestionText(text, choices, canary)
    return texts


def _shared_start(contexts: Sequence[str]) -> int:
    """Return how many signs all contexts begin with, whole lines only; 0 of a single one."""
    if len(contexts) < 2:
        return 0
    first, last = min(contexts), max(contexts)
    both = enumerate(zip(first, last, strict=False))
    shared = next((i for i, (a, b) in both if a != b), len(first))
    return first.rfind("\n", 0, shared) + 1
