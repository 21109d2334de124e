"""The loop of a sweep: a queue in front of an executor, and what came of every run."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from calib_harness.sweep.executors import Executor
from calib_harness.sweep.running.execute import Job, Outcome
from calib_harness.sweep.showing.live import Display

# After a second interrupt, runs that do not end within this many seconds are left alone.
_PATIENCE = 5.0
# A run that another sweep is at is looked at again after this many seconds.
_HELD_AGAIN = 2.0
_TICK = 0.5


@dataclass
class Summary:
    """What came of a sweep.

    `outcomes` holds the last outcome of every run that was started; `seconds` is the time inside
    run processes, `wall` the time the loop took.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    attempts: int = 0
    seconds: float = 0.0
    wall: float = 0.0
    scored: int = 0
    reused: int = 0
    interrupted: bool = False

    def add(self, outcome: Outcome) -> None:
        """Take the outcome of one attempt."""
        self.outcomes[outcome.name] = outcome
        if outcome.seconds:
            self.attempts += 1
        self.seconds += outcome.seconds
        self.scored += outcome.scored
        self.reused += outcome.reused

    def named(self, status: str) -> list[Outcome]:
        """Return the outcomes with this status."""
        return [outcome for outcome in self.outcomes.values() if outcome.status == status]


@dataclass(frozen=True)
class Retries:
    """How often a transient failure is tried again, and after how long.

    The n-th retry waits `backoff` x 2^(n-1) seconds, at most `longest`.
    """

    limit: int
    backoff: float
    longest: float

    def delay(self, failures: int) -> float | None:
        """Return the seconds to wait after this many failures, or None to give up."""
        if failures > self.limit:
            return None
        return float(min(self.longest, self.backoff * 2 ** (failures - 1)))


def drive(jobs: Sequence[Job], executor: Executor, retries: Retries, display: Display) -> Summary:
    """Carry out jobs until each is finished or has failed for good, or the sweep is interrupted.

    Ctrl-C (or SIGTERM, or SIGHUP) ends the runs and returns; what they scored is kept. A second
    one does not wait for them to end by themselves.
    """
    began = time.monotonic()
    interrupts: list[int] = []
    loop = _Loop(jobs, executor, retries, display, interrupts)
    with _signals(interrupts.append), display:
        loop.run()
    loop.summary.wall = time.monotonic() - began
    return loop.summary


class _Loop:
    def __init__(
        self,
        jobs: Sequence[Job],
        executor: Executor,
        retries: Retries,
        display: Display,
        interrupts: Sequence[int],
    ) -> None:
        self.summary = Summary()
        self._jobs = {job.run.name: job for job in jobs}
        self._ready: dict[str, float] = dict.fromkeys(self._jobs, 0.0)
        self._running: set[str] = set()
        self._failures = dict.fromkeys(self._jobs, 0)
        self._executor = executor
        self._retries = retries
        self._display = display
        # A signal may come between any two steps: its handler notes it here, the loop acts on it.
        self._interrupts = interrupts
        self._give_up_at = math.inf

    def run(self) -> None:
        while self._ready or self._running:
            self._heed_interrupts()
            self._submit()
            for outcome in self._executor.wait(self._pause()):
                self._running.discard(outcome.name)
                self._take(outcome)
            self._display.update([self._jobs[name] for name in sorted(self._running)])
            if time.monotonic() > self._give_up_at:
                return

    def _heed_interrupts(self) -> None:
        if self._interrupts and not self.summary.interrupted:
            self.summary.interrupted = True
            name = signal.Signals(self._interrupts[0]).name
            self._display.say(
                f"interrupted ({name}): ending the runs; start the same command to go on"
            )
            self._ready.clear()
            self._executor.stop()
        elif len(self._interrupts) > 1 and self._give_up_at == math.inf:
            self._give_up_at = time.monotonic() + _PATIENCE
            self._display.say("interrupted again: killing the runs")
            self._executor.stop(at_once=True)

    def _submit(self) -> None:
        now = time.monotonic()
        for name in [name for name, when in self._ready.items() if when <= now]:
            job = self._jobs[name]
            if self._executor.has_room(job):
                del self._ready[name]
                self._running.add(name)
                self._executor.submit(job)
                self._display.started(job, queued=self._executor.queues)

    def _pause(self) -> float:
        """Return how long to wait for the executor before looking at the queue again."""
        if self._running or not self._ready:
            return _TICK
        return max(0.0, min(_TICK, min(self._ready.values()) - time.monotonic()))

    def _take(self, outcome: Outcome) -> None:
        name = outcome.name
        self.summary.add(outcome)
        if outcome.status == "held" and not self.summary.interrupted:
            self._display.held(outcome)
            self._ready[name] = time.monotonic() + _HELD_AGAIN
            return
        if outcome.status == "failed":
            self._failures[name] += 1
            delay = self._retries.delay(self._failures[name]) if outcome.transient else None
            if delay is not None and not self.summary.interrupted:
                self._display.retrying(outcome, delay)
                self._ready[name] = time.monotonic() + delay
                return
        self._display.ended(outcome)


@contextmanager
def _signals(interrupt: Callable[[int], None]) -> Iterator[None]:
    """Call `interrupt` on Ctrl-C, SIGTERM and SIGHUP instead of dying of them."""

    def handle(number: int, frame: FrameType | None) -> None:
        interrupt(number)

    chosen = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # nohup has a sweep ignore SIGHUP: leave it so.
    heard = [number for number in chosen if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
