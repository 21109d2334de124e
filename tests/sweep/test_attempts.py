"""What is kept of a damaged cache of scored requests."""

from __future__ import annotations

import contextlib
import random
import sqlite3

import pytest

from calib_harness.sweep.running.attempts import CACHE, cached_requests, mend_cache

ROWS = {f"key{number:05d}" * 4: random.Random(number).randbytes(200) for number in range(500)}


@pytest.fixture
def cache(tmp_path):
    """A cache of 500 requests, as sqlitedict lays it out."""
    path = tmp_path / CACHE
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE unnamed (key TEXT PRIMARY KEY, value BLOB)")
        database.executemany("INSERT INTO unnamed VALUES (?, ?)", ROWS.items())
        database.commit()
    return path


def rows(path) -> dict[str, bytes]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return dict(database.execute("SELECT key, value FROM unnamed"))


def test_whole_cache_is_left_alone(cache, tmp_path):
    before = cache.read_bytes()
    assert mend_cache(tmp_path) is None
    assert cache.read_bytes() == before
    assert mend_cache(tmp_path / "empty") is None


@pytest.mark.parametrize("share", [0.3, 0.5, 0.77, 0.999])
def test_what_is_kept_of_a_cut_cache_is_exactly_what_was_in_it(cache, tmp_path, share):
    data = cache.read_bytes()
    cache.write_bytes(data[: int(share * len(data))])
    kept = mend_cache(tmp_path)
    assert kept is not None
    assert 0.6 * share * len(ROWS) < kept < len(ROWS)
    assert cached_requests(tmp_path) == kept
    assert rows(cache).items() <= ROWS.items()
    assert len(list(tmp_path.glob(f"{CACHE}.damaged-*"))) == 1
    assert mend_cache(tmp_path) is None


@pytest.mark.parametrize("start", [0, 5000])
def test_nothing_is_believed_of_a_cache_that_was_written_over(cache, tmp_path, start):
    data = bytearray(cache.read_bytes())
    data[start : start + 6000] = bytes(range(250)) * 24
    cache.write_bytes(data)
    assert mend_cache(tmp_path) == 0


def test_old_journal_is_not_applied_to_the_new_cache(cache, tmp_path):
    data = cache.read_bytes()
    cache.write_bytes(data[: len(data) // 2])
    cache.with_name(f"{CACHE}-journal").write_bytes(b"half a journal")
    assert mend_cache(tmp_path) > 0
    assert not cache.with_name(f"{CACHE}-journal").exists()
    assert mend_cache(tmp_path) is None
