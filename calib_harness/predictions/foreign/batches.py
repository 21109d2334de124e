"""Read columns of a table in batches of bounded size, whatever the file's format."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from calib_harness.predictions.columns import UnusableLogError
from calib_harness.predictions.files import File
from calib_harness.predictions.records import read_records
from calib_harness.predictions.table import Floats, Ints

_BLOCK = 8 * 2**20  # bytes of text, decompressed
_ROWS = 2**16


@dataclass
class Batch:
    """Some rows of a table.

    Attributes
    ----------
    n : int
        Number of rows.
    numbers : dict of str to ndarray, shape (n,)
        NaN where a cell is empty.
    texts : dict of str to Categorical, length n
        A missing code where a cell is empty.
    names : pyarrow.StringArray, length n, or None
        The questions' names, most of which differ: kept as they are, at a few bytes each.
    lists : tuple of (ndarray, ndarray) or None
        Of the column that holds lists: all numbers one after the other, and how many each row has.
    """

    n: int
    numbers: dict[str, Floats] = field(default_factory=dict)
    texts: dict[str, pd.Categorical] = field(default_factory=dict)
    names: Any = None
    lists: tuple[Floats, Ints] | None = None


def column_names(file: File) -> list[str]:
    """Return the columns of a table.

    Raises
    ------
    UnusableLogError, OSError
        If the file is no table.
    """
    try:
        if _is(file, ".parquet"):
            with file.open() as stream, pq.ParquetFile(stream) as parquet:
                return list(parquet.schema_arrow.names)
        if _is(file, ".csv", ".tsv"):
            with file.open() as stream, _open_csv(file, stream, None, ()) as reader:
                return list(reader.schema.names)
    except pa.ArrowException as error:
        raise _unreadable(error) from None
    for _, row in _json_rows(file):
        return list(row)
    return []


def read_batches(
    file: File, columns: Sequence[str], *, numbers: Sequence[str], names: str
) -> Iterator[Batch]:
    """Yield a table's rows batch by batch.

    Parameters
    ----------
    file : File
        ``.parquet``, ``.csv``, ``.tsv``, ``.jsonl`` or ``.json``, the texts also gzipped.
    columns : sequence of str
        The columns to read; a column of scores that is none of `numbers` holds lists.
    numbers : sequence of str
        Columns that must hold numbers.
    names : str
        The column that names the questions; empty if there is none.

    Raises
    ------
    UnusableLogError
        If a cell is not what its column must hold; the message names its row.
    """
    lists = columns[0] if not numbers else ""
    n = 0
    for batch in _batches(file, columns, numbers):
        made = Batch(batch.num_rows)
        for name in columns:
            column = batch.column(name)
            if name == lists:
                made.lists = _lists(column, name, n)
            elif name in numbers:
                made.numbers[name] = _numbers(column, name, n)
            elif name == names:
                made.names = _names(column, name, n)
            else:
                made.texts[name] = _texts(column, name)
        n += made.n
        yield made


def _batches(
    file: File, columns: Sequence[str], numbers: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    try:
        with file.open() as stream:
            if _is(file, ".parquet"):
                with pq.ParquetFile(stream) as parquet:
                    yield from parquet.iter_batches(_ROWS, columns=list(columns))
            elif _is(file, ".csv", ".tsv"):
                with _open_csv(file, stream, columns, numbers) as reader:
                    yield from reader
            else:
                yield from _json_batches(file, columns)
    except pa.ArrowException as error:
        raise _unreadable(error) from None


def _is(file: File, *suffixes: str) -> bool:
    return file.name.removesuffix(".gz").endswith(suffixes)


def _unreadable(error: Exception) -> UnusableLogError:
    text = str(error).strip().split("\n")[0].rstrip(".")
    if "straddling" in text:
        text = f"a row of it is longer than {_BLOCK // 2**20} MB"
    return UnusableLogError(f"is no table that can be read ({text[:300]})")


def _open_csv(
    file: File, stream: Any, columns: Sequence[str] | None, numbers: Sequence[str]
) -> pyarrow.csv.CSVStreamingReader:
    types = {name: pa.string() for name in columns or ()}
    types |= {name: pa.float64() for name in numbers}
    return pyarrow.csv.open_csv(
        stream,
        read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter="\t" if _is(file, ".tsv") else ",", newlines_in_values=True
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types, include_columns=list(columns or ()), strings_can_be_null=True
        ),
    )


def _json_rows(file: File) -> Iterator[tuple[str, dict[str, Any]]]:
    with file.open() as stream:
        for record in read_records(stream):
            if record.problem:
                raise UnusableLogError(f"cannot be read at {record.place}: {record.problem}")
            try:
                row = json.loads(record.data)  # knows NaN, too
            except (ValueError, RecursionError):
                raise UnusableLogError(f"is no table: {record.place} is not JSON") from None
            if not isinstance(row, dict):
                raise UnusableLogError(f"is no table: {record.place} is no object")
            yield record.place, row


def _json_batches(file: File, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    rows: list[list[Any]] = []
    for _, row in _json_rows(file):
        rows.append([row.get(name) for name in columns])
        if len(rows) == _ROWS:
            yield _json_batch(rows, columns)
            rows = []
    if rows:
        yield _json_batch(rows, columns)


def _json_batch(rows: list[list[Any]], columns: Sequence[str]) -> pa.RecordBatch:
    """Values as texts, so that no column need be of one type; they are read again as asked."""
    texts = [
        pa.array(
            [v if v is None or isinstance(v, str) else json.dumps(v) for v in column],
            type=pa.string(),
        )
        for column in zip(*rows, strict=True)
    ]
    return pa.RecordBatch.from_arrays(texts, names=list(columns))


def _numbers(column: Any, name: str, before: int) -> Floats:
    """Return a column of numbers; a text that is none is named by its row."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        values = [_number(v, name, before + i + 1) for i, v in enumerate(column.to_pylist())]
        return np.array(values, dtype=np.float64)
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise UnusableLogError(f"holds {column.type} in {name}, expected numbers")
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))


