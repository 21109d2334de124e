"""What every analysis starts from: one run × one task × one method as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from calib_harness.core.confidence import softmax_scores, usable_rows
from calib_harness.derived_names import benchmark_of

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: lm-eval's names for "the newest commit of the model's main branch".
DEFAULT_REVISIONS = ("", "main", None)

#: Gold of a question of which it cannot be told which choice is right; -1: it has none.
UNDECIDED = -2


@dataclass(frozen=True)
class Header:
    """What was run: everything known about a log but its numbers.

    Attributes
    ----------
    model : str
        Name as given to lm-eval (``org/name`` or a path).
    revision : str or None
        Branch, tag or commit of the model; None or ``"main"`` is the default one.
    task : str
        lm-eval's task name, e.g. ``arc_easy_calib_cloze``.
    method : str
        A name from :data:`calib_harness.core.confidence.METHODS`; empty for a whole log.
    n_shot : int or None
        Number of shots; None if there is no results file to tell.
    chat_template : bool or None
        Whether the chat template was applied; None if unknown.
    lm_eval_version : str or None
    date : str
        When the run ended (ISO 8601); empty if unknown.
    settings : str
        Other arguments of the model that change its numbers (``dtype=float16, ...``), the backend
        unless it is transformers (``backend=vllm``) and the system instruction's hash, as one
        canonical string.
    source : str
        Path or URL of the sample log.
    task_version : str or None
        lm-eval's version of the task; None if unknown.
    gold : str
        Why the gold may be believed: ``stated`` by the log as an index, ``confirmed`` by the
        accuracies that it holds, ``not verified``, ``none`` (no question has one); empty if
        unknown.
    """

    model: str
    revision: str | None
    task: str
    method: str
    n_shot: int | None
    chat_template: bool | None
    lm_eval_version: str | None = None
    date: str = ""
    settings: str = ""
    source: str = ""
    task_version: str | None = None
    gold: str = ""

    @property
    def label(self) -> str:
        """Model and, unless it is the default one, its revision: ``org/name@step1000``."""
        return self.model if self.revision in DEFAULT_REVISIONS else f"{self.model}@{self.revision}"

    @property
    def title(self) -> str:
        """What messages call the run: ``org/name on arc_easy (choice)``."""
        return f"{self.label} on {self.task} ({self.method})"

    @property
    def benchmark(self) -> str:
        """The task without the prompt's suffix: all ``arc_easy_calib*`` are ``arc_easy``."""
        return benchmark_of(self.task)

    @property
    def run_key(self) -> tuple[Any, ...]:
        """Two logs with the same key are repetitions of one run."""
        revision = None if self.revision in DEFAULT_REVISIONS else self.revision
        return (
            self.model,
            revision,
            self.task,
            self.n_shot,
            self.chat_template,
            self.settings,
        )


@dataclass(frozen=True, eq=False)
class Predictions:
    """One run × one task × one method; arrays share their first axis, the questions.

    Attributes
    ----------
    header : Header
    scores : ndarray of float64, shape (n, K_max)
        Log-domain score of each choice; NaN where a choice does not exist, and a whole row of
        NaN where a question cannot be used.
    gold : ndarray of int64, shape (n,)
        Index of the right choice; -1 where the log names none, ``UNDECIDED`` where it cannot be
        told which one is meant.
    doc_id : ndarray of int64, shape (n,)
        lm-eval's number of the question within its task; -1 if it is no number.
    doc_hash : ndarray of str objects, shape (n,)
        SHA-256 of the question as lm-eval computes it; the key that joins runs.
    prompt : ndarray of int64, shape (n,), or None
        Equal where two questions of the log were asked in the same words; None if not known.
    truncated : ndarray of int64, shape (n,), or None
        Tokens cut off the beginning of the question's longest request; None if not known.
    subject : ndarray of str objects, shape (n,), or None
        Task that each question of a pool belongs to; None outside pools.
    """

    header: Header
    scores: Floats
    gold: Ints
    doc_id: Ints
    doc_hash: npt.NDArray[np.object_]
    prompt: Ints | None = None
    truncated: Ints | None = None
    subject: npt.NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.gold)

    def __repr__(self) -> str:
        h = self.header
        return f"Predictions({h.label!r}, {h.task!r}, {h.method!r}, n={len(self)})"

    @cached_property
    def probs(self) -> Floats:
        """Softmax of the scores over each question's choices, shape (n, K_max)."""
        return softmax_scores(self.scores)

    @cached_property
    def usable(self) -> Bools:
        """Which questions have scores and a gold choice, shape (n,)."""
        return usable_rows(self.probs, self.gold)

    @property
    def confidence(self) -> Floats:
        """Largest probability of each question, shape (n,); NaN where there are no scores."""
        empty = np.isnan(self.probs).all(axis=1)
        top = np.where(np.isnan(self.probs), -np.inf, self.probs).max(axis=1, initial=-np.inf)
        return np.where(empty, np.nan, top)

    @property
    def correct(self) -> Bools:
        """Whether the first most probable choice is gold, shape (n,); False where unusable."""
        top = np.where(np.isnan(self.probs), -np.inf, self.probs)
        hit = top.argmax(axis=1) == self.gold if top.shape[1] else np.zeros(len(self), bool)
        return np.asarray(hit & self.usable)

    @cached_property
    def tied(self) -> Bools:
        """Which questions have several best choices, of which the first is the answer, (n,)."""
        top = np.where(np.isnan(self.scores), -np.inf, self.scores).max(
            axis=1, initial=-np.inf, keepdims=True
        )
        return np.asarray(((self.scores == top) & np.isfinite(top)).sum(axis=1) > 1)

    @property
    def n_distinct(self) -> int | None:
        """Number of different prompts among the questions; None if it is not known."""
        return None if self.prompt is None else len(np.unique(self.prompt))

    @property
    def n_truncated(self) -> int | None:
        """Number of questions whose context was cut off; None if it is not known."""
        return None if self.truncated is None else int((self.truncated > 0).sum())

    def take(self, rows: Ints | Bools) -> Predictions:
        """Return the run on some of its questions: `rows` are indices or a mask of shape (n,)."""
        optional: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[rows]
            for name in ("prompt", "truncated", "subject")
        }
        return Predictions(
            self.header,
            self.scores[rows],
            self.gold[rows],
            self.doc_id[rows],
            self.doc_hash[rows],
            **optional,
        )


@dataclass(frozen=True)
class LogContents:
    """All that one sample log holds.

    Attributes
    ----------
    header : Header
        With an empty ``method``.
    predictions : tuple of Predictions
        One for each method the log supports.
    missing : dict of str to str
        Each method it does not support, with the reason.
    problems : tuple of str
        What was wrong with the file, each one sentence naming the line.
    """

    header: Header
    predictions: tuple[Predictions, ...]
    missing: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
