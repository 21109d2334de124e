"""What is binned together: the predicted choices, or the entries of one class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from calib_harness.core.checks import BoolArray, FloatArray, IntArray

# gold, shape (..., n) -> which entries of a group came true, shape (..., entries).
Outcome: TypeAlias = Callable[[IntArray], BoolArray]


@dataclass(frozen=True)
class Group:
    """Entries that are binned together.

    Attributes
    ----------
    rows : ndarray of int, shape (m,)
        The question of each entry.
    values : ndarray, shape (m,)
        Its probability.
    outcome : callable
        Gold indices to what happened to each entry.
    members : ndarray of int
        Questions that give the group its weight: `rows`, before a threshold removes some.
    chances : ndarray, shape (m,), optional
        How probable it is that the entry comes true if the probabilities are right; `values`
        by default.
    """

    rows: IntArray
    values: FloatArray
    outcome: Outcome
    members: IntArray
    chances: FloatArray | None = None

    @property
    def likely(self) -> FloatArray:
        """How probable it is that each entry comes true, (m,)."""
        return self.values if self.chances is None else self.chances


def top_label_groups(confidence: FloatArray, outcome: Outcome) -> list[Group]:
    """Return the one group of (confidence, correct) pairs."""
    rows = np.arange(confidence.size)
    return [Group(rows=rows, values=confidence, outcome=outcome, members=rows)]


def class_groups(
    probs: FloatArray, *, threshold: float | None = None, against: IntArray | None = None
) -> list[Group]:
    """Return one group per class (choice position) with the entries of that class.

    Parameters
    ----------
    probs : ndarray, shape (n, K)
        Probabilities, NaN where a choice does not exist.
    threshold : float, optional
        Keep only entries strictly above it.
    against : ndarray of int, shape (n,), optional
        Predictions. If given, an entry comes true where [prediction = class] equals
        [gold = class] instead of where gold = class.
    """
    groups = []
    for k, column in enumerate(probs.T):
        members = np.flatnonzero(~np.isnan(column))
        if members.size == 0:
            continue
        rows = members if threshold is None else members[column[members] > threshold]
        outcome = _class_outcome(k, rows, against)
        values = column[rows]
        chances = None if against is None else np.where(against[rows] == k, values, 1.0 - values)
        groups.append(Group(rows, values, outcome, members, chances))
    return groups


def _class_outcome(k: int, rows: IntArray, against: IntArray | None) -> Outcome:
    def is_gold(gold: IntArray) -> BoolArray:
        return np.asarray(gold[..., rows] == k)

    def agrees(gold: IntArray) -> BoolArray:
        assert against is not None
        return np.asarray((gold[..., rows] == k) == (against[rows] == k))

    return is_gold if against is None else agrees