def _number(value: str | None, name: str, row: int) -> float:
    if value is None or not value.strip():
        return math.nan
    try:
        return float(value)
    except ValueError:
        raise UnusableLogError(
            f"holds {value[:40]!r} in {name}, row {row}, expected a number"
        ) from None


def _as_text(column: Any, name: str, kind: Any) -> Any:
    """Return a column as texts, whole numbers without a point."""
    try:
        return column.cast(kind)
    except pa.ArrowException:
        raise UnusableLogError(
            f"holds {column.type} in {name}, expected texts or numbers"
        ) from None


def _texts(column: Any, name: str) -> pd.Categorical:
    """Return a column's texts as codes."""
    encoded = _as_text(column, name, pa.string()).dictionary_encode()
    codes = np.asarray(encoded.indices.fill_null(-1), dtype=np.int32)
    return pd.Categorical.from_codes(codes, encoded.dictionary.to_pylist())


def _names(column: Any, name: str, before: int) -> Any:
    """Return a column of names; a question without one cannot be told from others."""
    if column.null_count:
        row = before + column.is_null().to_pylist().index(True) + 1
        raise UnusableLogError(f"names no question in {name}, row {row}")
    return _as_text(column, name, pa.large_string())


def _lists(column: Any, name: str, before: int) -> tuple[Floats, Ints]:
    """Return a column of lists of numbers, which text formats hold as JSON."""
    values, lengths = array("d"), array("q")
    for i, value in enumerate(column.to_pylist()):
        row = before + i + 1
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                value = None
        if not isinstance(value, list):
            raise UnusableLogError(f"holds no list of numbers in {name}, row {row}")
        values.extend([_item(item, name, row) for item in value])
        lengths.append(len(value))
    return np.frombuffer(values), np.frombuffer(lengths, dtype=np.int64)


def _item(value: Any, name: str, row: int) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UnusableLogError(f"holds {str(value)[:40]!r} in {name}, row {row}, expected numbers")
    return float(value)
