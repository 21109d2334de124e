"""Logs are parsed once, and again when they change."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from calib_harness import Predictions, load_predictions
from calib_harness.predictions import kept
from calib_harness.predictions import log_reader as reader_module
from calib_harness.predictions.table import LogContents
from tests.predictions.entries import ENTRIES, entry, write_run


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the logs that were parsed, in order."""
    paths: list[str] = []
    original = reader_module.read_log

    def spy(log: object) -> LogContents:
        paths.append(Path(log.file.path).name)  # type: ignore[attr-defined]
        return original(log)  # type: ignore[arg-type]

    monkeypatch.setattr(reader_module, "read_log", spy)
    return paths


def load(tmp_path: Path) -> list[Predictions]:
    return load_predictions(tmp_path / "logs", cache=tmp_path / "cache")


def test_second_read_parses_nothing_and_gives_the_same(tmp_path: Path, parsed: list[str]) -> None:
    texts = ["u", "v", "w"]
    entries = [
        entry(0, [-1.0, -2.0, -3.5], 1, texts=texts, tokens=[[-1.0], [-2.0], [-3.5]]),
        entry(1, [-1.0, float("-inf")], None, texts=texts[:2], tokens=[[-1.0], [float("-inf")]]),
    ]
    write_run(tmp_path / "logs", entries)
    first, second = load(tmp_path), load(tmp_path)
    assert len(parsed) == 1
    assert len(first) == 4
    for a, b in zip(first, second, strict=True):
        assert a.header == b.header
        for name in ("scores", "gold", "doc_id", "doc_hash"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_problems_are_reported_on_every_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, parsed: list[str]
) -> None:
    log = write_run(tmp_path / "logs", ENTRIES)
    log.write_text(log.read_text() + "{")
    load(tmp_path)
    caplog.clear()
    load(tmp_path)
    assert len(parsed) == 1
    assert "line 4 was skipped" in caplog.text


def test_changed_log_is_parsed_again(tmp_path: Path, parsed: list[str]) -> None:
    log = write_run(tmp_path / "logs", ENTRIES)
    load(tmp_path)
    changed = log.read_text().replace('"-1.0"', '"-9.0"')
    log.write_text(changed)  # of equal length
    os.utime(log, (1, 1))
    assert load(tmp_path)[0].scores[0, 0] == -9.0
    assert len(parsed) == 2


def test_log_kept_before_a_method_came_is_parsed_again(
    tmp_path: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "logs", ENTRIES)
    load(tmp_path)
    monkeypatch.setattr(kept, "METHODS", {**kept.METHODS, "new": None})
    load(tmp_path)
    assert len(parsed) == 2


def test_changed_results_file_is_seen(tmp_path: Path, parsed: list[str]) -> None:
    log = write_run(tmp_path / "logs", ENTRIES)
    load(tmp_path)
    results = next(log.parent.glob("results_*"))
    results.write_text(results.read_text().replace('"n-shot": {"toy": 0}', '"n-shot": {"toy": 25}'))
    assert load(tmp_path)[0].header.n_shot == 25


def test_broken_cache_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, parsed: list[str]
) -> None:
    write_run(tmp_path / "logs", ENTRIES)
    load(tmp_path)
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert len(load(tmp_path)[0]) == 3
    assert "is broken" in caplog.text
    load(tmp_path)
    assert len(parsed) == 2


def test_unwritable_cache_is_said_once_and_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_run(tmp_path / "logs", ENTRIES, model="org/a")
    write_run(tmp_path / "logs", ENTRIES, model="org/b")
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(load(tmp_path)) == 2
    assert caplog.text.count("read logs cannot be kept in") == 1
    assert "--cache" in caplog.text


def test_logs_of_one_name_do_not_share_a_cache_entry(tmp_path: Path) -> None:
    write_run(tmp_path / "logs", ENTRIES, model="org/a")
    write_run(tmp_path / "logs", ENTRIES[:1], model="org/b")
    load(tmp_path)
    assert sorted(len(run) for run in load(tmp_path)) == [1, 3]


def test_no_file_is_written_beside_the_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALIB_HARNESS_CACHE", str(tmp_path / "elsewhere"))
    log = write_run(tmp_path / "logs", ENTRIES)
    load_predictions(tmp_path / "logs")
    assert len(list(log.parent.iterdir())) == 2
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_no_cache_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HARNESS_CACHE", str(tmp_path / "elsewhere"))
    write_run(tmp_path / "logs", ENTRIES)
    load_predictions(tmp_path / "logs", cache=False)
    assert not (tmp_path / "elsewhere").exists()
