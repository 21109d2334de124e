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


@dataclass
class LettersRecord:
    """How the questions of one task were scored by their likeliest tokens.

    Attributes
    ----------
    confidences, uncertainties : list of float
        Of each question that counts: its confidence with 0 for letters that were not told, and by
        how much less it may be.
    """

    n_requests: int = 0
    n_questions: int = 0
    n_missing: int = 0
    n_touched: int = 0
    confidences: list[float] = field(default_factory=list)
    uncertainties: list[float] = field(default_factory=list)

    @property
    def n_left_out(self) -> int:
        """Questions whose confidence is not known well enough."""
        return self.n_questions - len(self.confidences)

    @property
    def mean_uncertainty(self) -> float:
        """By how much mean confidence may be less than it seems."""
        return float(np.mean(self.uncertainties)) if self.uncertainties else 0.0

    @property
    def ece_off_by(self) -> float:
        """By how much ECE with 15 uniform bins may be off at most, up or down.

        A question that stays in its bin moves its gap by its uncertainty. One that may lie in
        another takes its own gap, at most ``max(c, 1 - c)``, from one bin to the other besides.
        """
        if not self.confidences:
            return 0.0
        confidence = np.clip(self.confidences, 0.0, 1.0)
        least = np.clip(confidence - self.uncertainties, 0.0, 1.0)
        crosses = bin_index(confidence) != bin_index(least)
        moved = 2 * np.maximum(confidence, 1 - confidence)[crosses].sum() / len(confidence)
        return self.mean_uncertainty + float(moved)

    def told(self) -> dict[str, Any]:
        """Return what the results file has of it."""
        return {
            "path": "likeliest tokens",
            "questions_asked": self.n_questions,
            "letters_not_told": self.n_missing,
            "questions_with_letters_not_told": self.n_touched,
            "questions_left_out": self.n_left_out,
            "confidence_too_high_by_at_most": max(self.uncertainties, default=0.0),
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
        uncertainty: float | None,
    ) -> None:
        """Note one question; `uncertainty` is None where it is too large for it to count."""
        record = self._of_task[task]
        record.n_requests += n_choices
        record.n_questions += 1
        record.n_missing += n_missing
        record.n_touched += n_missing > 0
        if uncertainty is not None:
            record.confidences.append(confidence)
            record.uncertainties.append(uncertainty)

    def note_scoring(self) -> None:
        """Leave a record for each task's results file."""
        for task, record in self._of_task.items():
            note_scoring(record, [task] * record.n_requests)

    def say(self, n_top: int, tolerance: float) -> None:
        """Say of each task how many letters were not told, and what that means for its numbers."""
        for task, record in self._of_task.items():
            if record.n_missing:
                logger.warning(
                    "%s: %d letters of %d of %d questions are not among the server's %d likeliest "
                    "tokens; each counts as 0. Confidence may be lower by %.2g on average, and ECE "
                    "off by %.2g at most. %d questions whose confidence is not known to %g are "
                    "left out and counted.",
                    task,
                    record.n_missing,
                    record.n_touched,
                    record.n_questions,
                    n_top,
                    record.mean_uncertainty,
                    record.ece_off_by,
                    record.n_left_out,
                    tolerance,
                )
