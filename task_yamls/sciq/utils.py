"""Choice order for SciQ, whose gold is always the last choice in the data."""

from __future__ import annotations

import hashlib
from typing import Any

import datasets

_COLUMNS = ("distractor1", "distractor2", "distractor3", "correct_answer")


def shuffle_choices(dataset: datasets.Dataset) -> datasets.Dataset:
    """Add `choices`, in an order fixed by the question itself, and `gold`, its index there."""
    return dataset.map(_shuffle)


def _shuffle(doc: dict[str, Any]) -> dict[str, Any]:
    def digest(column: str) -> bytes:
        return hashlib.sha256(f"{doc['question']}\n{doc[column]}".encode()).digest()

    order = sorted(_COLUMNS, key=digest)
    return {"choices": [doc[column] for column in order], "gold": order.index("correct_answer")}
