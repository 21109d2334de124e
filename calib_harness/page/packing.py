"""Numbers as compact columns: typed arrays in one compressed blob, read back by the browser."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import numpy as np
import numpy.typing as npt

# numpy's kinds that JavaScript has typed arrays for.
_TYPES = ("float32", "float64", "uint8", "uint16", "uint32", "int32")


class Numbering:
    """Numbers things in the order in which they first come."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def of(self, thing: Any) -> int:
        """Return the number of a thing, the next one if it is new."""
        return self.known.setdefault(thing, len(self.known))


class Columns:
    """Named arrays, each kept apart from the others: like numbers compress well together."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._index: dict[str, dict[str, Any]] = {}
        self._size = 0

    def add(self, name: str, values: npt.ArrayLike) -> None:
        """Append an array; its shape is flattened, row by row."""
        array = np.ascontiguousarray(values)
        if array.dtype.name not in _TYPES:
            raise TypeError(f"column {name}: the page cannot hold {array.dtype}")
        padding = -self._size % array.itemsize
        data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        self._index[name] = {
            "type": array.dtype.name,
            "at": self._size + padding,
            "length": int(array.size),
        }
        self._parts += [bytes(padding), data]
        self._size += padding + len(data)

    @property
    def index(self) -> dict[str, dict[str, Any]]:
        """Where each column lies in the blob: ``type``, ``at`` (byte) and ``length``."""
        return self._index

    def packed(self) -> str:
        """All columns, gzip-compressed, as base64."""
        blob = b"".join(self._parts)
        return base64.b64encode(gzip.compress(blob, compresslevel=6, mtime=0)).decode("ascii")


def packed_text(value: Any) -> str:
    """JSON, gzip-compressed, as base64."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    blob = text.encode("utf-8", "replace")  # lone surrogates are no text
    return base64.b64encode(gzip.compress(blob, compresslevel=6, mtime=0)).decode("ascii")


def smallest_unsigned(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return whole numbers in the narrowest unsigned type that holds them."""
    array = np.asarray(values)
    most = int(array.max(initial=0))
    return array.astype("uint8" if most < 2**8 else "uint16" if most < 2**16 else "uint32")


def printed_alike(values: npt.ArrayLike, digits: int = 3) -> npt.NDArray[np.float32]:
    """Round to float32 such that every number still prints the same with `digits` decimals.

    Where rounding carries a number over the edge between two printed values, its neighbour on
    the right side of the edge is taken.

    Examples
    --------
    >>> x = 0.0444999999999
    >>> f"{np.float32(x):.3f}", f"{printed_alike([x])[0]:.3f}", f"{x:.3f}"
    ('0.045', '0.044', '0.044')
    """
    exact = np.asarray(values, dtype=np.float64)
    narrow = exact.astype(np.float32)
    # Only numbers next to an edge can be carried over it.
    scaled = np.abs(exact) * 10.0**digits
    near = np.isfinite(exact) & (np.abs(scaled % 1.0 - 0.5) < 1e-3)
    for i in np.flatnonzero(near):
        wanted = f"{exact.flat[i]:.{digits}f}"
        if f"{float(narrow.flat[i]):.{digits}f}" != wanted:
            narrow.flat[i] = np.nextafter(narrow.flat[i], np.float32(float(wanted)))
    return narrow
