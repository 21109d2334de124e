"""Outputs behind a URL, through fsspec."""

from __future__ import annotations

import fsspec
import pytest

from calib_harness.sweep.store import open_store


@pytest.fixture
def memory(sweep, monkeypatch):
    """Put the output behind a URL, with a scratch folder for unfinished runs."""
    fs = fsspec.filesystem("memory")
    sweep.spec["output"] = "memory://bucket/sweep"
    sweep.spec["execution"] = {"backoff": 0.05, "scratch": str(sweep.root / "scratch")}
    yield fs
    fs.rm("/bucket", recursive=True)


def test_output_may_be_a_url(sweep, memory, undisturbed):
    status, told = sweep.run()
    assert status == 0
    assert "tables of 3 of 3 runs in memory://bucket/sweep/tables" in told
    assert len(memory.ls("/bucket/sweep/runs")) == 3
    before = sweep.scored()
    status, told = sweep.run()
    assert "3 runs: 3 finished" in told
    assert sweep.scored() == before
    tables = memory.glob("/bucket/sweep/tables/*.csv")
    assert {path.rpartition("/")[2]: memory.cat_file(path).decode() for path in tables} == (
        undisturbed()
    )


def test_output_may_be_the_url_of_a_folder(sweep, undisturbed):
    url = f"file://{sweep.output}"
    sweep.spec |= {"output": url, "execution": {"scratch": str(sweep.root / "scratch")}}
    status, told = sweep.run()
    assert status == 0
    assert f"tables of 3 of 3 runs in {url}/tables" in told
    assert sweep.tables() == undisturbed()
    assert "3 runs: 3 finished" in sweep.run()[1]


def test_transfer_that_was_cut_off_is_completed_without_scoring_again(sweep, memory):
    sweep.run()
    [manifest] = memory.glob("/bucket/sweep/runs/second-*/manifest.json")
    memory.rm_file(manifest)
    _, told = sweep.run(dry_run=True)
    assert "its transfer was cut off" in told
    status, _ = sweep.run()
    assert status == 0
    assert memory.exists(manifest)
    assert sweep.scored_twice() == 0


def test_absent_run_is_told_from_a_damaged_one(memory, sweep):
    store = open_store("memory://bucket/sweep")
    assert store.damage("nothing") == ""
    memory.pipe("/bucket/sweep/runs/half/manifest.json", b"{")
    assert store.damage("half") == "its manifest.json is damaged"
