"""Tell whether what lm-eval wrote is complete.

lm-eval catches errors while it writes its results, logs a warning and ends with status 0. So a
run is believed only if its results say how many questions there were and its sample logs hold
them.
"""

from __future__ import annotations

import json
from pathlib import Path


def check_results(folder: Path) -> str | None:
    """Return what is missing from a run's results, or None if they are complete."""
    found = sorted(folder.rglob("results_*.json"))
    if not found:
        return "it ended without an error but wrote no results"
    path = found[-1]
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        counts = {task: int(count["effective"]) for task, count in results["n-samples"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return f"its results file {path.name} is damaged"
    date = path.stem.removeprefix("results")
    for task, questions in counts.items():
        samples = path.with_name(f"samples_{task}{date}.jsonl")
        if not samples.exists():
            return f"its sample log of {task} is missing"
        lines, ends_well = _count_lines(samples)
        if lines < questions or not ends_well:
            return f"its sample log of {task} holds {lines:,} of {questions:,} questions"
    return None


def _count_lines(path: Path) -> tuple[int, bool]:
    lines, last = 0, b"\n"
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines, last == b"\n"
