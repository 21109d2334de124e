"""From the entries of one log to arrays: scores of every method the log can give."""

from __future__ import annotations

import logging
import math
from array import array
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from calib_harness.core.confidence import (
    METHODS,
    continuation_scores,
    is_labelled,
    is_lettered,
    may_be_labels,
    pack_flat,
)
from calib_harness.predictions.entry import (
    ACCURACIES,
    Choices,
    EntryError,
    NoSampleError,
    NotMultipleChoiceError,
    OtherFormatError,
    decode_choices,
    decode_entry,
    document_hash,
    first_context,
    stated_gold,
)
from calib_harness.predictions.gold import Evidence, Settled, readings_of_target, settle
from calib_harness.predictions.records import Record
from calib_harness.predictions.table import Bools, Floats, Ints

logger = logging.getLogger(__name__)

_ROUNDING = 0.1  # by which a log-probability may exceed 0
_ROW = ("doc_id", "doc_hash", "prompt", "truncated", "by_index", "by_text", "stated", *ACCURACIES)
_UNKNOWN = -1  # tokens of a continuation, or cut off, where the log does not hold them
_NOT_STATED = -(2**62)
_PLAIN_FILTERS = (None, "none", "continuation-sum", "choice")


class UnusableLogError(Exception):
    """The whole log cannot be used; the message says why, as the end of a sentence."""


#: Choices of a question; a table of scores is as wide as the question that has most.
MOST_CHOICES = 10_000


def check_few(most: int) -> None:
    """Refuse a question with so many choices that a table of all would not fit into memory."""
    if most > MOST_CHOICES:
        raise UnusableLogError(
            f"holds a question with {most} choices, expected at most {MOST_CHOICES}"
        )


class NoSampleLogError(UnusableLogError):
    """The file begins like no sample log of lm-eval; it may be a table."""


class NotMultipleChoiceLogError(UnusableLogError):
    """The whole log is of a task without choices; the message says of which kind."""


