"""Why runs fail, read from how they ended."""

from __future__ import annotations

import errno

import pytest

from calib_harness.sweep.running.failures import explain_end, explain_os_error
from calib_harness.sweep.running.process import Ended


def ended(status=1, last="", cause="") -> Ended:
    return Ended(status, cause, 1.0, ("a line before", last))


@pytest.mark.parametrize(
    ("last", "words", "transient"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full", True),
        ("sqlite3.OperationalError: database or disk is full", "disk is full", True),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", "lower batch_size", False),
        ("RuntimeError: CUDA error: an illegal memory access", "a GPU error", True),
        ("requests.exceptions.ReadTimeout: HTTPSConnectionPool", "network", True),
        ("HTTPError: 503 Server Error: Service Unavailable", "network", True),
        ("OSError: x is not a local folder and is not a valid model identifier", "exist", False),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error.", "refused", False),
        ("sqlite3.OperationalError: attempt to write a readonly database", "written", False),
        ("KeyError: 'question'", "status 1: KeyError: 'question'", False),
    ],
)
def test_last_lines_tell_why_and_whether_trying_again_may_help(last, words, transient):
    failure = explain_end(ended(last=last), None)
    assert words in failure.reason
    assert failure.transient is transient


@pytest.mark.parametrize(
    ("status", "words", "transient"),
    [(-9, "SIGKILL", True), (-11, "SIGSEGV", True), (-4, "signal 4", False)],
)
def test_signals_are_named(status, words, transient):
    failure = explain_end(ended(status=status), None)
    assert words in failure.reason
    assert failure.transient is transient


def test_hub_that_cannot_be_reached_is_final_only_offline():
    last = "OSError: We couldn't connect to 'https://huggingface.co' to load the files"
    assert explain_end(ended(last=last), None, offline=False).transient
    assert not explain_end(ended(last=last), None, offline=True).transient


def test_good_end_is_no_failure_whatever_the_log_says():
    assert explain_end(ended(status=0, last="ConnectionError, trying again"), None) is None


def test_errors_of_the_sweep_itself_are_explained():
    assert explain_os_error(OSError(errno.ENOSPC, "No space left on device")).transient
    assert not explain_os_error(OSError(errno.EROFS, "Read-only file system", "f")).transient
