"""What earlier attempts at a run left behind: their history and the requests they scored."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

HISTORY = "attempts.jsonl"
# lm-eval appends the rank of its process; a run is one process.
CACHE = "cache_rank0.db"


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


def set_aside_cache(folder: Path) -> None:
    """Rename a damaged cache, so that the next attempt starts a new one."""
    stamp = int(time.time())
    for path in folder.glob(f"{CACHE}*"):
        if ".damaged-" not in path.name:
            path.rename(path.with_name(f"{path.name}.damaged-{stamp}"))
