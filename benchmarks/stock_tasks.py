"""How many of lm-eval's own multiple-choice tasks become calibration tasks, and why others do not.

Each task is constructed on a stand-in for its dataset (`stand_ins.py`) by `derive`, by the one line
beside its own settings, and in either form of its prompt; the requests of a question are made, and
its metrics must be those of calibration. What no stand-in was found for is counted by itself. No
data is loaded, no network needed.

    python benchmarks/stock_tasks.py [--families arc,glue] [--per-family 1] [--output table.md]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_EVALUATE_OFFLINE="1")

import datasets
from datasets import DatasetDict
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Entry
from lm_eval.tasks._yaml_loader import load_yaml
from stand_ins import ROOT, construct, stand_in
from stock_rows import BY_FAMILY

from calib_harness.errors import UserError
from calib_harness.harness import CalibrationTask
from calib_harness.harness.derive import Derived, derive
from calib_harness.harness.task_index import kept_index
from calib_harness.predictions.kept import default_cache

WAYS = ("derive", "one line", "cloze", "choice")
NO_STAND_IN = "no stand-in found"


def outcome(config: dict[str, Any], data: DatasetDict, form: str | None = None) -> str:
    """Return `made`, `as it is` (asked in this form already), or why not, less the task's own."""
    metadata = {**(config.get("metadata") or {}), **({"prompt": form} if form else {})}
    try:
        task = construct(CalibrationTask, {**config, "metadata": metadata}, data)
        task.set_fewshot_seed(1)
        doc = task.task_docs[0]
        context = task.fewshot_context(doc, 0)
        task.construct_requests(doc, context, metadata=(config["task"], 0, 1))
    except UserError as error:
        return f"refused: {re.sub(r'^[^:]*: ', '', str(error))}"
    except Exception as error:  # whatever it is, it is a fault of ours: lm-eval's own constructs
        return f"FAILS: {type(error).__name__}: {error}"
    metrics = set(task.aggregation())
    if not {"ece", "sce"} <= metrics:
        return f"only {', '.join(sorted(metrics))}"
    return "as it is" if form and task._form is None else "made"


def outcomes(name: str, entry: Entry, derived: Derived, known: list[dict[str, Any]]) -> list[str]:
    """Return what becomes of a stock task in each of `WAYS`."""
    try:
        config = {**load_yaml(Path(str(entry.yaml_path))), "task": name}
    except (ImportError, AttributeError) as error:
        return [f"lm-eval cannot load its YAML: {type(error).__name__}"] * len(WAYS)
    if name in derived.refused:
        return [f"refused: {derived.refused[name]}"] * len(WAYS)
    with contextlib.redirect_stdout(io.StringIO()):
        data = stand_in(config, known)
        if data is None:
            return [NO_STAND_IN] * len(WAYS)
        made = load_yaml(derived.written[f"{name}_calib"])
        return [
            outcome(made, data),
            outcome({**config, "task": f"{name}_calib"}, data),
            outcome(made, data, "cloze"),
            outcome(made, data, "choice"),
        ]


def stock_tasks(
    families: set[str] | None, per_family: int | None
) -> Iterator[tuple[str, str, Entry, dict[str, Entry]]]:
    """Yield family, name, entry and index of the tasks to construct, family by family."""
    with kept_index(default_cache()):
        index = dict(TaskManager().task_index)
    by_family: dict[str, list[str]] = defaultdict(list)
    for name, entry in index.items():
        if (entry.cfg or {}).get("output_type") == "multiple_choice":
            by_family[Path(str(entry.yaml_path)).relative_to(ROOT).parts[0]].append(name)
    for family, names in sorted(by_family.items(), key=lambda item: len(item[1])):
        if not families or family in families:
            for name in names[:per_family]:
                yield family, name, index[name], index


def survey(
    families: set[str] | None, per_family: int | None
) -> tuple[Counter[tuple[str, str]], dict[str, Counter[str]]]:
    """Count what becomes of the tasks: by way and outcome, and by family for `derive`."""
    totals: Counter[tuple[str, str]] = Counter()
    by_family: dict[str, Counter[str]] = defaultdict(Counter)
    known: dict[str, list[dict[str, Any]]] = {}
    tasks = list(stock_tasks(families, per_family))
    with tempfile.TemporaryDirectory() as folder:
        names = [name for _, name, _, _ in tasks]
        derived = derive(names, Path(folder), index=tasks[0][3])
        for family, name, entry, _ in tasks:
            rows = known.setdefault(family, list(BY_FAMILY.get(family, ())))
            found = outcomes(name, entry, derived, rows)
            print(family, name, *found, sep="\t", file=sys.stderr, flush=True)
            totals.update(zip(WAYS, found, strict=True))
            by_family[family][found[0]] += 1
    return totals, by_family


def report(totals: Counter[tuple[str, str]], by_family: dict[str, Counter[str]]) -> str:
    """Write the counts as a table, and the families that are not made whole as a list."""
    lines = ["| way | outcome | tasks |", "|---|---|---:|"]
    for (way, what), count in sorted(
        totals.items(), key=lambda item: (WAYS.index(item[0][0]), -item[1])
    ):
        lines.append(f"| {way} | {what.replace('|', ' ')} | {count} |")
    whole = sum(set(counts) == {"made"} for counts in by_family.values())
    lines.append(f"\n{len(by_family)} families, {whole} of them whole.")
    for family, counts in sorted(by_family.items()):
        if set(counts) != {"made"}:
            said = "; ".join(f"{count} {what[:110]}" for what, count in counts.most_common())
            lines.append(f"- {family}: {said}")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--families", help="comma-separated; all unless given")
    parser.add_argument("--per-family", type=int, help="at most so many tasks of a family")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    datasets.disable_progress_bars()
    datasets.disable_caching()
    start = time.process_time()
    families = set(arguments.families.split(",")) if arguments.families else None
    text = report(*survey(families, arguments.per_family))
    text += f"\n\n{time.process_time() - start:.0f} CPU seconds"
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
