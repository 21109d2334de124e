"""Read logs are kept as Parquet, so that a large sweep is parsed once."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calib_harness.core.confidence import METHODS
from calib_harness.predictions.files import short_hash
from calib_harness.predictions.headers import Log
from calib_harness.predictions.table import Header, LogContents, Predictions

logger = logging.getLogger(__name__)

#: Raised whenever reading a log gives something else than before, a method's formula included.
READER_VERSION = 7
_KEY = b"calib_harness"
_OPTIONAL = ("prompt", "truncated")  # columns that some logs lack
#: Names the folder of kept logs, instead of the user's cache folder.
CACHE_VARIABLE = "CALIB_HARNESS_CACHE"


def default_cache() -> Path:
    """Folder of kept logs: ``$CALIB_HARNESS_CACHE``, else one in the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "calib-harness"


class Store:
    """A folder with one Parquet file per log.

    A file is used only if it was made from this very version of the log and of its results
    file, by this version of the reader with the same methods.

    Parameters
    ----------
    folder : Path or None
        None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, log: Log, read: Callable[[Log], LogContents]) -> LogContents:
        """Return what `log` holds: kept from earlier, or by `read` and then kept."""
        if self.folder is None or log.file.version is None:
            return read(log)
        path = self.folder / f"{log.file.stem[:80]}-{short_hash(log.file.url)}.parquet"
        key = _fingerprint(log)
        kept = _load(path, key)
        if kept is None:
            kept = read(log)
            self._save(path, key, kept)
        return kept

    def _save(self, path: Path, key: str, contents: LogContents) -> None:
        if not contents.predictions:
            return
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(_to_table(contents, key), temporary, compression="zstd")
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            logger.warning(
                "read logs cannot be kept in %s (%s), so the next read parses them again; "
                "name another folder with --cache or $%s",
                self.folder,
                error.strerror or error,
                CACHE_VARIABLE,
            )
            self.folder = None  # said once


def _fingerprint(log: Log) -> str:
    # Scores of the methods are kept, so that one which is new is not among them.
    reader = f"reader {READER_VERSION}, {' '.join(METHODS)}"
    return f"{reader} | {log.file.version} | {log.results_version}"


def _to_table(contents: LogContents, key: str) -> pa.Table:
    first = contents.predictions[0]
    columns: dict[str, Any] = {
        "doc_id": first.doc_id,
        "gold": first.gold,
        "doc_hash": pa.array(first.doc_hash, type=pa.string()),
    }
    for name in _OPTIONAL:
        values = getattr(first, name)
        if values is not None:
            columns[name] = values
    for predictions in contents.predictions:
        scores = predictions.scores
        columns[predictions.header.method] = pa.FixedSizeListArray.from_arrays(
            pa.array(np.ascontiguousarray(scores).ravel()), scores.shape[1]
        )
    meta = {
        "key": key,
        "header": asdict(contents.header),
        "methods": [predictions.header.method for predictions in contents.predictions],
        "missing": contents.missing,
        "problems": contents.problems,
    }
    return pa.table(columns).replace_schema_metadata({_KEY: json.dumps(meta).encode()})


def _load(path: Path, key: str) -> LogContents | None:
    """Return a kept log, or None if there is none, or one of another version or broken."""
    if not path.exists():
        return None
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            meta = json.loads((file.schema_arrow.metadata or {}).get(_KEY, b"{}"))
            if meta.get("key") != key:
                return None
            table = file.read(use_threads=False)
    except (OSError, pa.ArrowException, ValueError) as error:
        logger.warning("%s is broken (%s) and is made anew", path, error)
        return None
    header = Header(**meta["header"])
    gold, doc_id = (table[name].to_numpy() for name in ("gold", "doc_id"))
    doc_hash = table["doc_hash"].to_numpy()
    optional = {name: table[name].to_numpy() for name in _OPTIONAL if name in table.column_names}
    predictions = tuple(
        Predictions(
            replace(header, method=method),
            _matrix(table[method]),
            gold,
            doc_id,
            doc_hash,
            **optional,
        )
        for method in meta["methods"]
    )
    return LogContents(header, predictions, meta["missing"], tuple(meta["problems"]))


def _matrix(column: pa.ChunkedArray) -> Any:
    width = column.type.list_size
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
