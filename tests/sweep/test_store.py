"""Outputs behind a URL, through fsspec."""

from __future__ import annotations

import fsspec
import pytest

from calib_harness.errors import UserError
from calib_harness.sweep.storing.shelf import open_store


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


@pytest.mark.parametrize("url", ["nothing-of-this-name://bucket/x", "hf://bucket/x"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_url_that_leads_nowhere_is_told_before_anything_starts(sweep, url, dry_run):
    with pytest.raises(UserError, match=f"output: expected a folder or URL that can be .*'{url}'"):
        sweep.run(output=url, dry_run=dry_run)
    assert not sweep.scored()


def test_url_that_cannot_be_written_is_told_before_anything_starts(sweep, memory, monkeypatch):
    def refuse(self, path, value, **options):
        raise RuntimeError("no such bucket")  # every file system has errors of its own

    monkeypatch.setattr(type(memory), "pipe_file", refuse)
    with pytest.raises(UserError, match=r"can be written, got 'memory:.*no such bucket"):
        sweep.run()
    assert not sweep.scored()


def test_finished_run_that_cannot_be_stored_is_told_with_what_it_cost(sweep, memory, monkeypatch):
    put_file, left = type(memory).put_file, iter(range(3))

    def refuse_at_first(self, *arguments, **options):
        if next(left, None) is not None:
            raise RuntimeError("gone away")
        put_file(self, *arguments, **options)

    monkeypatch.setattr(type(memory), "put_file", refuse_at_first)
    sweep.spec["execution"] |= {"retries": 0}
    status, told = sweep.run()
    assert status == 1
    assert "it ended well but cannot be stored: memory://bucket/sweep/runs: RuntimeError" in told
    assert "0 finished, 3 failed; 3 processes" in told
    assert "180 requests scored" in told
    _, told = sweep.run(dry_run=True)
    assert "3 runs: 3 failed" in told
    status, told = sweep.run()
    assert status == 0
    assert sweep.scored_twice() == 0


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
