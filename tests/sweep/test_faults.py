"""Whatever is killed or fails: the rest completes, and a second start finishes the job.

Every test ends with the same three questions (`whole_at_last`): are the final tables those of an
undisturbed sweep, is everything finished, and how many requests were scored twice? The stand-in
scores one request at a time and is caught at the worst moment: scored, but not yet in the cache.
The summary of pytest lists what every fault cost.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from calib_harness.sweep.running.process import OutputLog, Stop, run_process


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
    monkeypatch.setattr("calib_harness.sweep.running.process._GRACE", 3600.0)
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
