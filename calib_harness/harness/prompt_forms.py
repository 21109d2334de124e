"""The other prompt of a task: a lettered one of a cloze prompt, and the other way round.

``metadata: {prompt: cloze}`` or ``{prompt: choice}`` says which is wanted. A task that asks so
already stays as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from calib_harness.core.confidence import LETTERS, is_lettered
from calib_harness.errors import UserError
from calib_harness.harness.choice_orders import (
    ShownChoices,
    find_choices,
    marks_texts,
    texts_of,
    why_not_found,
    without_marks,
)

FORMS = ("cloze", "choice")
#: Questions that are compared to tell what of a prompt is the same for all.
_N_COMPARED = 20
_CUE = "Answer:"


class Asked(NamedTuple):
    """One question as the stock task asks it: its text, and its choices."""

    text: Any
    choices: Sequence[str]
    order: Sequence[int] | None = None  # which of the stock choices stands where, if shuffled


class Form(Protocol):
    """Another way of asking the same question."""

    def ask(self, where: str, doc: Any, asked: Asked) -> Asked:
        """Return the question in this form; UserError, beginning with `where`, if it has none."""


def form_of(
    task: str,
    wanted: str,
    docs: Sequence[Any],
    read: Callable[[Any], Asked],
    gold_of: Callable[[Any], int | None],
) -> Form | None:
    """Return how a task's questions are asked in the form that is wanted; None if they are.

    Parameters
    ----------
    task : str
        The task's name, for messages.
    wanted : {"cloze", "choice"}
    docs : sequence
        The questions; the first few are compared.
    read : callable
        How the stock task asks one.
    gold_of : callable
        The index of its right choice. Where it is the same in all that are compared, as in SciQ and
        TruthfulQA MC1, letters are given in an order that the question fixes: a model could learn,
        or prefer, one letter.

    Raises
    ------
    UserError
        If the form is not known, or question and choices cannot be told apart.
    """
    if wanted not in FORMS:
        raise UserError(f"{task}: prompt is {wanted!r}; expected {' or '.join(FORMS)}")
    sample = [docs[i] for i in range(min(len(docs), _N_COMPARED))]
    asked = [read(doc) for doc in sample]
    # Α, Β, Γ and أ, ب, ج are letters, too: others over them would stand for letters.
    own_letters = all(marks_texts(one.text, one.choices) for one in asked)
    if (own_letters or is_lettered(asked[0].choices)) == (wanted == "choice"):
        return None
    if wanted == "choice":
        one_gold = len(sample) > 1 and len({gold_of(doc) for doc in sample}) == 1
        return _Lettered(_last_line([str(one.text) for one in asked]), shuffles=one_gold)
    heads = [_shown(task, doc, one).head for doc, one in zip(sample, asked, strict=True)]
    return _Cloze(_heading(heads))


class _Lettered:
    """Shows the choices by letters, before the line that asks for the answer."""

    def __init__(self, cue: str, *, shuffles: bool) -> None:
        self.cue, self.shuffles = cue, shuffles

    def ask(self, where: str, doc: Any, asked: Asked) -> Asked:
        if not isinstance(asked.text, str):
            raise UserError(
                f"{where}: its choices stand in its context, so that there is no question to show "
                "them after; prompt: choice is not for such a task"
            )
        if len(asked.choices) > len(LETTERS):
            raise UserError(
                f"{where}: it has {len(asked.choices)} choices, more than letters; prompt: choice "
                "is not for such a task"
            )
        letters = list(LETTERS[: len(asked.choices)])
        texts = frozenset(map(str.strip, asked.choices)) | {*without_marks(asked.choices, letters)}
        if find_choices(asked.text, letters, texts):  # LogiQA, AGIEval: letters shown, texts scored
            return Asked(asked.text, letters)
        order = _shuffled(asked) if self.shuffles else range(len(letters))
        numbered = _numbered(asked.text, len(letters), texts)
        if numbered is not None:  # Arabic leaderboards number the choices, and score their texts
            return Asked(_relettered(numbered, letters).text(order), letters, order)
        lines = [
            f"{letter}. {asked.choices[k].strip()}\n"
            for letter, k in zip(letters, order, strict=True)
        ]
        question = asked.text.removesuffix(self.cue).rstrip("\n")
        question += "\n" if question else ""  # BLiMP's kind shows nothing but its choices
        return Asked(f"{question}{''.join(lines)}{self.cue.lstrip() or _CUE}", letters, order)


def _numbered(text: str, n_choices: int, texts: frozenset[str]) -> ShownChoices | None:
    """Find choices that a prompt numbers, from 0 or 1."""
    for first in (0, 1):
        found = find_choices(text, [str(first + k) for k in range(n_choices)], texts)
        if found is not None:
            return found
    return None


def _relettered(shown: ShownChoices, letters: Sequence[str]) -> ShownChoices:
    marks = [
        re.sub(r"\d+", letter, mark) for mark, letter in zip(shown.marks, letters, strict=True)
    ]
    return replace(shown, marks=tuple(marks))


class _Cloze:
    """Leaves out the lettered choices, and scores their texts."""

    def __init__(self, heading: str) -> None:
        self.heading = heading

    def ask(self, where: str, doc: Any, asked: Asked) -> Asked:
        shown = _shown(where, doc, asked)
        head = shown.head.rstrip()
        if self.heading:
            head = head.removesuffix(self.heading).rstrip()
        return Asked(head + shown.tail, list(shown.choices))


def _shown(where: str, doc: Any, asked: Asked) -> ShownChoices:
    known, text = texts_of(doc), str(asked.text)
    shown = find_choices(text, asked.choices, known)
    if shown is None:
        raise UserError(
            f"{where}: where its prompt shows the choices cannot be read: after each letter there "
            "must stand a text that is one of the question's own (a column, or an item of one), "
            f"but {why_not_found(text, asked.choices, known)}"
        )
    return shown


def shown_choices(where: str, doc: Any, asked: Asked, texts: Sequence[str] = ()) -> ShownChoices:
    """Find the choices that a lettered prompt shows; `texts` are known beside the question's own.

    Raises
    ------
    UserError
        If they cannot be found for certain.
    """
    if texts:
        return _shown(where, [doc, list(texts)], asked)
    return _shown(where, doc, asked)


def _shuffled(asked: Asked) -> list[int]:
    """Return an order of the choices that question and choices fix."""

    def digest(k: int) -> bytes:
        return hashlib.sha256(f"{asked.text}\n{asked.choices[k]}".encode()).digest()

    return sorted(range(len(asked.choices)), key=digest)


def _last_line(texts: Sequence[str]) -> str:
    """Return the last line, if it is the same in all: what asks for the answer; else nothing."""
    lines = {text[text.rfind("\n") :] if "\n" in text else "" for text in texts}
    line = lines.pop() if len(lines) == 1 else ""
    return line if len(texts) > 1 or line.endswith(":") else ""


def _heading(heads: Sequence[str]) -> str:
    """Return the line before the first choice if it is the same in all, as "Options:" is."""
    lines = {head.rstrip().rpartition("\n")[2].strip() for head in heads}
    line = lines.pop() if len(lines) == 1 else ""
    return line if line.endswith((":", "：")) and len(heads) > 1 else ""
