"""Which choice is right: the reading of a log's targets that its own numbers bear out.

lm-eval logs a question's target as text, whatever it was: an index, the text of a choice (which
may look like a number), or, where the choices stand in the context, a text that all of them share.
So a log has several readings, and one of them is its task's. Each is tried on the accuracies that
lm-eval logged question by question; what they do not decide is not guessed.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calib_harness.core.confidence import LETTERS
from calib_harness.predictions.table import UNDECIDED, Bools, Ints

#: What is known about the gold of a log's questions.
STATED = "stated"  # the log names the index
CONFIRMED = "confirmed"  # the reading gives the accuracies that lm-eval logged, of nearly all
NONE = "none"  # no question has a gold that is known
NOT_VERIFIED = "not verified"  # nothing that the log holds could contradict the reading

#: Share of questions that may contradict a reading: they are left out, as undecided.
CONTRADICTED = 0.02
#: Share of the questions with scores whose accuracy must be logged to confirm a reading.
ENOUGH = 0.9

_NAMES_OF_GOLD = frozenset(
    ["answer", "answerKey", "answer_index", "correct", "gold", "gold_index", "label", "target"]
)
_FEW_DIGITS = 6
_MOST_DIGITS = 100  # of an index; longer numbers are a choice's text, or nothing
_DECIMAL = re.compile(r"[+-]?\d+(\.0*)?")
_TRUTH = {"True": 1, "False": 0}


@dataclass(frozen=True)
class Settled:
    """The gold of a log's questions, and why it may be believed.

    Attributes
    ----------
    gold : ndarray of int64, shape (n,)
        -1 where the log names no choice, ``UNDECIDED`` where it cannot be told which.
    check : str
        ``stated``, ``confirmed``, ``not verified`` or ``none``.
    problems : list of str
        What was found wrong, each a sentence.
    """

    gold: Ints
    check: str
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Where no gold is known there is nothing to verify."""
        if not (self.gold >= 0).any():
            object.__setattr__(self, "check", NONE)


@dataclass(frozen=True)
class Evidence:
    """Accuracies that lm-eval logged, question by question.

    Attributes
    ----------
    name : str
        The metric, e.g. ``acc``.
    logged : ndarray of float, shape (n,)
        NaN where there is none.
    predicted : ndarray of int, shape (n,)
        The choice that this metric takes for the answer; negative where it cannot be told.
    """

    name: str
    logged: np.ndarray
    predicted: Ints

    @property
    def known(self) -> Bools:
        """Where the metric can contradict a reading."""
        return np.asarray(~np.isnan(self.logged) & (self.predicted >= 0))

    def contradicts(self, gold: Ints) -> Bools:
        """Tell where a reading would have given another accuracy."""
        return np.asarray(self.known & ((self.predicted == gold) != (self.logged == 1.0)))


def readings_of_target(target: Any, texts: Sequence[str]) -> tuple[int, int]:
    """Index of the right choice if the target is an index, and if it is a choice's text.

    -1 where it is none, ``UNDECIDED`` for both where it names several choices.

    Examples
    --------
    >>> readings_of_target("1", ["x", "y"]), readings_of_target("y", ["x", "y"])
    ((1, -1), (-1, 1))
    >>> readings_of_target("2", ["1", "2", "3"]), readings_of_target("[0, 1]", ["x", "y"])
    ((2, 1), (-2, -2))
    """
    if isinstance(target, str):
        if target.isdecimal() and len(target) < _FEW_DIGITS:  # by far the most common
            index = int(target)
            by_text = texts.index(target) if target in texts else -1
            return (index if index < len(texts) else -1), by_text
        stripped = target.strip()
        if stripped.startswith("[") and target not in texts:
            target = _literal(stripped)
        else:
            return _index_in(stripped, len(texts)), _text_in(target, stripped, texts)
    if isinstance(target, list):
        if len(target) == 1:
            return readings_of_target(target[0], texts)
        return (UNDECIDED, UNDECIDED) if target else (-1, -1)
    if isinstance(target, float) and target.is_integer():
        target = int(target)
    if isinstance(target, int) and 0 <= target < len(texts):
        return int(target), -1
    return -1, -1


def _index_in(text: str, n: int) -> int:
    if len(text) <= _MOST_DIGITS:
        if text.isdecimal():
            index = int(text)
        elif _DECIMAL.fullmatch(text):
            index = int(float(text))
        else:
            index = _TRUTH.get(text, -1)
        return index if 0 <= index < n else -1
    return -1


def _text_in(target: str, stripped: str, texts: Sequence[str]) -> int:
    if target in texts:
        return texts.index(target)
    for index, text in enumerate(texts):
        if text.strip() == stripped and stripped:
            return index
    return -1


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two: nested deeply
        return None


def joint_check(checks: Iterable[str]) -> str:
    """Return what is known of the gold of several logs together: the least of all."""
    known = set(checks) - {NONE}
    return next((one for one in (NOT_VERIFIED, "", CONFIRMED, STATED) if one in known), NONE)


