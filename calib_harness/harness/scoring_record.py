"""How a task's requests were scored, for its results file: a slow run explains itself.

lm-eval hands the requests of all tasks to the backend together, and asks each task for its
configuration once everything is scored; in between, what the backend notes lies here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol


class Record(Protocol):
    """What a backend leaves of how it scored; it may still change until it is told."""

    def told(self) -> dict[str, Any]:
        """Return it as the results file has it."""


@dataclass
class ScoringRecord:
    """How one call of the backend scored its requests, whatever their tasks.

    Attributes
    ----------
    path
        "shared" (each shared prefix computed once), "plain", or "shared, then plain".
    why
        Why not shared; empty if it was.
    tokens_forwarded
        Tokens the model was run on, padding, repeated and double-checked work included.
    tokens_of_tree
        The fewest that score the requests: those of the tree of their tokens.
    """

    path: str
    why: str = ""
    tokens_forwarded: int = 0
    tokens_of_tree: int = 0

    @property
    def forwarded_per_token_of_tree(self) -> float:
        """How many times the least possible work was done; 1 is perfect."""
        return self.tokens_forwarded / max(1, self.tokens_of_tree)

    def told(self) -> dict[str, Any]:
        """Return what the results file has of it."""
        return {
            "path": self.path,
            "why": self.why,
            "tokens_forwarded": self.tokens_forwarded,
            "tokens_of_tree": self.tokens_of_tree,
            "forwarded_per_token_of_tree": round(self.forwarded_per_token_of_tree, 3),
        }


_BY_TASK: dict[str, tuple[Record, int, int]] = {}


def note_scoring(record: Record, tasks: Iterable[str]) -> None:
    """Note how requests were scored, one task's name each; `record` may still change."""
    requests = Counter(tasks)
    for task, count in requests.items():
        _BY_TASK[task] = record, count, len(requests)


def take_scoring(task: str) -> dict[str, Any] | None:
    """Return what was noted of a task, once, as the results file has it; None if nothing was."""
    if task not in _BY_TASK:
        return None
    record, requests, tasks = _BY_TASK.pop(task)
    return {**record.told(), "requests": requests, "tasks_scored_together": tasks}
