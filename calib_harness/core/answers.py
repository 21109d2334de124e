"""Probabilities, and the gold choices they are judged by: checked once, looked at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from calib_harness.core.checks import FloatArray, IntArray, check_probs, check_rows


@dataclass(frozen=True, eq=False)
class Choices:
    """The probabilities of the choices of n questions; make one with `checked`.

    Attributes
    ----------
    probs : ndarray, shape (n, K)
        A distribution per row, NaN where a choice does not exist.
    """

    probs: FloatArray

    @classmethod
    def checked(cls, probs: npt.ArrayLike) -> Choices:
        """Return the choices, or raise ValueError naming the first row that is no distribution."""
        return cls(check_probs(probs))

    def __len__(self) -> int:
        return len(self.probs)

    @cached_property
    def prediction(self) -> IntArray:
        """Index of the largest probability, the first one on ties; -1 in a row of NaN only."""
        present = ~np.isnan(self.probs).all(axis=1)
        if present.all():
            return np.asarray(np.nanargmax(self.probs, axis=1), dtype=np.int64)
        found = np.full(len(self), -1)
        if present.any():
            found[present] = np.nanargmax(self.probs[present], axis=1)
        return found

    @cached_property
    def confidence(self) -> FloatArray:
        """The largest probability of each question; NaN in a row of NaN only."""
        return np.asarray(self.probs[np.arange(len(self)), self.prediction])


@dataclass(frozen=True, eq=False)
class Answers(Choices):
    """Probabilities together with gold; make one with `of`.

    Attributes
    ----------
    gold : ndarray of int, shape (n,)
        Index of the right choice. Rows that cannot be used may hold anything, if let in.
    """

    gold: IntArray

    @classmethod
    def of(
        cls, probs: npt.ArrayLike, gold: npt.ArrayLike, *, allow_unusable: bool = False
    ) -> Answers:
        """Return the answers, or raise ValueError naming the first bad row.

        Parameters
        ----------
        probs : array_like, shape (n, K)
            Probabilities of the choices, NaN where a choice does not exist.
        gold : array_like, shape (n,)
            Index of the right choice.
        allow_unusable : bool
            Let rows pass that are NaN throughout or whose gold is not one of the choices.
        """
        return cls(*check_rows(probs, gold, allow_unusable=allow_unusable))

    @cached_property
    def correct(self) -> FloatArray:
        """1 where the prediction is gold, else 0: also where a row cannot be used."""
        predicted = self.prediction
        return np.asarray((predicted == self.gold) & (predicted >= 0), dtype=np.float64)

    @cached_property
    def at_gold(self) -> FloatArray:
        """The probability of gold, at least 0; rows must be usable."""
        return np.maximum(self.probs[np.arange(len(self)), self.gold], 0.0)
