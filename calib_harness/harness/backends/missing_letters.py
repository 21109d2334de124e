"""What a chat endpoint did not tell of a task's letters, and how far that may move its ECE."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calib_harness.core.binning import DEFAULT_N_BINS, bin_index
from calib_harness.harness.scoring_record import note_scoring

logger = logging.getLogger(__name__)

# Less than this shows in no printed number.
_PRINTED = 5e-5


@dataclass
class LettersRecord:
    """How the questions of one task were scored by their likeliest tokens.

    Attributes
    ----------
    confidences : list of float
        Of each question that counts, with 0 for what was not told.
    ranges : list of tuple of float
        Between what that confidence lies.
    """

    n_requests: int = 0
    n_questions: int = 0
    n_missing: int = 0
    n_touched: int = 0
    confidences: list[float] = field(default_factory=list)
    ranges: list[tuple[float, float]] = field(default_factory=list)

    @property
    def n_left_out(self) -> int:
        """Questions whose confidence is not known well enough."""
        return self.n_questions - len(self.confidences)

    @property
    def off_by(self) -> np.ndarray:
        """By how much each confidence may be off, down or up."""
        if not self.ranges:
            return np.zeros(0)
        apart = np.array(self.ranges) - np.array(self.confidences)[:, np.newaxis]
        return np.asarray(np.abs(apart).max(axis=1))

    @property
    def ece_off_by(self) -> float:
        """By how much ECE with 15 uniform bins may be off at most, up or down.

        A question that stays in its bin moves its gap by what its confidence is off. One that may
        lie in another takes its own gap, at most ``max(c, 1 - c)``, from one bin to the other
        besides.
        """
        if not self.confidences:
            return 0.0
        confidence = np.clip(self.confidences, 0.0, 1.0)
        least, largest = np.clip(np.array(self.ranges), 0.0, 1.0).T
        crosses = bin_index(least) != bin_index(largest)
        moved = 2 * np.maximum(confidence, 1 - confidence)[crosses].sum() / len(confidence)
        return float(self.off_by.mean() + moved)

    def told(self) -> dict[str, Any]:
        """Return what the results file has of it."""
        return {
            "path": "likeliest tokens",
            "questions_asked": self.n_questions,
            "letters_not_told": self.n_missing,
            "questions_with_letters_not_told": self.n_touched,
            "questions_left_out": self.n_left_out,
            "confidence_off_by_at_most": float(self.off_by.max(initial=0.0)),
            "ece_off_by_at_most": self.ece_off_by,
            "ece_n_bins": DEFAULT_N_BINS,
        }


class Tally:
    """Counts what was not told, task by task."""

    def __init__(self) -> None:
        self._of_task: dict[str, LettersRecord] = defaultdict(LettersRecord)

    def note(
        self,
        task: str,
        *,
        n_choices: int,
        n_missing: int,
        confidence: float,
        known: tuple[float, float] | None,
    ) -> None:
        """Note one question, and between what its confidence lies; None where it cannot count."""
        record = self._of_task[task]
        record.n_requests += n_choices
        record.n_questions += 1
        record.n_missing += n_missing
        record.n_touched += n_missing > 0
        if known is not None:
            record.confidences.append(confidence)
            record.ranges.append(known)

    def note_scoring(self) -> None:
        """Leave a record for each task's results file."""
        for task, record in self._of_task.items():
            note_scoring(record, [task] * record.n_requests)

    def say(self, n_top: int, tolerance: float) -> None:
        """Say of each task how many letters were not told, and what that means for its numbers."""
        for task, record in self._of_task.items():
            if record.n_missing or record.n_left_out or record.ece_off_by >= _PRINTED:
                logger.warning(
                    "%s: %d letters of %d of %d questions are not among the server's %d likeliest "
                    "tokens; each counts as 0, as do spellings of others that are not. Confidence "
                    "may be off by %.2g on average, and ECE by %.2g at most. %d questions whose "
                    "answer is not known, or its confidence not to %g, are left out and counted.",
                    task,
                    record.n_missing,
                    record.n_touched,
                    record.n_questions,
                    n_top,
                    float(record.off_by.mean()) if record.ranges else 0.0,
                    record.ece_off_by,
                    record.n_left_out,
                    tolerance,
                )
