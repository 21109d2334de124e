"""Checks of arguments: every ValueError of this package about an array or an option.

A wrong option is an `ArgumentError`, which a person can mend; a wrong array is a plain ValueError,
which on the command line is a fault of ours.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from calib_harness.errors import ArgumentError

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

# How far a row of probabilities may sum from 1, and a probability lie outside [0, 1]: wide
# enough for a softmax in float32, far too narrow for scores taken for probabilities.
SUM_TOLERANCE = 1e-5


def check_choice_of(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise ArgumentError unless `value` is one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ArgumentError(
            f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}."
        )


def check_count(name: str, value: object, *, least: int = 1) -> int:
    """Return `value` as an int, or raise ArgumentError unless it is a whole number >= `least`."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or int(value) < least:  # type: ignore[call-overload]
        raise ArgumentError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    return int(value)  # type: ignore[call-overload, no-any-return]


def check_fraction(name: str, value: object) -> float:
    """Return `value` as a float, or raise ArgumentError unless it lies strictly in (0, 1)."""
    number = _as_float(name, value)
    if not 0.0 < number < 1.0:
        raise ArgumentError(f"{name} must lie strictly between 0 and 1; got {value!r}.")
    return number


def check_threshold(value: object) -> float:
    """Return the threshold as a float, or raise ArgumentError unless it lies in [0, 1)."""
    number = _as_float("threshold", value)
    if not 0.0 <= number < 1.0:
        raise ArgumentError(f"threshold must lie in [0, 1); got {value!r}.")
    return number


def _as_float(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ArgumentError(f"{name} must be a number; got {value!r}.")
    return float(value)


def as_floats(name: str, values: npt.ArrayLike, *, ndim: int) -> FloatArray:
    """Return `values` as a float64 array of `ndim` dimensions, or raise ValueError."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a rectangular array of numbers; {error}.") from error
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension(s); got shape {array.shape}.")
    return array


def as_gold(gold: npt.ArrayLike) -> IntArray:
    """Return gold indices as integers, -1 where there is none (None, NaN or a fraction)."""
    raw = np.asarray(gold)
    if raw.ndim != 1:
        raise ValueError(f"gold must have 1 dimension; got shape {raw.shape}.")
    if raw.dtype == object:
        raw = np.array([np.nan if index is None else index for index in raw])
    if raw.dtype.kind in "iu":
        return raw.astype(np.int64)
    if raw.dtype.kind != "f":
        raise ValueError(f"gold must hold indices of choices; got an array of {raw.dtype}.")
    whole = np.isfinite(raw) & (raw == np.floor(raw))
    return np.where(whole, raw, -1).astype(np.int64)


def same_length(**arrays: npt.NDArray[Any]) -> None:
    """Raise ValueError unless all arrays have the same first dimension."""
    if len({len(array) for array in arrays.values()}) > 1:
        sizes = ", ".join(f"{name} has {len(array)}" for name, array in arrays.items())
        raise ValueError(f"{' and '.join(arrays)} must be equally long; {sizes}.")


def gold_present(table: FloatArray, gold: IntArray) -> BoolArray:
    """Tell for each row of an (n, K) table whether gold names one of its choices."""
    inside = (gold >= 0) & (gold < table.shape[1])
    at_gold = table[np.arange(len(gold)), np.where(inside, gold, 0)]
    return np.asarray(inside & ~np.isnan(at_gold))


def check_rows(
    probs: npt.ArrayLike, gold: npt.ArrayLike, *, allow_unusable: bool = False
) -> tuple[FloatArray, IntArray]:
    """Return `probs` and `gold` as arrays, or raise ValueError naming the first bad row.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.
    allow_unusable : bool
        Let rows pass that are NaN throughout or whose gold is not one of the choices.
    """
    p = check_probs(probs, allow_unusable=allow_unusable)
    g = as_gold(gold)
    same_length(probs=p, gold=g)
    bad = ~gold_present(p, g)
    if not allow_unusable and bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"gold must name a choice of its row in probs; row {row} has gold "
            f"{np.asarray(gold).tolist()[row]!r} and probabilities {p[row].tolist()}. "
            "Leave out unusable rows with usable_rows()."
        )
    return p, g


def check_probs(probs: npt.ArrayLike, *, allow_unusable: bool = False) -> FloatArray:
    """Return `probs` as an (n, K) float64 array of distributions, or raise ValueError."""
    p = as_floats("probs", probs, ndim=2)
    if p.size == 0:
        raise ValueError(f"probs must have at least one row and one choice; got shape {p.shape}.")
    inside = p.min() >= -SUM_TOLERANCE and p.max() <= 1.0 + SUM_TOLERANCE  # never with NaN
    if inside and (np.abs(p @ np.ones(p.shape[1]) - 1.0) <= SUM_TOLERANCE).all():
        return p
    absent = np.isnan(p)
    empty = absent.all(axis=1)
    if empty.any() and not allow_unusable:
        raise ValueError(
            f"probs must have at least one number in each row; row {int(np.argmax(empty))} is "
            "all NaN. Leave out unusable rows with usable_rows()."
        )
    outside = ((p < -SUM_TOLERANCE) | (p > 1.0 + SUM_TOLERANCE)).any(axis=1)
    off = ~empty & ~(np.abs(np.nansum(p, axis=1) - 1.0) <= SUM_TOLERANCE)
    if (outside | off).any():
        row = int(np.argmax(outside | off))
        raise ValueError(
            "probs must hold probabilities that sum to 1 in each row (NaN where a choice does "
            f"not exist); row {row} is {p[row].tolist()}. Turn scores into probabilities with "
            "softmax_scores()."
        )
    return p


def check_pairs(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return top-label pairs as two float64 arrays of shape (n,), or raise ValueError."""
    conf = as_floats("confidence", confidence, ndim=1)
    hit = as_floats("correct", correct, ndim=1)
    same_length(confidence=conf, correct=hit)
    check_unit_interval("confidence", conf)
    if not np.isin(hit, (0.0, 1.0)).all():
        row = int(np.argmin(np.isin(hit, (0.0, 1.0))))
        raise ValueError(f"correct must hold 0 or 1 only; element {row} is {hit[row]}.")
    return conf, hit


def check_unit_interval(name: str, values: FloatArray) -> None:
    """Raise ValueError unless `values` is not empty and lies in [0, 1], up to rounding."""
    if values.size == 0:
        raise ValueError(f"{name} must not be empty.")
    bad = ~((values >= -SUM_TOLERANCE) & (values <= 1.0 + SUM_TOLERANCE))
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(f"{name} must lie in [0, 1]; element {at} is {values[at]}.")


def check_counts(counts: npt.ArrayLike, n: int) -> FloatArray:
    """Return resample counts as an (R, n) float64 array, or raise ValueError."""
    array = as_floats("counts", counts, ndim=2)
    if array.shape[1] != n:
        raise ValueError(f"counts must have one column per question ({n}); got {array.shape}.")
    if not (np.isfinite(array) & (array >= 0) & (array == np.floor(array))).all():
        raise ValueError("counts must be whole numbers, none of them negative.")
    return array
