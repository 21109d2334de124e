"""Files made to exhaust memory: each is refused in one sentence, before it is read whole."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from calib_harness import UserError, load_predictions
from calib_harness.predictions import files, records
from calib_harness.predictions.foreign import inspect_logs

MB = 2**20
INSPECT = "2025-01-01T00-00-00_toy_x"


def gzipped(path: Path, *parts: tuple[bytes, int]) -> None:
    """Write a few kilobytes that unpack to each part as many times as it says."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        for part, times in parts:
            for _ in range(times):
                file.write(part)


def sparse(path: Path, start: bytes = b"") -> None:
    """Write a file of 10 GB that takes no room on the disk."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(10 * 2**30)


def line_bomb(path: Path) -> None:
    gzipped(path, (b'{"doc_id": "', 1), (b" " * MB, 12))


def array_bomb(path: Path) -> None:
    gzipped(path, (b"[", 1), (b" " * MB, 12))


def unclosed_quote(path: Path) -> None:
    path.write_bytes(b'p0,p1,gold\n"0.5,0.5,0\n' + b"0.5,0.5,0\n" * (2 * MB))


def csv_bomb(path: Path) -> None:
    gzipped(path, (b"p0,p1,gold\n0.5,", 1), (b"1" * MB, 12))


def zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"eval": {"model": "m", "task": "t"}}))
        archive.writestr("samples/1.json", b" " * (12 * MB))


def wide_list(path: Path) -> None:
    path.write_text(json.dumps({"probs": [0.0] * 100_000, "gold": 0}))


HOSTILE: Iterable[tuple[str, Callable[[Path], None], str]] = [
    ("log.jsonl.gz", line_bomb, r"line 1 was skipped: it is longer than \d+ MB"),
    ("samples_x.jsonl.gz", line_bomb, r"line 1 was skipped: it is longer than \d+ MB"),
    ("samples_x.json.gz", array_bomb, r"the array is longer than \d+ MB; give it as JSON lines"),
    ("quote.csv", unclosed_quote, "no table that can be read"),
    ("bomb.csv.gz", csv_bomb, "no table that can be read"),
    (f"{INSPECT}.eval", zip_bomb, "samples/1.json, which unpacks to 12582912 bytes"),
    ("wide.jsonl", wide_list, "a question with 100000 choices, expected at most 10000"),
    ("t.csv", sparse, "no table that can be read"),
    ("t.jsonl", sparse, r"line 1 was skipped: it is longer than \d+ MB"),
    ("t.parquet", sparse, "no table that can be read"),
    (f"{INSPECT}.json", sparse, "longer than 8 MB"),
    (f"{INSPECT}.eval", sparse, "longer than 8 MB"),
    ("scenario_state.json", sparse, "longer than 8 MB"),
    ("details_x|0_2025-01-01.parquet", sparse, "cannot be read"),
    ("task-1-x-predictions.jsonl", sparse, r"longer than \d+ MB"),
]


@pytest.mark.parametrize(("name", "write", "message"), HOSTILE)
def test_a_hostile_file_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    write: Callable[[Path], None],
    message: str,
) -> None:
    # A gigabyte of zeros takes seconds to write and to read.
    monkeypatch.setattr(files, "_MOST_BYTES", 8 * MB)
    monkeypatch.setattr(inspect_logs, "_MOST_BYTES", 8 * MB)
    monkeypatch.setattr(records, "_LARGEST", 8 * MB)
    monkeypatch.setattr(records, "_LONGEST", 8 * MB)
    write(tmp_path / name)
    with pytest.raises(UserError, match=message) as error:
        load_predictions(tmp_path / name, cache=False)
    assert "\n" not in str(error.value)


def test_a_results_file_of_ten_gigabytes_is_named_and_its_log_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "_MOST_BYTES", 8 * MB)
    rows = [{"p0": 0.5, "p1": 0.5, "gold": 0}] * 3
    (tmp_path / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sparse(tmp_path / "results.json", b"{")
    (run,) = load_predictions(tmp_path / "table.jsonl", cache=False)
    assert len(run) == 3
    assert "results.json was skipped: it is longer than 8 MB" in caplog.text
