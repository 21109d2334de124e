"""What a run is doing, read from its output while it goes by."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from calib_harness.output import write_whole
from calib_harness.sweep.storing.layout import PROGRESS

# tqdm: "Running loglikelihood requests:  25%|██▌  | 30/120 [00:00<00:00, 156.88it/s]"
_BAR = re.compile(
    r"^(?P<label>.*?)\s*\d+%\|.*\|\s*(?P<done>\d+)/(?P<total>\d+) \[(?P<times>[^\]]*)\]"
)
_MODEL = re.compile(r"Initializing \S+ model")
_CONTEXTS = re.compile(r"Building contexts for (\S+) on rank")

# A rate from fewer seconds than this tells nothing.
_TELLING = 0.5


@dataclass
class Progress:
    """The state of a running run.

    lm-eval pools the requests of all tasks and scores them by length. Where its progress bar counts
    requests, questions finish in no order; of `questions` the same share is done on average.

    Attributes
    ----------
    phase : str
        What the run does now.
    done, total : int
        How much is scored, and is to be scored, under the progress bar that is shown now.
    unit : str
        What `done` and `total` count: requests or questions.
    cached : int
        Requests that earlier attempts had scored.
    questions : int
        Questions of all tasks.
    began, updated : float
        Times of the bar's beginning and of the last news, in seconds since 1970.
    """

    phase: str = "starting"
    done: int = 0
    total: int = 0
    unit: str = "requests"
    cached: int = 0
    questions: int = 0
    began: float = 0.0
    updated: float = 0.0

    @property
    def rate(self) -> float:
        """Requests or questions per second since scoring began; 0 as long as it is not known."""
        seconds = self.updated - self.began
        return self.done / seconds if self.began and seconds > _TELLING else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Expected seconds until all is scored, if a rate is known."""
        return (self.total - self.done) / self.rate if self.rate else None


class ProgressReader:
    """Follows a run's output line by line."""

    def __init__(self, cached: int = 0) -> None:
        self.progress = Progress(cached=cached, updated=time.time())
        self._building = False

    def feed(self, line: str, now: float | None = None) -> None:
        """Take one line of output (a state of a progress bar counts as a line)."""
        progress = self.progress
        progress.updated = time.time() if now is None else now
        if match := _CONTEXTS.search(line):
            progress.phase, self._building = f"preparing {match[1]}", True
        elif _MODEL.search(line):
            progress.phase = "loading the model"
        elif match := _BAR.search(line):
            self._bar(match)

    def _bar(self, match: re.Match[str]) -> None:
        progress = self.progress
        label, done, total = match["label"].rstrip(":"), int(match["done"]), int(match["total"])
        if not label and self._building:
            # The bar of "Building contexts" has no label and counts a task's questions.
            if done == total:
                progress.questions += total
                self._building = False
        elif label.startswith(("Running", "Scoring")):
            if progress.phase != "scoring" or total != progress.total or done < progress.done:
                progress.began, progress.done = progress.updated, 0
            progress.phase, progress.done, progress.total = "scoring", done, total
            progress.unit = "questions" if "question" in match["times"] else "requests"


def write_progress(progress: Progress, folder: Path) -> None:
    """Write a run's progress into its folder, whole or not at all."""
    write_whole(folder / PROGRESS, json.dumps(asdict(progress)), durable=False)


def read_progress(folder: Path) -> Progress | None:
    """Return the progress last written into a run's folder, or None."""
    try:
        data = json.loads((folder / PROGRESS).read_text())
        return Progress(**{field.name: data[field.name] for field in fields(Progress)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