@dataclass
class Columns:
    """What a log holds, question by question, as it is being read.

    ``rows`` holds one tuple per question, see `column`. Flat arrays hold one value per (question,
    choice) in order; ``n_choices`` cuts them.
    """

    delimiter: str | None = None
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    n_choices: list[int] = field(default_factory=list)
    logprobs: array[float] = field(default_factory=lambda: array("d"))
    n_bytes: list[int] = field(default_factory=list)
    n_chars: list[int] = field(default_factory=list)
    tokens: array[float] = field(default_factory=lambda: array("d"))
    n_tokens: list[int] = field(default_factory=list)
    filters: set[Any] = field(default_factory=set)
    prompts: set[str] = field(default_factory=set)
    documents: dict[int, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    n_records: int = 0
    n_lettered: int = 0
    n_without_tokens: int = 0
    _seen: dict[tuple[Any, Any], Any] = field(default_factory=dict)
    _lettered: dict[tuple[str, ...], bool] = field(default_factory=dict)
    _not_multiple_choice: str = ""

    def __len__(self) -> int:
        return len(self.n_choices)

    def column(self, name: str, dtype: Any) -> Any:
        """Return what a log says of every question under one of the names in `_ROW`."""
        return np.array(self._by_name[name], dtype=dtype)

    @cached_property
    def _by_name(self) -> dict[str, tuple[Any, ...]]:
        """The rows turned into columns, once all are in."""
        return dict(zip(_ROW, zip(*self.rows, strict=True), strict=True))

    @property
    def n_same_continuation(self) -> int:
        """Number of questions whose choices stand in the context, not in the continuation."""
        return len(self.documents)

    def add(self, record: Record) -> None:
        """Take in one record; what is wrong with it goes to ``problems``."""
        self.n_records += 1
        try:
            if record.problem:
                raise EntryError(record.problem)
            self._add_entry(record.data, record.place)
        except NotMultipleChoiceError as error:
            if not len(self):
                self._not_multiple_choice = self._not_multiple_choice or str(error)
            self.problems.append(f"{record.place} was skipped: {error}")
        except OtherFormatError as error:
            raise UnusableLogError(str(error)) from None
        except NoSampleError as error:
            if self.n_records == 1:
                raise NoSampleLogError(str(error)) from None
            self.problems.append(f"{record.place} was skipped: {error}")
        except EntryError as error:
            self.problems.append(f"{record.place} was skipped: {error}")
        if self.n_records == 20 and not len(self) and self._not_multiple_choice:
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
        stated = stated_gold(entry)
        by_index, by_text = readings_of_target(entry.target, texts)
        self._seen[key] = entry.filter
        facts = entry.calib_harness
        if facts is not None and facts.prompt:
            self.prompts.add(facts.prompt)
        if texts[0] == texts[-1] and len(texts) > 1 and texts.count(texts[0]) == len(texts):
            self.documents[len(self)] = bytes(entry.doc)
        # lm-eval's hash of the first request's context; early logs have none
        of_context = entry.prompt_hash or bytes(entry.arguments)
        accuracies = (None,) * len(ACCURACIES)
        if entry.filter in _PLAIN_FILTERS:
            accuracies = (entry.acc, entry.acc_norm, entry.acc_bytes, entry.em)
        self.rows.append(
            (
                _number_of(entry.doc_id),
                doc_hash,
                hash((of_context, *choices.continuations)),
                _UNKNOWN if choices.truncated is None else choices.truncated,
                by_index,
                by_text,
                _NOT_STATED if stated is None else min(stated, 2**62),
                *accuracies,
            )
        )
        self._add_choices(choices, texts, entry.arguments)

    def _add_choices(self, choices: Choices, texts: list[str], arguments: msgspec.Raw) -> None:
        n_chars = list(map(len, texts))
        self.n_choices.append(len(texts))
        self.n_chars += n_chars
        if "".join(texts).isascii():
            self.n_bytes += n_chars
        else:
            self.n_bytes += [len(t.encode("utf-8", "surrogatepass")) for t in texts]
        if choices.tokens is None:
            self.n_without_tokens += 1
            self.logprobs.extend(choices.logprobs)
            self.n_tokens += [_UNKNOWN] * len(texts)
        else:
            # As our filters score: the backend's own sum may be in single precision.
            self.logprobs.extend(map(math.fsum, choices.tokens))
            self.n_tokens += map(len, choices.tokens)
            self.tokens.extend(chain.from_iterable(choices.tokens))
        if self.n_lettered == len(self.n_choices) - 1:  # still a log of letters so far
            self.n_lettered += self._is_lettered(tuple(choices.continuations), arguments)

    def _is_lettered(self, continuations: tuple[str, ...], arguments: msgspec.Raw) -> bool:
        """Remember the answer: a log repeats the same few tuples of letters."""
        if continuations not in self._lettered:
            self._lettered[continuations] = is_lettered(continuations) or (
                may_be_labels(continuations)
                and is_labelled(continuations, first_context(arguments))
            )
        return self._lettered[continuations]

    def finish(self) -> None:
        """Check the log as a whole, once every record is in."""
        if not len(self) and self._not_multiple_choice:
            raise NotMultipleChoiceLogError(self._not_multiple_choice)
        if len(self) and max(self.n_choices) < 2:
            raise NotMultipleChoiceLogError("each of its questions has one continuation only")
        check_few(max(self.n_choices, default=0))

    def settle_gold(self) -> Settled:
        """Choose the reading of the targets that the logged accuracies bear out."""
        stated = self.column("stated", np.int64)
        n_choices = np.asarray(self.n_choices)
        shared = np.zeros(len(self), dtype=bool)
        shared[list(self.documents)] = True
        outside = stated >= n_choices
        return settle(
            self.column("by_index", np.int64),
            self.column("by_text", np.int64),
            stated=np.where(outside, -1, stated),
            is_stated=stated != _NOT_STATED,
            n_choices=n_choices,
            evidence=self._evidence(shared),
            documents=self.documents,
            shared=shared,
        )

    def _evidence(self, shared: Bools) -> list[Evidence]:
        """Return what lm-eval's accuracies take for the answer: sums, or sums per length."""
        logprobs, n_choices = np.asarray(self.logprobs), np.asarray(self.n_choices)
        logged = {name: _numbers(self._by_name[name]) for name in ACCURACIES}
        answers = {"acc": _answers(logprobs, n_choices)}
        answers["em"] = answers["acc"]
        known_lengths = ~shared  # lm-eval measures the choices, which stand in the context
        if self.delimiter is None:
            known_lengths &= False
        for name, lengths in (("acc_norm", self.n_chars), ("acc_bytes", self.n_bytes)):
            if not np.isnan(logged[name]).all():
                per_unit = np.full(len(logprobs), np.nan)
                np.divide(logprobs, lengths, out=per_unit, where=np.asarray(lengths) > 0)
                answers[name] = np.where(known_lengths, _answers(per_unit, n_choices), -1)
        return [
            Evidence(name, logged[name], answers[name]) for name in ACCURACIES if name in answers
        ]


def _answers(flat: Floats, n_choices: Ints) -> Ints:
    """Index of each question's largest score, the first on ties; -1 where there are no scores."""
    scores = pack_flat(flat, n_choices)
    readable = ~np.isnan(scores).all(axis=1)
    top = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1)
    return np.where(readable, top, -1)


def _numbers(values: tuple[Any, ...]) -> Floats:
    """Return logged values as numbers, NaN where there is none."""
    kinds = set(map(type, values))
    if kinds == {type(None)}:  # a metric that is not logged
        return np.full(len(values), np.nan)
    if kinds <= {int, float}:
        return np.array(values, dtype=np.float64)
    return np.array([float(v) if isinstance(v, (int, float)) else np.nan for v in values])


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
    if columns.n_without_tokens == len(columns):
        reason = "the log has no log-probabilities of single tokens (score a *_calib_cloze task)"
        missing |= {name: reason for name, m in METHODS.items() if m.needs_token_logprobs}
    if (logprobs[np.isfinite(logprobs)] > _ROUNDING).any():
        raise UnusableLogError(
            f"scores continuations by more than 0 (up to {np.nanmax(logprobs):.3g}), so these are "
            "no log-probabilities, whose sums over tokens could be compared"
        )
    counts = {name: np.asarray(getattr(columns, name)) for name in ("n_tokens", "n_bytes")}
    tokens = np.asarray(columns.tokens)
    scores = {
        name: pack_flat(continuation_scores(name, logprobs, tokens=tokens, **counts), n_choices)
        for name in METHODS
        if name not in missing
    }
    return scores, missing


def _is_choice_prompt(columns: Columns) -> bool:
    """Our tasks and filters say which prompt it is; other logs show it by their continuations."""
    if columns.prompts:
        return columns.prompts == {"choice"}
    prompts = {METHODS[name].prompt for name in columns.filters if name in METHODS}
    return prompts == {"choice"} if prompts else columns.n_lettered == len(columns)
