"""Which choice a table names as right: by index, letter or name, or by a flag of each choice."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from calib_harness.core.confidence import LETTERS
from calib_harness.predictions.columns import UnusableLogError
from calib_harness.predictions.table import Floats, Ints

_FROM_ONE = re.compile(r"(?<!\d)1$")  # name of the first of several columns
NO_GOLD = frozenset(["", "-1", "nan", "none", "null"])
_TRUE, _FALSE = frozenset(["true", "1", "1.0", "yes"]), frozenset(["false", "0", "0.0", "no"])


def index_named(text: str) -> int:
    """Index that a text names: a number counted from 0, or a letter; -1 if neither."""
    stripped = text.strip().strip("().: ")
    if stripped.upper() in LETTERS:
        return LETTERS.index(stripped.upper())
    try:
        number = float(stripped)
    except ValueError:
        return -1
    return int(number) if number.is_integer() and 0 <= number < 2**31 else -1


def gold_index(texts: pd.Categorical, name: str) -> Ints:
    """Index of each row's right choice; -1 where the cell is empty."""
    named: list[int] = []
    written: dict[bool, str] = {}  # the first right choice that is a letter, and that is a number
    for category in texts.categories:
        text = str(category).strip()
        index = index_named(text)
        if index < 0 and text.lower() not in NO_GOLD:
            raise UnusableLogError(
                f"names in {name} the right choice as {text[:40]!r}, expected an index from 0 or "
                "a letter"
            )
        if index >= 0:
            written.setdefault(any(sign.isalpha() for sign in text), text)
        named.append(index)
    if len(written) > 1:
        raise UnusableLogError(
            f"names in {name} right choices by letter ({written[True]}) and by number "
            f"({written[False]}), so whether numbers count from 0 or from 1 is not known; give "
            "all in one way"
        )
    return np.where(texts.codes >= 0, np.array([*named, -1])[texts.codes], -1)


def truth(texts: pd.Categorical, name: str) -> Floats:
    """Return 1 or 0 for each row; NaN where the cell is empty."""
    values = []
    for category in texts.categories:
        text = str(category).strip().lower()
        if text not in _TRUE and text not in _FALSE and text not in ("", "nan", "none"):
            raise UnusableLogError(f"holds {text[:40]!r} in {name}, expected true or false, 1 or 0")
        values.append(1.0 if text in _TRUE else 0.0 if text in _FALSE else np.nan)
    return np.where(texts.codes >= 0, np.array([*values, np.nan])[texts.codes], np.nan)


def check_one_gold(wanted: pd.Categorical, question: Ints, first: Ints, name: str) -> None:
    """Refuse a column that says of each choice whether it is right, not which one is."""
    differs = wanted.codes != wanted.codes[first][question]
    if differs.any():
        row = int(np.argmax(differs))
        raise UnusableLogError(
            f"names in row {row + 1} of {name} another right choice than in an earlier row of the "
            "same question; if it says whether the row's choice is right, give it as is_gold "
            f"with --columns (is_gold={name})"
        )


def check_within(gold: Ints, n_choices: Ints, rows: Ints, name: str) -> None:
    """Refuse an index beyond the choices of its question, which begins in row `rows` + 1."""
    beyond = (gold >= n_choices) & (n_choices > 0)
    if beyond.any():
        first = int(np.argmax(beyond))
        raise UnusableLogError(
            f"names as right in row {rows[first] + 1} the choice {gold[first]} of "
            f"{n_choices[first]}, counted from 0; give {name} as an index from 0, or as a letter"
        )


def check_first(texts: pd.Categorical, gold: Ints, first: str, name: str) -> None:
    """Refuse indices that may be counted from 0 or from 1, as the columns' names are."""
    lettered = any(str(text).strip().isalpha() for text in texts.categories)
    known = gold[gold >= 0]
    if _FROM_ONE.search(first) and not lettered and len(known) and known.min() > 0:
        raise UnusableLogError(
            f"counts its choices from 1 ({first}, …) and names none of them in {name} as 0, so "
            "whether the right ones are counted from 0 or from 1 is not known; name them by letters"
        )
