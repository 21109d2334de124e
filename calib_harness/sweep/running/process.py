"""Start one program, follow its output, end it: no shell, no orphan, no secret in the log."""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from calib_harness.sweep.planning.secrets import Redactor

_LEASH = Path(__file__).with_name("leash.py")
_TICK = 0.2
_GRACE = 10.0
_BAR_EVERY = 10.0
_TAIL = 20


@dataclass(frozen=True)
class Ended:
    """How a process ended: its status (negative: the signal), and why if we ended it."""

    status: int
    cause: str
    seconds: float
    tail: tuple[str, ...]


class Stop:
    """A wish of another thread that a process end: by itself, or at once."""

    def __init__(self) -> None:
        self._asked, self._at_once = threading.Event(), threading.Event()

    def ask(self, *, at_once: bool = False) -> None:
        """Have the process ended; with `at_once` it gets no time to end by itself."""
        if at_once:
            self._at_once.set()
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether the process is to end."""
        return self._asked.is_set()

    @property
    def at_once(self) -> bool:
        """Whether it is to end without delay."""
        return self._at_once.is_set()


class OutputLog:
    """Writes a process's output to a file, redacted, keeping few states of progress bars.

    A full disk must not end the run that is being logged: what cannot be written is dropped, and
    `complaint` says so.
    """

    def __init__(self, path: Path, redact: Redactor, on_line: Callable[[str], None]) -> None:
        self._path = path
        self._redact = redact
        self._on_line = on_line
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._pending = ""
        self._last_bar = 0.0
        self._file: IO[str] | None = None
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.complaint = ""

    def feed(self, data: bytes) -> None:
        """Take what the process has written."""
        self._pending += self._decoder.decode(data)
        start = 0
        for end, character in enumerate(self._pending):
            if character in "\r\n":
                self._line(self._pending[start:end], is_bar=character == "\r")
                start = end + 1
        self._pending = self._pending[start:]
        if self._pending:
            # A progress bar's latest state: its line ends when the next state begins.
            self._on_line(self._redact(self._pending))

    def close(self) -> None:
        """Write what is left and close the file."""
        if self._pending:
            self._line(self._pending, is_bar=False)
        if self._file is not None:
            self._guarded(self._file.close)

    def _line(self, line: str, *, is_bar: bool) -> None:
        line = self._redact(line.rstrip())
        if not line:
            return
        self._on_line(line)
        if is_bar:
            if time.monotonic() - self._last_bar < _BAR_EVERY:
                return
            self._last_bar = time.monotonic()
        else:
            self.tail.append(line)
        self._guarded(lambda: self._write(line))

    def _write(self, line: str) -> None:
        if self._file is None:
            self._file = self._path.open("a", encoding="utf-8", buffering=1)
        self._file.write(line + "\n")

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            self.complaint = self.complaint or f"its log cannot be written ({error.strerror})"


def run_process(
    argv: Sequence[str],
    *,
    log: OutputLog,
    environment: Mapping[str, str],
    working_dir: Path,
    keep_open: int,
    time_limit: float | None,
    stop: Stop,
    on_tick: Callable[[], None],
) -> Ended:
    """Run a program to its end and return how it ended.

    Parameters
    ----------
    argv : sequence of str
        The program and its arguments; no shell sees them.
    log : OutputLog
        Takes standard output and standard error, in the order in which they come.
    environment, working_dir
        The process's own.
    keep_open : int
        A file descriptor that the process inherits (the run's lock).
    time_limit : float, optional
        Seconds after which the process is ended.
    stop : Stop
        When asked for, the process is ended.
    on_tick : callable
        Called several times a second while the process lives.
    """
    began = time.monotonic()
    process = start_leashed(argv, environment, working_dir, keep_open=(keep_open,))
    assert process.stdout is not None
    cause = ""
    with process.stdout as output, selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        try:
            while process.poll() is None:
                if selector.get_map():
                    _drain(selector, log, _TICK)
                else:
                    _wait(process, _TICK)
                on_tick()
                if stop.asked:
                    cause = "stopped"
                elif time_limit is not None and time.monotonic() - began > time_limit:
                    cause = "time limit"
                if cause:
                    _end(process, selector, log, stop)
        except KeyboardInterrupt:  # how Ray cancels a task
            cause = "stopped"
            _end(process, selector, log, stop)
        finally:
            # Also ends what the run itself has started and left behind.
            signal_group(process.pid, signal.SIGKILL)
            process.wait()
        while _drain(selector, log, 0.0):
            pass
    log.close()
    return Ended(process.returncode, cause, time.monotonic() - began, tuple(log.tail))


def _drain(selector: selectors.BaseSelector, log: OutputLog, timeout: float) -> bool:
    """Hand waiting output to the log; return whether there may be more."""
    for key, _ in selector.select(timeout):
        data = os.read(key.fd, 65536)
        if data:
            log.feed(data)
            return True
        selector.unregister(key.fileobj)
    return False


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _end(
    process: subprocess.Popen[bytes],
    selector: selectors.BaseSelector,
    log: OutputLog,
    stop: Stop,
) -> None:
    """Ask a process group to end, taking its last words; insist after a while."""
    signal_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while process.poll() is None and time.monotonic() < deadline and not stop.at_once:
        _drain(selector, log, 0.0)
        _wait(process, _TICK)
    signal_group(process.pid, signal.SIGKILL)
    process.wait()


def start_leashed(
    argv: Sequence[str],
    environment: Mapping[str, str],
    working_dir: Path,
    *,
    keep_open: Sequence[int] = (),
    starts_others: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program that dies with this one; its output comes through one pipe, without a shell.

    It leads a group of its own: Ctrl-C reaches the sweep only, and the group can be ended as one.
    With `starts_others` what the program itself has started dies with this one, too.
    """
    how = "group" if starts_others else "alone"
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), how, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        cwd=working_dir,
        pass_fds=keep_open,
        start_new_session=True,
    )


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group that may have ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
