"""Files cut in half, full disks, read-only folders, torn locks: nothing that is good is lost.

As in test_faults, the final tables must be those of an undisturbed sweep (`whole_at_last`).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from calib_harness.errors import UserError
from calib_harness.sweep.running import lock

CUTS = ("results/*/results_*.json", "results/*/samples_*.jsonl", "manifest.json")


@pytest.mark.parametrize("pattern", CUTS)
def test_finished_run_with_a_file_cut_in_half_is_completed_from_its_cache(
    sweep, whole_at_last, pattern
):
    sweep.run()
    [path] = (sweep.output / "runs").glob(f"second-*/{pattern}")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    _, told = sweep.run(dry_run=True)
    assert "damaged" in told
    assert path.name in told
    whole_at_last(f"a finished run's file is cut in half: {pattern.rpartition('/')[2]}", lost=0)


STATE = ("attempts.jsonl", "progress.json", "run.json")


@pytest.mark.slow
@pytest.mark.parametrize("name", STATE)
def test_state_file_of_an_interrupted_run_cut_in_half_does_no_harm(sweep, whole_at_last, name):
    sweep.spec["execution"] = {"retries": 0}
    sweep.order("first", "kill", at=15)
    sweep.run()
    path = sweep.unfinished("first") / name
    if name == "progress.json":
        path.write_text(json.dumps({"phase": "scoring"}) * 3)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    whole_at_last(f"a run is killed and its {name} cut in half", lost=1)


def test_torn_lock_file_does_no_harm(sweep, whole_at_last):
    sweep.spec["execution"] = {"retries": 0}
    sweep.order("first", "kill", at=15)
    sweep.run()
    [path] = (sweep.output / "locks").glob("first-*.lock")
    path.write_text('{"host": "elsew')
    whole_at_last("a run is killed and its lock file torn", lost=1)


def cut_in_half(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[: cache.stat().st_size // 2])


def overwrite(cache: Path) -> None:
    data = bytearray(cache.read_bytes())
    data[5000:9000] = b"not what sqlite wrote " * 200
    cache.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_in_half, overwrite])
def test_what_is_good_of_a_damaged_cache_is_not_scored_again(
    sweep, undisturbed, note_fault, damage
):
    sweep.order("first", "kill", at=100)
    sweep.spec |= {"tasks": ["fake_mc", "fake_more"], "execution": {"retries": 0}}
    task = sweep.root / "tasks" / "fake_mc.yaml"
    task.with_name("fake_more.yaml").write_text(task.read_text().replace("fake_mc", "fake_more"))
    sweep.run()
    cache = sweep.unfinished("first") / "cache_rank0.db"
    damage(cache)
    status, told = sweep.run()
    assert status == 0, told
    [folder] = (sweep.output / "runs").glob("first-*")
    assert list(folder.glob("cache_rank0.db.damaged-*"))
    log = (folder / "output.log").read_text()
    kept = int(log.split("the cache was damaged: ")[1].split()[0])
    assert kept > 0 if damage is cut_in_half else kept == 0
    done = "cut in half" if damage is cut_in_half else "written over"
    note_fault(f"a run is killed and its cache {done}", sweep.scored())
    assert sweep.scored_twice() == 101 - kept  # one was in flight
    assert sweep.tables() == undisturbed()


@pytest.fixture
def small_disk(sweep):
    """Put the output on a disk of 512 KiB."""
    sweep.output.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(sweep.output)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield sweep.output
    subprocess.run(["umount", "-l", str(sweep.output)], check=True)


def fill(folder: Path, *, leave: int) -> Path:
    """Fill a disk up to `leave` bytes; return the file that does it."""
    free = os.statvfs(folder)
    path = folder / "ballast"
    path.write_bytes(bytes(free.f_bavail * free.f_frsize - leave))
    return path


@pytest.mark.parametrize("leave", [16, 64])
def test_full_disk_is_told_and_gets_finished_once_there_is_room(
    sweep, small_disk, whole_at_last, leave
):
    ballast = fill(small_disk, leave=leave * 1024)
    status, told = sweep.run()
    assert status == 1
    assert "the disk is full" in told
    assert "Traceback" not in told.split("FAILED")[0]
    ballast.unlink()
    whole_at_last(f"the disk is full, {leave} KiB left at the start", lost=0)


def test_disk_that_gets_full_while_scoring_loses_what_was_in_flight(
    sweep, small_disk, whole_at_last
):
    sweep.order("first", "stall", at=5)
    process = sweep.start()
    sweep.wait_until_in_flight(6)
    ballast = fill(small_disk, leave=0)
    sweep.go()
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 1, told
    assert "the disk is full" in told
    assert "sweep/execute.py" not in told
    ballast.unlink()
    whole_at_last("the disk gets full while scoring", lost=3)  # one in each of three attempts


def test_tables_that_cannot_be_written_are_told_and_made_by_the_next_start(sweep, whole_at_last):
    sweep.output.mkdir()
    (sweep.output / "tables").touch()
    status, told = sweep.run()
    assert status == 1
    assert "3 finished, 0 failed" in told
    assert "FAILED to write the tables" in told
    (sweep.output / "tables").unlink()
    whole_at_last("tables cannot be written", lost=0)


def test_output_on_a_disk_already_full_is_told_before_anything_starts(sweep, small_disk):
    fill(small_disk, leave=0)
    with pytest.raises(UserError, match="is full; make room"):
        sweep.run()
    assert not sweep.scored()


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("place", ["out", "out/runs"])
def test_file_in_the_place_of_the_output_is_told(sweep, place, dry_run):
    path = sweep.root / place
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(UserError, match="output: expected a folder or URL that can be read"):
        sweep.run(dry_run=dry_run)


@pytest.fixture
def read_only(sweep):
    """Return a function that makes the output read-only (also for root) or writable again.

    A read-only view is laid over the folder: files that are open stay open.
    """
    sweep.output.mkdir()
    output = str(sweep.output)
    if os.geteuid() != 0:
        pytest.skip("mounting a folder read-only needs root")
    laid = []

    def change(on: bool) -> None:
        if on:
            bind = ["mount", "--bind", output, output]
            if subprocess.run(bind, capture_output=True, check=False).returncode:
                pytest.skip("this system lets nobody mount")
            laid.append(output)
            subprocess.run(["mount", "-o", "remount,bind,ro", output], check=True)
        else:
            subprocess.run(["umount", "-l", laid.pop()], check=True)

    yield change
    while laid:
        change(False)


def test_read_only_output_is_told_before_anything_starts(sweep, read_only, whole_at_last):
    read_only(True)
    with pytest.raises(UserError, match="expected a folder or URL that can be written"):
        sweep.run()
    assert not sweep.scored()
    read_only(False)
    whole_at_last("the output is read-only", lost=0)


def test_output_that_becomes_read_only_fails_runs_without_a_traceback_of_ours(
    sweep, read_only, whole_at_last
):
    sweep.order("first", "stall", at=5)
    process = sweep.start()
    sweep.wait_until_in_flight(6)
    read_only(True)
    sweep.go()
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 1, told
    assert told.count("cannot be written") == 6  # as it happens, and in the summary
    assert "sweep/execute.py" not in told
    read_only(False)
    whole_at_last("the output becomes read-only", lost=1)


def test_lock_held_on_another_machine_is_respected_until_it_is_stale(tmp_path, monkeypatch):
    path = tmp_path / "run.lock"
    path.write_text(json.dumps({"host": "another-machine", "pid": 1}))
    with pytest.raises(lock.HeldError, match="process 1 on another-machine"), lock.RunLock(path):
        pass
    assert lock.is_held(path)
    old = time.time() - lock.STALE - 1
    os.utime(path, (old, old))
    assert not lock.is_held(path)
    with lock.RunLock(path) as held:
        assert lock.is_held(path)
        held.renew()
    assert not lock.is_held(path)


def test_lock_of_a_process_whose_number_another_one_has_now_is_not_held(tmp_path):
    path = tmp_path / "run.lock"
    with lock.RunLock(path):
        who = json.loads(path.read_text())
        assert lock.is_held(path)
        # What a machine that was cut off leaves behind: the same number, another process.
        path.write_text(json.dumps(who | {"began": "1"}))
        assert not lock.is_held(path)


def test_lock_outlives_its_holder_in_a_process_that_inherited_it(tmp_path):
    path = tmp_path / "run.lock"
    with lock.RunLock(path) as held:
        sleeper = subprocess.Popen(["sleep", "60"], pass_fds=(held.descriptor,))
    try:
        with pytest.raises(lock.HeldError), lock.RunLock(path):
            pass
    finally:
        sleeper.kill()
        sleeper.wait()
    with lock.RunLock(path):
        pass
