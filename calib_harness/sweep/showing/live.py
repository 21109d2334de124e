"""Live lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import track
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from calib_harness.sweep.running.execute import Job, Outcome
from calib_harness.sweep.running.progress import Progress, read_progress
from calib_harness.text import visible

_PLAIN_EVERY = 30.0
_WIDTH_FOR_BARS = 110
# From less work than this (in runs) no time left is told.
_TELLING = 0.1

Item = TypeVar("Item")


class Display:
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
        self._before = finished
        self._failed = 0
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._last_plain = time.monotonic()
        self._began = time.time()
        self._told_held: set[str] = set()

    def __enter__(self) -> Display:
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
        """Print a line, above the live ones."""
        say(self._console, text)

    def started(self, job: Job, *, queued: bool) -> None:
        """Tell that a run begins, or is handed over to an executor that queues it."""
        self.say(f"{'queue' if queued else 'start'}   {job.run.name}")
        if job.run.trust_remote_code:
            self.say(f"        trust_remote_code is on for {job.run.model}: its code will run here")

    def held(self, outcome: Outcome) -> None:
        """Tell that another sweep is at a run."""
        if outcome.name not in self._told_held:
            self._told_held.add(outcome.name)
            self.say(f"wait    {outcome.name}: carried out by {outcome.reason}")

    def retrying(self, outcome: Outcome, delay: float) -> None:
        """Tell that a run failed and is tried again."""
        self.say(f"retry   {outcome.name}: {outcome.reason}; again in {duration(delay)}")

    def ended(self, outcome: Outcome) -> None:
        """Tell what came of a run."""
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
        """Show what is running now; called about twice a second."""
        plain_is_due = time.monotonic() - self._last_plain > _PLAIN_EVERY
        if not self._live and not plain_is_due:
            return
        news = [(job, progress) for job in running if (progress := self._news(job))]
        if self._live:
            self._live.update(self._lines(news, len(running)), refresh=True)
            return
        self._last_plain = time.monotonic()
        for job, progress in news:
            self.say(f"        {job.run.name}: {describe(progress)}")
        if left := self._left(news):
            self.say(f"        {self._done} of {self._total} runs finished{left}")

    def _left(self, news: Sequence[tuple[Job, Progress]]) -> str:
        """Return a few words on how long the whole may still take."""
        shares = sum(p.done / p.total for _, p in news if p.total)
        worked = self._done - self._before + shares
        left = self._total - self._done - self._failed - shares
        if worked < _TELLING:
            return ""
        return f"; about {duration((time.time() - self._began) * left / worked)} left for all"

    def _news(self, job: Job) -> Progress | None:
        """Return a job's progress, unless it still queues and what is there is an old attempt's."""
        progress = read_progress(job.folder)
        return progress if progress and progress.updated >= self._began else None

    def _lines(self, news: Sequence[tuple[Job, Progress]], running: int) -> RenderableType:
        width, height = self._console.size
        table = Table.grid(padding=(0, 1))
        for _ in range(4):
            table.add_column(no_wrap=True, overflow="ellipsis")
        shown = news[: max(1, height - 6)]
        for job, progress in shown:
            bar = ProgressBar(total=max(progress.total, 1), completed=progress.done, width=20)
            tasks = _shortened(", ".join(job.run.tasks), max(12, width // 6))
            cells = (job.run.name, tasks, describe(progress, short=True))
            table.add_row(*map(Text, cells), *([bar] if width >= _WIDTH_FOR_BARS else []))
        more = f"{len(news) - len(shown)} more running, " if len(news) > len(shown) else ""
        failed = f", {self._failed} failed" if self._failed else ""
        waiting = self._total - self._done - self._failed - running
        queued = f"{running - len(news)} starting or queued, " if running > len(news) else ""
        total = (
            f"{self._done} of {self._total} runs finished{failed}, {more}{queued}{waiting} waiting"
            f"{self._left(news)}"
        )
        return Group(table, Text(total, style="bold", no_wrap=True, overflow="ellipsis"))


def counted(
    items: Iterable[Item], what: str, console: Console | None, *, total: int
) -> Iterator[Item]:
    """Hand on items while a terminal shows a bar; elsewhere a line at times says how far it is."""
    if console is None:
        yield from items
        return
    if console.is_terminal:
        yield from track(items, what, total=total, console=console, transient=True)
        return
    last = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - last > _PLAIN_EVERY:
            last = time.monotonic()
            say(console, f"        {what}: {number} of {total}")
        yield item


def say(console: Console, text: str) -> None:
    """Print a line: broken between words on a terminal, whole elsewhere."""
    whole = not console.is_terminal
    console.print(visible(text), markup=False, highlight=False, soft_wrap=whole)


def describe(progress: Progress, *, short: bool = False) -> str:
    """Return a run's progress as a few words: questions done, rate, time left.

    With `short`, requests are left out where questions can be told.
    """
    if not progress.total:
        return progress.phase
    share = progress.done / progress.total
    words, unit = [f"{progress.done:,}/{progress.total:,} {progress.unit}"], ""
    if progress.questions and progress.unit == "requests":
        questions = f"about {share * progress.questions:,.0f}/{progress.questions:,} questions"
        words, unit = ([questions], " requests") if short else ([*words, questions], "")
    if progress.rate:
        words.append(f"{progress.rate:,.1f}{unit}/s")
    if progress.seconds_left is not None and progress.done < progress.total:
        words.append(f"{duration(progress.seconds_left)} left")
    if progress.cached and not short:
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
