"""Whatever is killed, cut off or full: the rest completes, and a second start finishes the job.

Every test ends with the same three questions (`whole_at_last`): are the final tables those of an
undisturbed sweep, is everything finished, and how many requests were scored twice? The stand-in
scores one request at a time and is caught at the worst moment: scored, but not yet in the cache.
The summary of pytest lists what every fault cost.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calib_harness.errors import UserError
from calib_harness.sweep import lock
from calib_harness.sweep.process import OutputLog, Stop, run_process


def child_of(sweep: subprocess.Popen) -> int:
    """Return the process id of the run that a sweep has started."""
    path = Path(f"/proc/{sweep.pid}/task")
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
    whole_at_last("kill -9 of a run in the middle of a task", lost=1)


def test_run_that_is_killed_every_time_fails_and_the_rest_completes(sweep, whole_at_last):
    sweep.order("first", "kill", at=5, times=3)
    status, told = sweep.run()
    assert status == 1
    assert "FAILED first" in told
    assert "2 finished, 1 failed" in told
    assert sweep.finished() == {"second", "third"}
    assert len((sweep.unfinished("first") / "attempts.jsonl").read_text().splitlines()) == 3
    whole_at_last("kill -9 of a run, three times", lost=3)


def test_killed_sweep_takes_its_run_along_and_goes_on_later(sweep, whole_at_last):
    sweep.order("first", "stall", at=5)
    process = sweep.start()
    sweep.wait_until_in_flight(6)
    run = child_of(process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    sweep.wait_for(lambda: not is_alive(run))
    assert not sweep.finished()
    whole_at_last("kill -9 of the sweep", lost=1)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_interrupted_sweep_ends_its_runs_and_can_be_resumed(sweep, whole_at_last, number):
    sweep.order("first", "stall", at=5)
    process = sweep.start()
    sweep.wait_until_in_flight(6)
    run = child_of(process)
    os.kill(process.pid, number)
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 130, told
    assert "start the same command to go on" in told
    assert not is_alive(run)
    whole_at_last(f"{signal.Signals(number).name} to the sweep", lost=1)


def test_ctrl_c_in_a_terminal_ends_the_run_and_leaves_what_can_be_resumed(sweep, whole_at_last):
    sweep.order("first", "stall", at=5)
    terminal = sweep.start_in_terminal()
    sweep.wait_until_in_flight(6)
    run = child_of(terminal.process)
    terminal.press_ctrl_c()
    told = terminal.end()
    assert terminal.process.returncode == 130, told
    assert "interrupted (SIGINT): ending the runs" in told
    assert "Traceback" not in told
    assert not is_alive(run)
    whole_at_last("Ctrl-C", lost=1)


def test_second_ctrl_c_kills_a_run_that_does_not_end_by_itself(sweep, whole_at_last):
    sweep.order("first", "stubborn", at=5)
    terminal = sweep.start_in_terminal()
    sweep.wait_until_in_flight(6)
    run = child_of(terminal.process)
    terminal.press_ctrl_c()
    terminal.wait_for("interrupted (SIGINT): ending the runs")
    assert is_alive(run)
    terminal.press_ctrl_c()
    told = terminal.end()
    assert terminal.process.returncode == 130, told
    assert "interrupted again: killing the runs" in told
    assert "Traceback" not in told
    assert not is_alive(run)
    whole_at_last("Ctrl-C twice", lost=1)


def test_process_that_does_not_end_when_asked_is_killed_at_once_when_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr("calib_harness.sweep.process._GRACE", 3600.0)
    stop = Stop()
    # Not print: it may not be entered again by the handler that interrupts it.
    stubborn = "import os, signal, time; signal.signal(15, lambda *_: os.write(1, b'asked\\n'))\n"
    read, write = os.pipe()
    ended = run_process(
        [sys.executable, "-c", stubborn + "os.write(1, b'ready\\n'); time.sleep(3600)"],
        log=OutputLog(tmp_path / "log", str, lambda line: stop.ask(at_once=line == "asked")),
        environment=os.environ,
        working_dir=tmp_path,
        keep_open=write,
        time_limit=None,
        stop=stop,
        on_tick=lambda: None,
    )
    os.close(read)
    os.close(write)
    assert (ended.status, ended.cause) == (-signal.SIGKILL, "stopped")


def test_closed_terminal_ends_the_run_and_leaves_what_can_be_resumed(sweep, whole_at_last):
    sweep.order("first", "stall", at=5)
    terminal = sweep.start_in_terminal()
    sweep.wait_until_in_flight(6)
    run = child_of(terminal.process)
    terminal.hang_up()
    terminal.process.wait(timeout=60)
    assert not is_alive(run)
    whole_at_last("the terminal is closed (SIGHUP)", lost=1)


def test_two_sweeps_on_one_folder_share_the_work(sweep, whole_at_last):
    sweep.order("first", "stall", at=5)
    one = sweep.start()
    sweep.wait_until_in_flight(6)
    other = sweep.start()
    told = ""
    while "wait    first" not in told:
        line = other.stdout.readline()
        assert line, told
        told += line
    assert f"carried out by process {one.pid} on " in told
    sweep.go()
    told += "".join(process.communicate(timeout=60)[0] for process in (one, other))
    assert [one.returncode, other.returncode] == [0, 0], told
    whole_at_last("two sweeps at once", lost=0)


def test_run_beyond_its_time_limit_is_ended(sweep, whole_at_last):
    sweep.spec["models"][1]["time_limit"] = 2.5
    sweep.order("second", "hang", at=30)
    status, told = sweep.run()
    assert status == 1
    assert "ran beyond its time limit of 2.5 s" in told
    assert sweep.finished() == {"first", "third"}
    del sweep.spec["models"][1]["time_limit"]
    whole_at_last("a run hangs beyond its time limit", lost=1)


ABSENT = "absent is not a local folder and is not a valid model identifier"


def test_model_that_does_not_exist_fails_at_once_and_alone(sweep, whole_at_last):
    sweep.order("second", "refuse", text=ABSENT, times=2)
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
    whole_at_last("a model does not exist", lost=0)


def test_model_that_gives_nan_is_finished_and_its_numbers_are_missing(sweep, whole_at_last):
    sweep.spec["models"][2]["id"] = "nan-model"
    status, told = sweep.run()
    assert status == 0
    assert "3 finished, 0 failed" in told
    rows = csv.DictReader(sweep.tables()["metrics.csv"].splitlines())
    row = next(row for row in rows if row["model"] == "nan-model")
    assert row["n_unusable"] == "20"
    assert row["ece"] == ""
    whole_at_last("a model produces NaN", lost=0)


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
    whole_at_last("a run ends well without results", lost=0)


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
