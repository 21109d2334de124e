"""From the entries of one log to arrays: scores of every method the log can give."""

from __future__ import annotations

import logging
import math
from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calib_harness.core.confidence import METHODS, continuation_scores, is_lettered, pack_flat
from calib_harness.predictions.entry import (
    Choices,
    EntryError,
    NotMultipleChoiceError,
    decode_choices,
    decode_entry,
    document_hash,
    gold_index,
)
from calib_harness.predictions.records import Record
from calib_harness.predictions.table import Floats

logger = logging.getLogger(__name__)

_UNKNOWN = -1  # tokens of a continuation, where the log does not hold them
_PLAIN_FILTERS = (None, "none", "continuation-sum", "choice")


class NotMultipleChoiceLogError(Exception):
    """The whole log is of a task without choices; the message says of which kind."""


@dataclass
class Columns:
    """What a log holds, question by question, as it is being read.

    Flat arrays hold one value per (question, choice) in order; ``n_choices`` cuts them.
    """

    delimiter: str | None = None
    doc_id: list[int] = field(default_factory=list)
    doc_hash: list[str] = field(default_factory=list)
    gold: list[int] = field(default_factory=list)
    n_choices: list[int] = field(default_factory=list)
    logprobs: array[float] = field(default_factory=lambda: array("d"))
    n_bytes: array[int] = field(default_factory=lambda: array("q"))
    tokens: array[float] = field(default_factory=lambda: array("d"))
    n_tokens: array[int] = field(default_factory=lambda: array("q"))
    filters: set[Any] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    n_records: int = 0
    n_lettered: int = 0
    n_same_continuation: int = 0
    n_without_tokens: int = 0
    _seen: dict[tuple[Any, Any], Any] = field(default_factory=dict)
    _lettered: dict[tuple[str, ...], bool] = field(default_factory=dict)
    _not_multiple_choice: str = ""
    _logged_acc: list[tuple[int, float]] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Take in one record; what is wrong with it goes to ``problems``."""
        self.n_records += 1
        try:
            if record.problem:
                raise EntryError(record.problem)
            self._add_entry(record.data, record.place)
        except NotMultipleChoiceError as error:
            if not self.gold:
                self._not_multiple_choice = self._not_multiple_choice or str(error)
            self.problems.append(f"{record.place} was skipped: {error}")
        except EntryError as error:
            self.problems.append(f"{record.place} was skipped: {error}")
        if self.n_records == 20 and not self.gold and self._not_multiple_choice:
            raise NotMultipleChoiceLogError(self._not_multiple_choice)

    def _add_entry(self, data: bytes, place: str) -> None:
        entry = decode_entry(data)
        doc_hash = entry.doc_hash if isinstance(entry.doc_hash, str) else document_hash(data)
        key = (entry.doc_id, doc_hash)
        self.filters.add(entry.filter)
        if key in self._seen:
            if self._seen[key] == entry.filter:
                raise EntryError(f"question {entry.doc_id} again; its first entry is used")
            return  # the same responses, logged once more for another filter
        choices = decode_choices(entry, expect_tokens=len(self.tokens) > 0)
        delimiter = " " if self.delimiter is None else self.delimiter
        texts = [continuation.removeprefix(delimiter) for continuation in choices.continuations]
        gold = gold_index(entry.target, texts)
        self._seen[key] = entry.filter
        if entry.filter in _PLAIN_FILTERS and gold >= 0 and isinstance(entry.acc, (int, float)):
            self._logged_acc.append((len(self.gold), float(entry.acc)))
        self.doc_id.append(_number_of(entry.doc_id))
        self.doc_hash.append(doc_hash)
        self.gold.append(gold)
        self._add_choices(choices, texts)

    def _add_choices(self, choices: Choices, texts: list[str]) -> None:
        self.n_choices.append(len(texts))
        self.n_bytes.extend(
            [len(t) if t.isascii() else len(t.encode("utf-8", "surrogatepass")) for t in texts]
        )
        if choices.tokens is None:
            self.n_without_tokens += 1
            self.logprobs.extend(choices.logprobs)
            self.n_tokens.extend([_UNKNOWN] * len(texts))
        else:
            # As our filters score: the backend's own sum may be in single precision.
            self.logprobs.extend(map(math.fsum, choices.tokens))
            for tokens in choices.tokens:
                self.n_tokens.append(len(tokens))
                self.tokens.extend(tokens)
        if self.n_lettered == len(self.gold) - 1:  # still a log of letters so far
            self.n_lettered += self._is_lettered(tuple(choices.continuations))
        if len(texts) > 1 and len(set(texts)) == 1:
            self.n_same_continuation += 1

    def _is_lettered(self, continuations: tuple[str, ...]) -> bool:
        """Remember the answer: a log repeats the same few tuples of letters."""
        if continuations not in self._lettered:
            self._lettered[continuations] = is_lettered(continuations)
        return self._lettered[continuations]

    def finish(self) -> None:
        """Check the log as a whole, once every record is in."""
        if not self.gold and self._not_multiple_choice:
            raise NotMultipleChoiceLogError(self._not_multiple_choice)
        if self.gold and max(self.n_choices) < 2:
            raise NotMultipleChoiceLogError("each of its questions has one continuation only")
        differing = self._n_differing_acc()
        if differing:
            self.problems.append(
                f"{differing} of {len(self._logged_acc)} questions: the logged acc is not what the "
                "logged scores and target give; accuracy is computed from the latter"
            )

    def _n_differing_acc(self) -> int:
        if not self._logged_acc:
            return 0
        rows, acc = (np.asarray(column) for column in zip(*self._logged_acc, strict=True))
        scores = pack_flat(np.asarray(self.logprobs), np.asarray(self.n_choices))[rows]
        readable = ~np.isnan(scores).all(axis=1)
        top = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1)
        hit = top == np.asarray(self.gold)[rows]
        return int((readable & (hit != (acc == 1.0))).sum())


def _number_of(doc_id: Any) -> int:
    """Return lm-eval's number of a question; -1 if it is none that an array can hold."""
    return doc_id if isinstance(doc_id, int) and abs(doc_id) < 2**63 else -1


