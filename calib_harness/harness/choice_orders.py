"""Orders of a lettered question's choices: which are asked, and the prompts that show them."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calib_harness.errors import UserError

NAMED_ORDERS = ("cyclic", "reversed", "all")
#: Orders in which every choice stands behind every letter equally often.
BALANCED = ("cyclic", "all")
#: `all` orders of more choices than this are refused: 6 have 720.
MOST_FOR_ALL = 5

Order = tuple[int, ...]

#: A letter as prompts mark it, with what stands around it.
_MARK = r"(?<!\w)[(\[]?{}(?:[)\].:、．：]+|-)[ \t]*"
_LONGEST_LETTER = 2  # "هـ", "10"
#: Where the last choice may end: a line's end, or before the word that asks ("… D. four Answer:").
_LAST_ENDS = r"\n|$|[ \t]+[^\s:：]+ ?[:：]\s*$"
#: What may stand between two choices in one line.
_SEPARATORS = ",;.，；。"
#: A word before a letter, as in "Option B:": at the end of the choice before it, and within a mark.
_WORD_BEFORE = re.compile(r"\n[^\W\d]+ $")
_WORD_IN_MARK = re.compile(r"\s*\n([^\W\d]+ )(?=\S)")


def check_orders(where: str, orders: Any) -> None:
    """Refuse what `metadata: {orders: …}` cannot be.

    Raises
    ------
    UserError
        If it is neither a name of `NAMED_ORDERS` nor a number of at least 2.
    """
    whole = isinstance(orders, int) and not isinstance(orders, bool)
    if not (orders in NAMED_ORDERS if isinstance(orders, str) else whole and orders >= 2):
        raise UserError(
            f"{where}: orders is {orders!r}; expected {', '.join(NAMED_ORDERS)}, or how many "
            "random orders (2 or more)"
        )


def orders_of(n_choices: int, orders: str | int, key: str) -> list[Order]:
    """Return the orders in which a question is asked, the one given first.

    Parameters
    ----------
    n_choices : int
    orders : str or int
        ``cyclic`` (every choice behind every letter once), ``reversed``, ``all``, or the number of
        random orders.
    key : str
        What fixes the random ones: the question's text.

    Returns
    -------
    list of tuple of int
        Each says which choice stands behind each letter.

    Raises
    ------
    UserError
        If there would be too many.

    Examples
    --------
    >>> orders_of(3, "cyclic", "")
    [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    >>> orders_of(3, "reversed", "")
    [(0, 1, 2), (2, 1, 0)]
    """
    given = tuple(range(n_choices))
    if orders == "cyclic":
        return [given[shift:] + given[:shift] for shift in range(n_choices)]
    if orders == "reversed":
        return [given, given[::-1]]
    if orders == "all":
        if n_choices > MOST_FOR_ALL:
            raise UserError(
                f"orders is 'all' and a question has {n_choices} choices, so "
                f"{math.factorial(n_choices)} orders; expected at most {MOST_FOR_ALL} choices: "
                "ask for cyclic orders, or a number"
            )
        return list(itertools.permutations(given))
    rng = random.Random(hashlib.sha256(key.encode()).digest())
    wanted = min(int(orders), math.factorial(n_choices))
    found = {given: None}
    while len(found) < wanted:
        found[tuple(rng.sample(given, n_choices))] = None
    return list(found)


@dataclass(frozen=True)
class ShownChoices:
    """A lettered prompt, cut where it shows its choices.

    Attributes
    ----------
    head : str
        What stands before the first letter.
    marks : tuple of str
        What stands before each choice: the letter and what is around it.
    choices : tuple of str
        The choices' texts.
    tail : str
        What follows the last choice.
    """

    head: str
    marks: tuple[str, ...]
    choices: tuple[str, ...]
    tail: str

    def text(self, order: Sequence[int]) -> str:
        """Return the prompt with its choices in another order."""
        shown = [mark + self.choices[k] for mark, k in zip(self.marks, order, strict=True)]
        return self.head + "".join(shown) + self.tail


def find_choices(prompt: str, letters: Sequence[str], known: frozenset[str]) -> ShownChoices | None:
    """Find where a prompt shows lettered choices; None if that cannot be told for certain.

    Parameters
    ----------
    prompt : str
        A question's own text, without shots.
    letters : sequence of str
        As scored; what is around them (``(A)``) does not matter.
    known : frozenset of str
        Texts of the question, stripped: each choice must be one of them, so that a letter within a
        text, or a last choice of several lines, is not mistaken. What separates choices in a line
        (``A: one, B: two``) is no part of them, nor is one word with a colon after the last.
    """
    names = _names(letters)
    starts = list(_marks(prompt, names[0]))
    for start in reversed(starts):  # an example within the question may be lettered as well
        spans = _choices_after(prompt, start, names[1:], known)
        if spans is not None:
            return _cut(prompt, start.start(), spans)
    return None


def without_marks(choices: Sequence[str], letters: Sequence[str]) -> list[str]:
    """Return choices, stripped, without the letter that they may begin with (``(A)5``)."""
    return [
        re.sub(f"^{_MARK.format(re.escape(letter))}", "", choice.strip())
        for choice, letter in zip(choices, letters, strict=True)
    ]


def why_not_found(prompt: str, letters: Sequence[str], known: frozenset[str]) -> str:
    """Say at which letter `find_choices` gives up, as far as it comes."""
    names = _names(letters)
    found = [_gives_up(prompt, start, names, known) for start in _marks(prompt, names[0])]
    return max(found)[1] if found else _no_mark(names[0])


def _gives_up(
    prompt: str, mark: re.Match[str], names: Sequence[str], known: frozenset[str]
) -> tuple[int, str]:
    """Return how many letters are passed from a mark on, and what stands in the way."""
    for k, following in enumerate([*names[1:], ""]):
        begin, end = mark.end(), len(prompt)
        if not following:
            break
        found = next(_marks(prompt, following, begin), None)
        if found is None:
            return k, _no_mark(following)
        mark, end = found, found.start()
        if _choice_in(prompt, begin, end, known) is None:
            break
    line = prompt[begin:end].strip().partition("\n")[0]
    return k, f"after {names[k]} stands {line if len(line) < 50 else line[:49] + '…'!r}"


def _no_mark(name: str) -> str:
    return f"it has no {name}. or ({name})"


def _names(letters: Sequence[str]) -> list[str]:
    return [letter.strip(" \n().:[]") for letter in letters]


def marks_texts(prompt: Any, choices: Sequence[str]) -> bool:
    """Whether a prompt marks texts by the choices: letters of any alphabet, in any order.

    Each must be short and begin a line, as a letter does that stands for what follows it.
    """
    names = [name for name in _names(choices) if 0 < len(name) <= _LONGEST_LETTER]
    return (
        isinstance(prompt, str)
        and 1 < len(names) == len(choices)
        and all(
            re.search(rf"^[ \t]*{_MARK.format(re.escape(name))}\S", prompt, flags=re.MULTILINE)
            for name in names
        )
    )


def texts_of(doc: Any) -> frozenset[str]:
    """Return every text that a question's columns hold, stripped."""
    return frozenset(_leaves(doc))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, int | float):
        yield str(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)


