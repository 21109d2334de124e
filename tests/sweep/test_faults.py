"""Whatever is killed, cut off or full: the rest completes, and a second start finishes the job.

Every test ends with the same three questions: are the final tables those of an undisturbed sweep,
is everything finished, and how many requests were scored twice?
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from calib_harness.errors import UserError
from calib_harness.sweep import lock

# The stand-in scores one request at a time, so at most the one in flight can be lost at a kill.
MOST_SCORED_TWICE = 1


@pytest.fixture
def whole_at_last(sweep, undisturbed, record_property):
    """Return a function that starts the sweep again and checks what came of it."""

    def check() -> None:
        status, told = sweep.run()
        assert status == 0, told
        tables = sweep.tables()
        assert tables == undisturbed()
        assert {"metrics.csv", "changes.csv"} <= tables.keys()
        twice = sweep.scored_twice()
        print(f"requests scored: {sum(sweep.scored().values())}, of them twice: {twice}")
        assert twice <= MOST_SCORED_TWICE
        assert not list((sweep.output / "unfinished").iterdir())

    return check


def wait_for(condition, seconds: float = 20.0):
    """Wait until `condition` holds and return its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("what the test waits for did not happen")


def child_of(process: subprocess.Popen) -> int:
    """Return the process id of the run that a sweep has started."""
    path = Path(f"/proc/{process.pid}/task")
    children = [(task / "children").read_text().split() for task in path.iterdir()]
    found = [int(pid) for part in children for pid in part]
    return found[0] if found else 0


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_killed_run_is_tried_again_where_it_was(sweep, whole_at_last):
    sweep.order("second", "kill", at=25)
    status, told = sweep.run()
    assert status == 0
    assert "retry   second" in told
    assert "killed (SIGKILL" in told
    assert "25 taken from earlier attempts" in told
    whole_at_last()


def test_run_that_is_killed_every_time_fails_and_the_rest_completes(sweep, whole_at_last):
    sweep.order("first", "kill", at=5, times=3)
    status, told = sweep.run()
    assert status == 1
    assert "FAILED first" in told
    assert "2 finished, 1 failed" in told
    assert sweep.finished() == {"second", "third"}
    assert len((sweep.unfinished("first") / "attempts.jsonl").read_text().splitlines()) == 3
    whole_at_last()


def test_killed_sweep_takes_its_run_along_and_goes_on_later(sweep, whole_at_last):
    sweep.order("first", "slow", at=0)
    process = sweep.start()
    run = wait_for(lambda: len(sweep.scored()) > 5 and child_of(process))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not is_alive(run), seconds=5)
    assert not sweep.finished()
    whole_at_last()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_interrupted_sweep_ends_its_runs_and_can_be_resumed(sweep, whole_at_last, number):
    sweep.order("first", "slow", at=0)
    process = sweep.start()
    run = wait_for(lambda: len(sweep.scored()) > 5 and child_of(process))
    os.kill(process.pid, number)
    told = process.communicate(timeout=20)[0]
    assert process.returncode == 130, told
    assert "start the same command to go on" in told
    assert not is_alive(run)
    whole_at_last()


def test_ctrl_c_in_a_terminal_ends_the_run_and_leaves_what_can_be_resumed(sweep, whole_at_last):
    sweep.order("first", "slow", at=0)
    terminal = sweep.start_in_terminal()
    run = wait_for(lambda: len(sweep.scored()) > 5 and child_of(terminal.process))
    terminal.press_ctrl_c()
    told = terminal.end(timeout=20)
    assert terminal.process.returncode == 130, told
    assert "interrupted: ending the runs" in told
    assert "Traceback" not in told
    assert not is_alive(run)
    whole_at_last()


def test_two_sweeps_on_one_folder_share_the_work(sweep, whole_at_last):
    sweep.order("first", "slow", at=0)
    one, other = sweep.start(), sweep.start()
    told = [process.communicate(timeout=60)[0] for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], told
    assert "carried out by process" in "".join(told)
    assert sweep.scored_twice() == 0
    whole_at_last()


def test_run_beyond_its_time_limit_is_ended(sweep, whole_at_last):
    sweep.spec["defaults"] = {"time_limit": 1.5}
    sweep.order("second", "hang", at=30)
    status, told = sweep.run()
    assert status == 1
    assert "ran beyond its time limit of 1.5 s" in told
    assert sweep.finished() == {"first", "third"}
    whole_at_last()


ABSENT = "absent is not a local folder and is not a valid model identifier"


