"""What earlier attempts at a run left behind: their history and the requests they scored."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calib_harness.sweep.storing.layout import CACHE, HISTORY


def append_attempt(folder: Path, record: dict[str, Any]) -> None:
    """Add one line to a run's history, after a line that was cut off, if there is one."""
    path = folder / HISTORY
    torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a", encoding="utf-8") as stream:
        stream.write(("\n" if torn else "") + json.dumps(record, ensure_ascii=False) + "\n")


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """Return a run's history, oldest first; lines that were cut off are left out."""
    try:
        lines = (folder / HISTORY).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                records.append(record)
    return records


def cached_requests(folder: Path) -> int:
    """Return how many requests a run's cache holds; 0 for none, or one that cannot be read."""
    path = folder / CACHE
    if not path.exists():
        return 0
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=5)) as connection:
            return int(connection.execute("SELECT count(*) FROM unnamed").fetchone()[0])
    except sqlite3.Error:
        return 0


def mend_cache(folder: Path) -> int | None:
    """Replace a damaged cache by what of it is certainly good, keeping the damaged file.

    Of a file that was cut off that is everything on whole pages. Of one damaged in another way it
    is nothing: sqlite has no checksums, and a wrong score must never be taken for a right one.

    Returns
    -------
    int or None
        How many requests could be kept; None if there was nothing to mend.
    """
    path = folder / CACHE
    if not path.exists() or _is_whole(path):
        return None
    damaged = path.with_name(f"{CACHE}.damaged-{time.time_ns()}")
    # A journal belongs to the damaged file; sqlite would apply it to the new one.
    for file in (path, *folder.glob(f"{CACHE}-*")):
        file.rename(file.with_name(file.name.replace(CACHE, damaged.name, 1)))
    with contextlib.closing(sqlite3.connect(path)) as cache:
        cache.execute("CREATE TABLE unnamed (key TEXT PRIMARY KEY, value BLOB)")
        kept = _rows_on_whole_pages(damaged)
        cache.executemany("INSERT OR IGNORE INTO unnamed VALUES (?, ?)", kept)
        cache.commit()
    return cached_requests(folder)


def _is_whole(path: Path) -> bool:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as cache:
        # This also rolls back what a killed process had begun to write.
        if cache.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
            page, pages = _header(path)
            return path.stat().st_size == page * pages
    return False


def _header(path: Path) -> tuple[int, int]:
    """Return the page size and the number of pages that a database's header gives.

    See https://www.sqlite.org/fileformat.html, "The Database Header".
    """
    with path.open("rb") as stream:
        header = stream.read(100)
    return int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")


def _rows_on_whole_pages(path: Path) -> Iterator[tuple[str, object]]:
    """Yield the rows of a cache that was cut off, up to the first that is not there."""
    page, pages = _header(path)
    size = path.stat().st_size
    if not page or size >= page * pages:
        return
    whole = path.with_name(f".{path.name}.pages")
    try:
        shutil.copyfile(path, whole)
        # sqlite would take zeros for the missing end of a page.
        os.truncate(whole, size // page * page)
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(whole)) as rows:
            # Otherwise sqlite refuses a file that is shorter than its header says.
            rows.execute("PRAGMA writable_schema=ON")
            yield from rows.execute("SELECT key, value FROM unnamed NOT INDEXED")
    finally:
        whole.unlink(missing_ok=True)