def _marks(prompt: str, letter: str, begin: int = 0) -> Iterator[re.Match[str]]:
    return re.compile(_MARK.format(re.escape(letter))).finditer(prompt, begin)


def _choices_after(
    prompt: str, mark: re.Match[str], letters: Sequence[str], known: frozenset[str]
) -> list[tuple[int, int]] | None:
    """Spans of the choices from a mark on: each ends where the next letter's mark begins."""
    begin = mark.end()
    if not letters:
        for match in re.compile(_LAST_ENDS).finditer(prompt, begin):
            span = _choice_in(prompt, begin, match.start(), known)
            if span is not None:
                return [span]
        return None
    for following in _marks(prompt, letters[0], begin):
        span = _choice_in(prompt, begin, following.start(), known)
        if span is not None:
            rest = _choices_after(prompt, following, letters[1:], known)
            if rest is not None:
                return [span, *rest]
    return None


def _choice_in(prompt: str, begin: int, end: int, known: frozenset[str]) -> tuple[int, int] | None:
    """Span of the choice between two places, separators left out; None if it is not known."""
    whole = prompt[begin:end]
    shorter = whole.rstrip().rstrip(_SEPARATORS), _WORD_BEFORE.sub("", whole)
    for text in (whole, *filter(str.strip, shorter)):
        if text.strip() in known:
            return _stripped(prompt, begin, begin + len(text))
    return None


def _stripped(text: str, begin: int, end: int) -> tuple[int, int]:
    inside = text[begin:end]
    start = begin + len(inside) - len(inside.lstrip())
    return start, start + len(inside.strip())


def _cut(prompt: str, first_mark: int, spans: Sequence[tuple[int, int]]) -> ShownChoices:
    ends = [first_mark, *(end for _, end in spans[:-1])]
    if len(spans) > 1:  # what stands before the second letter may stand before the first, too
        word = _WORD_IN_MARK.match(prompt[spans[0][1] : spans[1][0]])
        if word and prompt[:first_mark].endswith(word[1]):
            ends[0] -= len(word[1])
    return ShownChoices(
        head=prompt[: ends[0]],
        marks=tuple(prompt[end:begin] for end, (begin, _) in zip(ends, spans, strict=True)),
        choices=tuple(prompt[begin:end] for begin, end in spans),
        tail=prompt[spans[-1][1] :],
    )
