"""The toy world's dataset, found beside the YAMLs in a checkout and in a wheel alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from calib_harness.paths import toy_world_path


def load(**_: Any) -> DatasetDict:
    """Load the test questions; lm-eval passes the task's metadata, which changes nothing here."""
    questions = Path(toy_world_path()) / "data" / "test.jsonl"
    rows = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["letters"] = list("ABCDE"[: len(row["choices"])])
    return DatasetDict({"test": Dataset.from_list(rows)})
