"""What is kept of a table while it is read: its numbers, codes and names, a few bytes each."""

from __future__ import annotations

from array import array
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from calib_harness.predictions.foreign.batches import Batch
from calib_harness.predictions.foreign.table_form import TableForm
from calib_harness.predictions.table import Bools, Floats, Ints


class Rows:
    """The columns of a table as they are read: numbers as arrays, texts as codes.

    Numbers grow in place, row by row: put together at the end, they would be in memory twice.
    """

    def __init__(self, form: TableForm) -> None:
        self.form = form
        self.n = 0
        self._numbers: array[float] = array("d")
        self._lengths: array[int] = array("q")
        self._names: list[Any] = []
        self._texts: dict[str, list[pd.Categorical]] = {}

    def add(self, batch: Batch) -> None:
        """Take in some rows."""
        if batch.lists is not None:
            values, lengths = batch.lists
            self._lengths.frombytes(lengths.tobytes())
        else:
            values = np.stack(list(batch.numbers.values()), axis=1)
        self._numbers.frombytes(values.tobytes())
        for name, texts in batch.texts.items():
            self._texts.setdefault(name, []).append(texts)
        if batch.names is not None:
            self._names.append(batch.names)
        self.n += batch.n

    def numbers(self) -> Floats:
        """Return the columns of numbers, shape (n, number of columns), which may be written to.

        They are handed over, as are those of `lists`: a second call finds none.
        """
        values, self._numbers = self._numbers, array("d")
        return np.frombuffer(values).reshape(self.n, -1)

    def lists(self) -> tuple[Floats, Ints]:
        """Return the numbers of all lists, one after the other, and how many each row has."""
        values, self._numbers = self._numbers, array("d")
        return np.frombuffer(values), np.frombuffer(self._lengths, dtype=np.int64)

    def texts(self, name: str) -> pd.Categorical:
        """Return a column of texts; all empty if the table has none of this name."""
        if not name:
            empty = pd.Categorical([""]).take(np.zeros(self.n, dtype=np.int8))
            return cast("pd.Categorical", empty)
        if name == self.form.id:  # given in two roles
            return pd.Categorical(pa.chunked_array(self._names).to_numpy())
        joined: pd.Categorical = pd.api.types.union_categoricals(self._texts[name])
        return joined

    def names(self) -> np.ndarray:
        """Hand over the questions' names, str objects."""
        names = np.empty(self.n, dtype=object)
        at = self.n
        while self._names:  # from the end, so that each part is let go of
            part = self._names.pop()
            names[at - len(part) : at] = part.to_numpy(zero_copy_only=False)
            at -= len(part)
        return names

    def coded_names(self) -> tuple[Ints, np.ndarray]:
        """Return the number of each row's name among the different ones, and these."""
        encoded = pa.chunked_array(self._names).dictionary_encode().combine_chunks()
        return np.asarray(encoded.indices, dtype=np.int64), encoded.dictionary.to_numpy(False)


def numbered(n: int, after: str = "") -> np.ndarray:
    """Return names for rows that have none."""
    names = np.empty(n, dtype=object)
    for i in range(n):
        names[i] = f"row {i + 1}{after}"
    return names


def are_again(names: np.ndarray) -> Bools:
    """Tell which names were there before.

    Only those are compared that have their hash in common with another: a table of all names
    would take more memory than the names.
    """
    hashes = np.fromiter(map(hash, names), dtype=np.int64, count=len(names))
    ordered = np.sort(hashes)
    shared = ordered[1:][ordered[1:] == ordered[:-1]]
    found = np.zeros(len(names), dtype=bool)
    if shared.size:
        candidates = np.flatnonzero(np.isin(hashes, shared))
        found[candidates] = pd.Series(names[candidates], dtype=object).duplicated()
    return found
