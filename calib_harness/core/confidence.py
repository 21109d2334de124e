"""From token log-probabilities to scores, from scores to probabilities."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from calib_harness.core.answers import Choices
from calib_harness.core.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    as_floats,
    as_gold,
    check_choice_of,
    gold_present,
    same_length,
)


@dataclass(frozen=True)
class Method:
    """One way to score a choice.

    Attributes
    ----------
    name : str
        Name of the method, of its filter and of its rows in tables.
    prompt : {"cloze", "choice"}
        The prompt it needs.
    description : str
        The formula, t running over the tokens of the continuation.
    needs_token_logprobs : bool
        False where the sum over the continuation is enough.
    """

    name: str
    prompt: Literal["cloze", "choice"]
    description: str
    needs_token_logprobs: bool


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("continuation-sum", "cloze", "Σ_t log p_t", False),
        Method("continuation-min", "cloze", "min_t log p_t", True),
        Method("continuation-mean", "cloze", "Σ_t log p_t / number of tokens", True),
        Method("continuation-bytes", "cloze", "Σ_t log p_t / UTF-8 bytes of the choice", False),
        Method("choice", "choice", "log p of the choice's letter", False),
    )
}


#: The letters of a choice prompt, in the order of the choices.
_ROWS_AT_ONCE = 2**16
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_AROUND_LETTERS = " \n().:[]"


#: Letters of other scripts and numerals, in the order in which they label choices.
_OTHER_LABELS = tuple(
    tuple(labels.split())
    for labels in (
        *("1 2 3 4 5 6 7 8 9 10", "0 1 2 3 4 5 6 7 8 9"),
        "I II III IV V VI VII VIII IX X",
        *("Α Β Γ Δ Ε Ζ Η Θ", "А Б В Г Д Е Ж З", "А Б В Г Ґ Д Е Є"),
        *("أ ب ج د ه و ز ح", "ا ب پ ت ث ج چ ح", "א ב ג ד ה ו ז ח"),
        *("क ख ग घ ङ च छ ज", "ক খ গ ঘ ঙ চ ছ জ", "ก ข ค ง จ ฉ ช ซ"),
        *("ア イ ウ エ オ カ キ ク", "イ ロ ハ ニ ホ ヘ ト チ"),
        *("가 나 다 라 마 바 사 아", "ㄱ ㄴ ㄷ ㄹ ㅁ ㅂ ㅅ ㅇ", "甲 乙 丙 丁 戊 己 庚 辛"),
    )
)


def is_labelled(choices: Sequence[str], context: str) -> bool:
    """Whether the choices are labels of any script that the context lists beside their texts.

    Digits may be answers as well as labels, so these count only where the context shows them as
    labels, one after the other: ``1. red``, ``(ب) أحمر``.

    Parameters
    ----------
    choices : sequence of str
        What is scored, delimiter included or not.
    context : str
        The prompt before them.

    Examples
    --------
    >>> is_labelled([" 1", " 2"], "Which? 1. red 2. blue Answer:"), is_labelled(["1", "2"], "1+1=")
    (True, False)
    """
    if is_lettered(choices):
        return True
    return bool(may_be_labels(choices)) and _lists(
        context, [c.strip(_AROUND_LETTERS) for c in choices]
    )


def may_be_labels(choices: Sequence[str]) -> bool:
    """Whether the choices are labels if the context lists them; see :func:`is_labelled`."""
    plain = tuple(_plain_label(choice) for choice in choices)
    return len(plain) > 1 and any(plain == labels[: len(plain)] for labels in _OTHER_LABELS)


def _plain_label(choice: str) -> str:
    """Return a label in capitals, its digits as 0 to 9."""
    label = unicodedata.normalize("NFKC", choice.strip(_AROUND_LETTERS)).upper()
    return "".join(str(unicodedata.decimal(sign, sign)) for sign in label)


def _lists(context: str, labels: Sequence[str]) -> bool:
    """Whether the context lists the labels in order, each set off from what follows."""
    position = 0
    for label in labels:
        found = re.compile(rf"(?:^|[\s(\[]){re.escape(label)}\s*[.):\],،、．-]").search(
            context, position
        )
        if not found:
            return False
        position = found.end()
    return True


def is_lettered(choices: Sequence[str]) -> bool:
    """Whether the choices are the letters A, B, C, … in order, so that the prompt is a choice one.

    Tasks and logs write them with what stands around them in the prompt: ``" A"``, ``"(A)"``,
    ``"A."``, ``"[a]"`` count.

    Parameters
    ----------
    choices : sequence of str
        What is scored, delimiter included or not.

    Examples
    --------
    >>> is_lettered([" A", " B", " C"]), is_lettered(["(A)", "(B)"]), is_lettered(["B", "A"])
    (True, True, False)
    """
    letters = tuple(choice.strip(_AROUND_LETTERS).upper() for choice in choices)
    return bool(letters) and letters == LETTERS[: len(letters)]


def choice_score(
    token_logprobs: Sequence[float], method: str, *, n_bytes: int | None = None
) -> float:
    """Return the score of one choice.

    Parameters
    ----------
    token_logprobs : sequence of float, shape (T,)
        Log-probability (natural logarithm) of each token of the continuation.
    method : str
        One of `METHODS`.
    n_bytes : int, optional
        Length of the choice in UTF-8 bytes; only ``continuation-bytes`` needs it.

    Returns
    -------
    float
        The score; NaN if there are no tokens (or no bytes) or one of them is NaN.

    Raises
    ------
    ValueError
        If the method is unknown, or needs `n_bytes` and got none.

    Examples
    --------
    >>> choice_score([-1.0, -2.5], "continuation-sum")
    -3.5
    >>> choice_score([-1.0, -2.5], "continuation-min")
    -2.5
    >>> choice_score([-1.0, -2.5], "continuation-bytes", n_bytes=7)
    -0.5
    """
    check_choice_of("method", method, METHODS)
    if method == "continuation-bytes" and n_bytes is None:
        raise ValueError("n_bytes must be given for the method 'continuation-bytes'; got None.")
    tokens = np.asarray(token_logprobs, dtype=np.float64)
    score = continuation_scores(
        method,
        np.array([math.fsum(tokens.tolist())]),
        tokens=tokens,
        n_tokens=np.array([len(tokens)]),
        n_bytes=np.array([n_bytes or 0]),
    )
    return math.nan if np.isnan(tokens).any() else float(score[0])


def continuation_scores(
    method: str,
    sums: FloatArray,
    *,
    n_tokens: IntArray,
    tokens: FloatArray,
    n_bytes: IntArray,
) -> FloatArray:
    """Return the scores of many choices: the formulas of every method, in one place.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    sums : ndarray, shape (m,)
        Log-probability of each continuation.
    n_tokens : ndarray of int, shape (m,)
        Number of its tokens; negative where it is not known.
    tokens : ndarray
        Log-probabilities of the tokens of all continuations whose number is known, one after
        the other.
    n_bytes : ndarray of int, shape (m,)
        Length of each choice in UTF-8 bytes.

    Returns
    -------
    ndarray, shape (m,)
        NaN where a continuation has no tokens (or bytes), or the method needs what is not known.
    """
    if method == "continuation-min":
        lowest = np.full(len(sums), np.nan)
        filled = n_tokens > 0
        if filled.any():
            starts = np.concatenate([[0], np.cumsum(n_tokens[filled])[:-1]])
            lowest[filled] = np.minimum.reduceat(tokens, starts)
        return lowest
    scored = np.where(n_tokens == 0, np.nan, sums)
    if method == "continuation-mean":
        return _per_unit(scored, n_tokens)
    if method == "continuation-bytes":
        return _per_unit(scored, n_bytes)
    if method not in ("continuation-sum", "choice"):
        raise ValueError(f"method must be one that has a formula here; got {method!r}.")
    return scored


def _per_unit(sums: FloatArray, counts: IntArray) -> FloatArray:
    quotient = np.full(len(sums), np.nan)
    np.divide(sums, counts, out=quotient, where=counts > 0)
    return quotient


def pack_scores(scores: Sequence[Sequence[float]]) -> FloatArray:
    """Stack the scores of questions with unequal numbers of choices.

    Parameters
    ----------
    scores : sequence of n sequences of float
        One score per choice.

    Returns
    -------
    ndarray, shape (n, K_max)
        NaN where a choice does not exist. A question that cannot be used (no choices, a NaN
        or +inf among its scores, all of them -inf) is NaN throughout.

    Examples
    --------
    >>> pack_scores([[-1.0, -2.0, -3.0], [-1.0, -2.0], [-1.0, float("nan")]]).tolist()
    [[-1.0, -2.0, -3.0], [-1.0, -2.0, nan], [nan, nan, nan]]
    """
    flat = np.array([score for row in scores for score in row], dtype=np.float64)
    return pack_flat(flat, np.array([len(row) for row in scores], dtype=np.int64))


def pack_flat(flat: FloatArray, n_choices: IntArray) -> FloatArray:
    """Lay scores that stand one after the other out as a table; see :func:`pack_scores`.

    Parameters
    ----------
    flat : ndarray, shape (m,)
        One score per choice, question by question.
    n_choices : ndarray of int, shape (n,)
        Number of choices of each question; they add up to m.

    Returns
    -------
    ndarray, shape (n, K_max)
    """
    exists = np.arange(n_choices.max(initial=1)) < n_choices[:, None]
    table = np.full(exists.shape, np.nan)
    table[exists] = flat
    table[((np.isnan(table) | (table == np.inf)) & exists).any(axis=1)] = np.nan
    table[_all_impossible(table)] = np.nan
    return table


def _all_impossible(scores: FloatArray) -> BoolArray:
    """Tell which rows have no finite score."""
    return np.asarray(~np.isfinite(scores).any(axis=1))


def softmax_scores(scores: npt.ArrayLike) -> FloatArray:
    """Turn scores into probabilities, one question at a time.

    Parameters
    ----------
    scores : array_like, shape (n, K)
        Log-domain scores, NaN where a choice does not exist. -inf means probability 0.

    Returns
    -------
    ndarray, shape (n, K)
        Rows sum to 1, NaN where a choice does not exist. A row without a finite score, or
        with a +inf, is NaN throughout.

    Examples
    --------
    >>> import numpy as np
    >>> softmax_scores(np.log([[1.0, 3.0], [2.0, 2.0]])).round(2).tolist()
    [[0.25, 0.75], [0.5, 0.5]]
    """
    s = as_floats("scores", scores, ndim=2)
    probs = np.empty_like(s)
    for start in range(0, len(s), _ROWS_AT_ONCE):  # or millions of rows would be there six times
        part = slice(start, start + _ROWS_AT_ONCE)
        probs[part] = _softmax(s[part])
    return probs


def _softmax(s: FloatArray) -> FloatArray:
    if np.isfinite(s).all():  # most tables: half the time, the same numbers
        weights = np.exp(s - s.max(axis=1, keepdims=True, initial=-np.inf))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))
    unusable = _all_impossible(s) | (s == np.inf).any(axis=1)
    safe = np.where(unusable[:, None], 0.0, s)
    weights = np.exp(safe - np.nanmax(safe, axis=1, keepdims=True, initial=-np.inf))
    probs: FloatArray = weights / np.nansum(weights, axis=1, keepdims=True)
    probs[unusable] = np.nan
    return probs


def usable_rows(table: npt.ArrayLike, gold: npt.ArrayLike) -> BoolArray:
    """Tell which questions every metric can use.

    Parameters
    ----------
    table : array_like, shape (n, K)
        Packed scores or probabilities.
    gold : array_like, shape (n,)
        Index of the right choice; None, NaN or an index outside the choices means none.

    Returns
    -------
    ndarray of bool, shape (n,)
        False where a row has no finite number, or gold is not one of its choices.

    Examples
    --------
    >>> nan = float("nan")
    >>> usable_rows([[0.5, 0.5, nan], [nan, nan, nan], [0.5, 0.5, nan]], [0, 0, 2]).tolist()
    [True, False, False]
    """
    values = as_floats("table", table, ndim=2)
    indices = as_gold(gold)
    same_length(table=values, gold=indices)
    present = gold_present(values, indices)
    if np.isfinite(values).all():  # told of the table at once, which is faster than row by row
        return present
    broken = _all_impossible(values) | (values == np.inf).any(axis=1)
    return np.asarray(~broken & present)


def top_label(probs: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    """Return each question's confidence and prediction.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.

    Returns
    -------
    confidence : ndarray, shape (n,)
        The largest probability.
    prediction : ndarray of int, shape (n,)
        Its index, the first one on ties, as in numpy.argmax.

    Examples
    --------
    >>> confidence, prediction = top_label([[0.1, 0.6, 0.3], [0.5, 0.5, float("nan")]])
    >>> confidence.tolist(), prediction.tolist()
    ([0.6, 0.5], [1, 0])
    """
    choices = Choices.checked(probs)
    return choices.confidence, choices.prediction