def test_model_that_does_not_exist_fails_at_once_and_alone(sweep, whole_at_last):
    sweep.order("second", "raise", at=0, text=ABSENT, times=2)
    status, told = sweep.run()
    assert status == 1
    assert "FAILED second" in told
    assert "the model or its revision does not exist" in told
    assert ABSENT in told
    assert "retry" not in told
    assert sweep.finished() == {"first", "third"}
    status, told = sweep.run()
    assert status == 1
    assert "3 runs: 2 finished, 1 failed" in told
    whole_at_last()


def test_model_that_gives_nan_is_finished_and_its_numbers_are_missing(sweep, whole_at_last):
    sweep.spec["models"][2]["id"] = "nan-model"
    status, told = sweep.run()
    assert status == 0
    assert "3 finished, 0 failed" in told
    rows = csv.DictReader(sweep.tables()["metrics.csv"].splitlines())
    row = next(row for row in rows if row["model"] == "nan-model")
    assert row["n_unusable"] == "20"
    assert row["ece"] == ""
    whole_at_last()


def test_transient_failures_are_told_from_permanent_ones(sweep):
    sweep.order("first", "raise", text="Connection reset by peer")
    sweep.order("second", "raise", text="some mistake in the model's code")
    status, told = sweep.run()
    assert status == 1
    assert "retry   first" in told
    assert "a network error" in told
    assert "retry   second" not in told
    assert "FAILED second" in told
    assert "some mistake in the model's code" in told


def test_run_that_ends_well_but_writes_nothing_is_not_believed(sweep, whole_at_last):
    sweep.order("third", "lose", at=0)
    status, told = sweep.run()
    assert status == 1
    assert "ended without an error but wrote no results" in told
    whole_at_last()


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
    whole_at_last()
    assert sweep.scored_twice() == 0


STATE = ("attempts.jsonl", "progress.json", "run.json")


@pytest.mark.slow
@pytest.mark.parametrize("name", STATE)
def test_state_file_of_an_interrupted_run_cut_in_half_does_no_harm(sweep, whole_at_last, name):
    sweep.order("first", "kill", at=15, times=3)
    sweep.run()
    path = sweep.unfinished("first") / name
    if name == "progress.json":
        path.write_text(json.dumps({"phase": "scoring"}) * 3)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    whole_at_last()


def test_torn_lock_file_does_no_harm(sweep, whole_at_last):
    sweep.order("first", "kill", at=15, times=3)
    sweep.run()
    [path] = (sweep.output / "locks").glob("first-*.lock")
    path.write_text('{"host": "elsew')
    whole_at_last()


def cut_in_half(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[: cache.stat().st_size // 2])


def overwrite(cache: Path) -> None:
    data = bytearray(cache.read_bytes())
    data[5000:9000] = b"not what sqlite wrote " * 200
    cache.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_in_half, overwrite])
def test_what_is_good_of_a_damaged_cache_is_not_scored_again(sweep, undisturbed, damage):
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
    print(f"of 100 requests {kept} could be kept, {sweep.scored_twice()} were scored twice")
    assert sweep.scored_twice() == 100 - kept
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


@pytest.mark.parametrize("leave", [16384, pytest.param(65536, marks=pytest.mark.slow)])
def test_full_disk_is_told_and_gets_finished_once_there_is_room(
    sweep, small_disk, whole_at_last, leave
):
    ballast = fill(small_disk, leave=leave)
    status, told = sweep.run()
    assert status == 1
    assert "the disk is full" in told
    assert "Traceback" not in told.split("FAILED")[0]
    ballast.unlink()
    whole_at_last()


def test_tables_that_cannot_be_written_are_told_and_made_by_the_next_start(sweep, whole_at_last):
    sweep.output.mkdir()
    (sweep.output / "tables").touch()
    status, told = sweep.run()
    assert status == 1
    assert "3 finished, 0 failed" in told
    assert "FAILED to write the tables" in told
    (sweep.output / "tables").unlink()
    whole_at_last()


def test_output_on_a_disk_already_full_is_told_before_anything_starts(sweep, small_disk):
    fill(small_disk, leave=0)
    with pytest.raises(UserError, match="is full; make room"):
        sweep.run()
    assert not sweep.scored()


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
    with pytest.raises(UserError, match="expected a folder that can be written"):
        sweep.run()
    assert not sweep.scored()
    read_only(False)
    whole_at_last()


def test_output_that_becomes_read_only_fails_runs_without_a_traceback_of_ours(
    sweep, read_only, whole_at_last
):
    sweep.order("first", "slow", at=0)
    process = sweep.start()
    wait_for(lambda: len(sweep.scored()) > 5)
    read_only(True)
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 1, told
    assert told.count("cannot be written") == 6  # as it happens, and in the summary
    assert "sweep/execute.py" not in told
    read_only(False)
    whole_at_last()


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
