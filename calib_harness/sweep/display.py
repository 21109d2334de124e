"""Live lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from calib_harness.sweep.execute import Job, Outcome
from calib_harness.sweep.progress import Progress, read_progress

_PLAIN_EVERY = 30.0


class Display(Protocol):
    """What the loop of a sweep tells about itself."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def started(self, job: Job, *, queued: bool) -> None:
        """Tell that a run begins, or is handed over to an executor that queues it."""

    def update(self, running: Sequence[Job]) -> None:
        """Show what is running now; called about twice a second."""

    def held(self, outcome: Outcome) -> None:
        """Tell that another sweep is at a run."""

    def retrying(self, outcome: Outcome, delay: float) -> None:
        """Tell that a run failed and is tried again."""

    def ended(self, outcome: Outcome) -> None:
        """Tell what came of a run."""

    def say(self, text: str) -> None:
        """Tell anything else."""


class ConsoleDisplay:
    """One live line per running run and a total; without a terminal, a line per event.

    Parameters
    ----------
    console : Console
        Where to write.
    total, finished : int
        How many runs the sweep has, and how many were finished before.
    """

    def __init__(self, console: Console, *, total: int, finished: int) -> None:
        self._console = console
        self._total = total
        self._done = finished
        self._failed = 0
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._last_plain = time.monotonic()
        self._told_held: set[str] = set()

    def __enter__(self) -> ConsoleDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.update(Text(""), refresh=True)
            self._live.stop()

    def say(self, text: str) -> None:
        """See :class:`Display`."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def started(self, job: Job, *, queued: bool) -> None:
        """See :class:`Display`."""
        self.say(f"{'queue' if queued else 'start'}   {job.run.name}")
        if job.run.trust_remote_code:
            self.say(f"        trust_remote_code is on for {job.run.model}: its code will run here")

    def held(self, outcome: Outcome) -> None:
        """See :class:`Display`."""
        if outcome.name not in self._told_held:
            self._told_held.add(outcome.name)
            self.say(f"wait    {outcome.name}: carried out by {outcome.reason}")

    def retrying(self, outcome: Outcome, delay: float) -> None:
        """See :class:`Display`."""
        self.say(f"retry   {outcome.name}: {outcome.reason}; again in {duration(delay)}")

    def ended(self, outcome: Outcome) -> None:
        """See :class:`Display`."""
        self._done += outcome.status == "finished"
        self._failed += outcome.status == "failed"
        counts = f"[{self._done}/{self._total}]"
        if outcome.status == "failed":
            self.say(f"FAILED  {outcome.name}: {outcome.reason} {counts}")
        elif outcome.status == "finished":
            reused = f", {outcome.reused:,} requests scored before" if outcome.reused else ""
            spent = duration(outcome.seconds) if outcome.seconds else "by another sweep"
            self.say(f"done    {outcome.name}: {spent}{reused} {counts}")
        else:
            self.say(f"stopped {outcome.name}")

    def update(self, running: Sequence[Job]) -> None:
        """See :class:`Display`."""
        if self._live:
            self._live.update(self._lines(running), refresh=True)
        elif time.monotonic() - self._last_plain > _PLAIN_EVERY:
            self._last_plain = time.monotonic()
            for job in running:
                progress = read_progress(job.folder)
                if progress:
                    self.say(f"        {job.run.name}: {describe(progress)}")

    def _lines(self, running: Sequence[Job]) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        for job in running:
            progress = read_progress(job.folder) or Progress()
            bar = ProgressBar(total=max(progress.total, 1), completed=progress.done, width=20)
            tasks = ", ".join(job.run.tasks)
            table.add_row(job.run.name, _shortened(tasks, 30), bar, describe(progress))
        failed = f", {self._failed} failed" if self._failed else ""
        waiting = self._total - self._done - self._failed - len(running)
        total = f"{self._done} of {self._total} runs finished{failed}, {waiting} waiting"
        return Group(table, Text(total, style="bold"))


def describe(progress: Progress) -> str:
    """Return a run's progress as a few words: questions done, rate, time left."""
    if not progress.total:
        return progress.phase
    share = progress.done / progress.total
    words = [f"{progress.done:,}/{progress.total:,} {progress.unit}"]
    if progress.questions and progress.unit == "requests":
        words.append(f"about {share * progress.questions:,.0f}/{progress.questions:,} questions")
    if progress.rate:
        words.append(f"{progress.rate:,.1f}/s")
    if progress.seconds_left is not None and progress.done < progress.total:
        words.append(f"{duration(progress.seconds_left)} left")
    if progress.cached:
        words.append(f"{progress.cached:,} requests scored before")
    return ", ".join(words)


def duration(seconds: float) -> str:
    """Return a time span for people.

    >>> [duration(seconds) for seconds in (0.25, 42, 125, 7500)]
    ['0.2 s', '42 s', '2 min 05 s', '2 h 05 min']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."
