"""Work shared among processes."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time

import pytest

from calib_harness.errors import UserError
from calib_harness.page.parallel import in_order

STOPPABLE = """
import sys, time
from calib_harness.page.parallel import in_order
from tests.page.test_parallel import named_nap
if __name__ == "__main__":
    try:
        for pid in in_order(named_nap, [0.5, 0.5, *[60.0] * 4], 2):
            print(pid, flush=True)
    except KeyboardInterrupt:
        sys.exit(3)
"""


def named_nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def survive_interrupt(item: int) -> bool:
    os.kill(os.getpid(), signal.SIGINT)
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def refuse(number: int) -> int:
    if number == 5:
        raise UserError("--five is not allowed: leave it out.")
    return number


def die(number: int) -> None:
    os._exit(1)


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(n_jobs: int) -> None:
    items = list(range(101))
    assert list(in_order(math.sqrt, items, n_jobs)) == [math.sqrt(item) for item in items]


def test_one_job_stays_in_this_process_and_more_leave_it() -> None:
    assert set(in_order(named_nap, [0.0] * 3, 1)) == {os.getpid()}
    assert os.getpid() not in set(in_order(named_nap, [0.0] * 3, 2))


def test_an_error_of_the_user_arrives_as_it_was_raised() -> None:
    with pytest.raises(UserError, match=r"^--five is not allowed: leave it out\.$"):
        list(in_order(refuse, range(100), 2))


def test_a_process_that_dies_is_an_error_that_says_so() -> None:
    with pytest.raises(UserError, match=r"ended without a result .* --jobs 1"):
        list(in_order(die, range(10), 2))


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_processes_are_deaf_to_ctrl_c_from_before_their_first_line() -> None:
    # Only a mask that came with the start is older than the imports.
    assert list(in_order(survive_interrupt, range(4), 2)) == [True] * 4


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def ends(pids: set[int]) -> bool:
    for _ in range(200):
        if not any(map(is_running, pids)):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def napping(tmp_path):
    """A program whose two processes are at work; it, and their ids."""
    script = tmp_path / "script.py"
    script.write_text(STOPPABLE)
    program = subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    pids = {int(program.stdout.readline()) for _ in range(2)}
    yield program, pids
    program.kill()
    program.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="sends the signal of a terminal")
def test_ctrl_c_ends_all_processes_at_once_without_a_word(napping) -> None:
    program, pids = napping
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=20)
    assert (program.returncode, errors) == (3, "")
    assert ends(pids)


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_processes_end_with_the_one_that_started_them(napping) -> None:
    program, pids = napping
    program.kill()
    assert ends(pids)