def settle(
    index: Ints,
    text: Ints,
    *,
    stated: Ints,
    is_stated: Bools,
    n_choices: Ints,
    evidence: Sequence[Evidence],
    documents: Mapping[int, bytes],
    shared: Bools,
) -> Settled:
    """Choose the reading of a log's targets.

    Parameters
    ----------
    index, text : ndarray of int, shape (n,)
        The two readings of the logged targets.
    stated : ndarray of int, shape (n,)
        What the log states as an index, where `is_stated`.
    is_stated : ndarray of bool, shape (n,)
    n_choices : ndarray of int, shape (n,)
    evidence : sequence of Evidence
        In the order of preference; the first that is logged decides.
    documents : mapping of int to bytes
        JSON of the documents of questions that share one continuation among their choices.
    shared : ndarray of bool, shape (n,)
        Which questions do: their logged target names no choice.
    """
    fractions = next((e for e in evidence if not _is_accuracy(e.logged)), None)
    judge = next((e for e in evidence if e.known.any() and _is_accuracy(e.logged)), None)
    if is_stated.all():
        return _judge([stated], judge, STATED)
    if fractions is not None and fractions is evidence[0]:
        gold = np.where(is_stated, stated, UNDECIDED)
        return Settled(
            gold,
            NOT_VERIFIED,
            [
                f"the logged {fractions.name} is no accuracy of one right choice (it takes values "
                "between 0 and 1), as where several choices are right; its questions have no "
                "single gold"
            ],
        )
    if shared.any():
        readings = _readings_of_documents(documents, n_choices, shared, judged=judge is not None)
        if judge is not None and bool((n_choices == 2).all()) and bool(judge.known.all()):
            # Of two choices the wrong one is known, too: the accuracy names the gold.
            readings = [np.where(judge.logged == 1.0, judge.predicted, 1 - judge.predicted)]
        elif not readings:
            said = (
                f"{int(shared.sum())} of {len(shared)} questions have their choices in the context "
                "and one continuation for all, so the logged target names none of them"
            )
            return Settled(np.where(is_stated, stated, UNDECIDED), NOT_VERIFIED, [said])
        base = np.where(text >= 0, text, index)
        readings = [np.where(shared, reading, base) for reading in readings]
    else:
        readings = [np.where(index >= 0, index, text), np.where(text >= 0, text, index)]
    readings = [np.where(is_stated, stated, reading) for reading in readings]
    return _judge(readings, judge, NOT_VERIFIED)


def _is_accuracy(logged: np.ndarray) -> bool:
    return bool(np.isin(logged[~np.isnan(logged)], (0.0, 1.0)).all())


def _judge(readings: list[Ints], judge: Evidence | None, unjudged: str) -> Settled:
    """Keep the readings that the logged accuracies bear out; leave out where these differ."""
    if judge is None:
        return _agreed(readings, unjudged, [])
    wrong = [judge.contradicts(reading) for reading in readings]
    fewest = min(int(w.sum()) for w in wrong)
    n = int(judge.known.sum())
    enough = n >= ENOUGH * int((judge.predicted >= 0).sum())
    borne_out = STATED if unjudged == STATED else CONFIRMED if enough else NOT_VERIFIED
    best = [(r, w) for r, w in zip(readings, wrong, strict=True) if int(w.sum()) == fewest]
    if fewest == 0:
        return _agreed([reading for reading, _ in best], borne_out, [])
    if fewest > CONTRADICTED * n:
        return Settled(
            np.full(len(readings[0]), UNDECIDED),
            NOT_VERIFIED,
            [
                f"{fewest} of {n} questions: the logged {judge.name} is not what the logged scores "
                "and any reading of the targets give, so which choice is right is not known"
            ],
        )
    said = (
        f"{fewest} of {n} questions: the logged {judge.name} is not what the logged scores and "
        "targets give; which choice is right is not known there"
    )
    gold = [np.where(w, UNDECIDED, reading) for reading, w in best]
    return _agreed(gold, borne_out, [said])


def _agreed(readings: list[Ints], check: str, problems: list[str]) -> Settled:
    gold = readings[0].copy()
    differ = np.zeros(len(gold), dtype=bool)
    for reading in readings[1:]:
        differ |= reading != gold
    if differ.any():
        gold[differ] = UNDECIDED
        problems = [
            *problems,
            f"{int(differ.sum())} of {len(gold)} questions: what says which choice is right can be "
            "read in two ways (an index, the text of another choice), and nothing logged decides",
        ]
    return Settled(gold, check, problems)


# -- where the choices stand in the context --------------------------------------------------


def _readings_of_documents(
    documents: Mapping[int, bytes], n_choices: Ints, shared: Bools, *, judged: bool
) -> list[Ints]:
    """Return every reading of the documents' fields that names a choice in each question.

    Winogrande's own field comes alone if it is there: ``answer`` counts from 1. Where no accuracy
    will judge them, only fields that are called as a gold is are read: any other may be anything.
    """
    rows = np.flatnonzero(shared)
    docs = [_loads(documents.get(int(row), b"")) for row in rows]
    names = set.intersection(*(set(doc) for doc in docs)) if docs else set()
    if {"answer", "option1", "option2"} <= names:
        candidates = [("answer", 1)]
    else:
        named = sorted(names if judged else names & _NAMES_OF_GOLD)
        candidates = [(name, first) for name in named for first in (0, 1)]
    found = []
    for name, first in candidates:
        values = np.array([_choice_named(doc[name], first) for doc in docs])
        if ((values >= 0) & (values < n_choices[rows])).all() and len(set(values.tolist())) > 1:
            reading = np.full(len(n_choices), -1)
            reading[rows] = values
            found.append(reading)
    return found


def _choice_named(value: Any, first: int) -> int:
    """Index that a field's value names, counted from `first`, or by letter; -1 if none."""
    if isinstance(value, str):
        stripped = value.strip()
        if stripped in LETTERS:
            return LETTERS.index(stripped)
        value = int(stripped) if stripped.isdecimal() and len(stripped) <= 4 else None
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value - first if whole and value is not None else -1


def _loads(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