def method_scores(columns: Columns) -> tuple[dict[str, Floats], dict[str, str]]:
    """Scores of each method the log supports, and why the others are missing.

    Returns
    -------
    scores : dict of str to ndarray, shape (n, K_max)
    missing : dict of str to str
    """
    n_choices = np.asarray(columns.n_choices, dtype=np.int64)
    logprobs = np.asarray(columns.logprobs)
    if _is_choice_prompt(columns):
        reason = "the log scores letters (a choice prompt), not the choices' texts"
        missing = {name: reason for name, method in METHODS.items() if method.prompt == "cloze"}
        return {"choice": pack_flat(logprobs, n_choices)}, missing
    missing = {"choice": "the log scores the choices' texts (a cloze prompt), not letters"}
    if columns.n_same_continuation:
        missing["continuation-bytes"] = "the choices are in the context, not in the continuation"
    if columns.n_without_tokens == len(columns.gold):
        reason = "the log has no log-probabilities of single tokens (score a *_calib_cloze task)"
        missing.update(dict.fromkeys(("continuation-min", "continuation-mean"), reason))
    counts = {name: np.asarray(getattr(columns, name)) for name in ("n_tokens", "n_bytes")}
    tokens = np.asarray(columns.tokens)
    scores = {
        name: pack_flat(continuation_scores(name, logprobs, tokens=tokens, **counts), n_choices)
        for name in METHODS
        if name not in missing
    }
    return scores, missing


def _is_choice_prompt(columns: Columns) -> bool:
    """Our filters say which prompt it is; other logs show it by their continuations."""
    prompts = {METHODS[name].prompt for name in columns.filters if name in METHODS}
    return prompts == {"choice"} if prompts else columns.n_lettered == len(columns.gold)
