"""One process at a time per run, also after a kill and across machines.

The lock is `flock` on a file, inherited by the run's process: it is held for as long as the
sweep or its run lives, and the kernel lets go of it when both are gone, so there is no stale lock
to clean up on one machine. Where machines share a folder whose file system keeps `flock` to
itself, the file also says who holds it, and its time stamp is renewed while the holder lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
import time
from pathlib import Path
from types import TracebackType

# A holder on another machine renews its lock more often than every STALE seconds or is gone.
STALE = 60.0


class HeldError(Exception):
    """Somebody else carries out this run now; the message says who."""


class RunLock:
    """The lock of one run; a context manager that raises :class:`HeldError`.

    Parameters
    ----------
    path : Path
        The lock file; it is made where it is missing and stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = -1

    def __enter__(self) -> RunLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take()
        except BaseException:
            os.close(self.descriptor)
            raise
        return self

    def _take(self) -> None:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(_describe(holder(self._path))) from None
        before = holder(self._path)
        elsewhere = before is not None and before.get("host") != socket.gethostname()
        if elsewhere and _age(self._path) < STALE:
            raise HeldError(_describe(before))
        os.ftruncate(self.descriptor, 0)
        pid = os.getpid()
        who = {"host": socket.gethostname(), "pid": pid, "began": _began(pid), "since": time.time()}
        os.pwrite(self.descriptor, json.dumps(who).encode(), 0)

    def renew(self) -> None:
        """Tell other machines that the holder lives."""
        os.utime(self.descriptor)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            os.ftruncate(self.descriptor, 0)
        finally:
            os.close(self.descriptor)


def holder(path: Path) -> dict[str, object] | None:
    """Return who wrote itself into a lock file last, or None (also for a torn file)."""
    try:
        who = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return who if isinstance(who, dict) else None


def is_held(path: Path) -> bool:
    """Return whether a lock file is held now, without touching the lock."""
    who = holder(path)
    if who is None:
        return False
    if who.get("host") != socket.gethostname():
        return _age(path) < STALE
    try:
        pid = int(str(who["pid"]))
        os.kill(pid, 0)
    except (KeyError, ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        pass  # it lives, and is another user's
    # After a restart of the machine the number may be another process's.
    return who.get("began") in (None, _began(pid))


def _began(pid: int) -> str | None:
    """Return when a process began, in ticks since the system did; None where nothing tells."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _age(path: Path) -> float:
    """Return the seconds since a file changed, if possible by the file system's clock."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".clock-") as probe:
            now = os.stat(probe.name).st_mtime
    except OSError:  # somebody who may only read asks for the status
        now = time.time()
    return now - path.stat().st_mtime


def _describe(who: dict[str, object] | None) -> str:
    return f"process {who['pid']} on {who['host']}" if who else "another process"
