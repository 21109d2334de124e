"""Why a run failed, in a sentence, and whether trying again may help."""

from __future__ import annotations

import errno
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from calib_harness.sweep.running.process import Ended


@dataclass(frozen=True)
class Failure:
    """A failed attempt; `transient` means that the same command may succeed later."""

    reason: str
    transient: bool


_NO_HUB = "the Hugging Face Hub cannot be reached"

# The last lines of the log are searched in this order; the first match decides. Network errors
# stand before "not found", since a library may report the second because of the first.
_PATTERNS: tuple[tuple[str, str, bool], ...] = (
    (
        r"No space left on device|database or disk is full|Disk quota exceeded",
        "the disk is full; make room",
        True,
    ),
    (
        r"database disk image is malformed|file is not a database",
        "its cache of scored requests is damaged; the next attempt mends it",
        True,
    ),
    (
        r"CUDA out of memory|OutOfMemoryError|HIP out of memory",
        "the GPU's memory is too small; lower batch_size or dtype, or give the run more GPUs",
        False,
    ),
    (r"CUDA error|NCCL (error|failure)|cudaError|CUBLAS_STATUS|ECC error", "a GPU error", True),
    (r"couldn't connect to 'https://huggingface|OfflineModeIsEnabled", _NO_HUB, True),
    (
        r"ConnectionError|ConnectTimeout|ReadTimeout|Connection reset|Max retries exceeded|"
        r"Temporary failure in name resolution|Too Many Requests|"
        r"\b(429|500|502|503|504) (Client|Server) Error|IncompleteRead|RemoteDisconnected",
        "a network error",
        True,
    ),
    (
        r"RepositoryNotFound|Repo id must be in the form|Incorrect path_or_model_id|"
        r"is not a local folder and is not a valid model identifier|"
        r"does not appear to have a file named|RevisionNotFound|"
        r"expected a folder that holds a model",
        "the model or its revision does not exist, or is not open to this account",
        False,
    ),
    (r"GatedRepoError|401 Client Error|403 Client Error", "access to the model is refused", False),
    (
        r"Read-only file system|Permission denied|readonly database|unable to open database file",
        "a file cannot be written",
        False,
    ),
)

# These signals come from outside (the memory killer, an operator) or from broken hardware.
_OUTSIDE = {
    signal.SIGKILL: "killed (SIGKILL: by hand, or by the system for lack of memory)",
    signal.SIGTERM: "ended from outside (SIGTERM)",
    signal.SIGINT: "ended from outside (SIGINT)",
    signal.SIGHUP: "ended from outside (SIGHUP)",
    signal.SIGSEGV: "crashed (SIGSEGV)",
    signal.SIGBUS: "crashed (SIGBUS)",
    signal.SIGABRT: "crashed (SIGABRT)",
}


def explain_end(ended: Ended, time_limit: float | None, *, offline: bool = False) -> Failure | None:
    """Return why a process ended badly, or None if it ended well.

    With `offline` (the run was told not to ask the Hub) that the Hub cannot be reached is final.
    """
    if ended.cause == "time limit":
        hint = "run again to go on from there, or raise time_limit"
        return Failure(f"it ran beyond its time limit of {time_limit:g} s; {hint}", False)
    if ended.cause.startswith("server:"):
        return Failure(ended.cause, False)
    if ended.status == 0:
        return None
    if ended.status < 0:
        number = -ended.status
        known = {int(key): text for key, text in _OUTSIDE.items()}
        return Failure(known.get(number, f"ended by signal {number}"), number in known)
    failure = explain_log(ended.tail)
    if failure is None:
        last = f": {ended.tail[-1][:200]}" if ended.tail else ""
        return Failure(f"it ended with status {ended.status}{last}", False)
    if offline and failure.reason == _NO_HUB:
        reason = "a model or data set is not on this machine, and HF_HUB_OFFLINE is set"
        return Failure(reason, transient=False)
    return failure


def explain_log(tail: Sequence[str]) -> Failure | None:
    """Return the failure that the last lines of a log tell of, if it is a known one."""
    text = "\n".join(tail)
    for pattern, reason, transient in _PATTERNS:
        if re.search(pattern, text):
            return Failure(reason, transient)
    return None


def explain_os_error(error: OSError) -> Failure:
    """Return the failure that the sweep itself ran into while writing."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(f"the disk is full; make room{where}", True)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return Failure(f"its folder cannot be written: {error.strerror}{where}", False)
    return Failure(f"{error.strerror or error}{where}", True)
