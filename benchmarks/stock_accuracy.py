"""Whether a derived task's accuracy is the stock task's, under a real model, to the last digit.

    python benchmarks/stock_accuracy.py --hub HUB --model MODEL [--limit 200] [--tasks 'arc_*,piqa']

Every multiple-choice task of lm-eval whose dataset is a folder of the hub is scored twice on the
same questions: as lm-eval has it, by stock `hf`, and as `derive` makes it. `acc` is compared with
that under `continuation-sum` or `choice`, and so are `acc_norm` and `acc_bytes` where both have
them; a difference of one question is one.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from lm_eval.utils import pattern_match

from calib_harness.harness.derive import derive

AT_ONCE = 20
METRICS = ("acc", "acc_norm", "acc_bytes")
METHODS = ("continuation-sum", "choice")


def with_data(hub: Path, manager: TaskManager) -> list[str]:
    """Names of the multiple-choice tasks whose dataset lies in the hub."""
    found = []
    for name, entry in manager.task_index.items():
        if (entry.cfg or {}).get("output_type") != "multiple_choice" or entry.yaml_path is None:
            continue
        config = load_yaml(Path(entry.yaml_path), resolve_func=False)
        if (hub / str(config.get("dataset_path"))).is_dir():
            found.append(name)
    return found


def compared(
    lm: HFLM, names: Sequence[str], manager: TaskManager, derived: dict[str, list[str]], limit: int
) -> Iterator[tuple[str, str, float, float, int]]:
    """Yield task, metric, stock value, ours and the number of questions."""
    wanted = [each for name in names for each in (name, *derived[name])]
    evaluated: Any = lm_eval.simple_evaluate(
        lm, tasks=wanted, task_manager=manager, limit=limit, bootstrap_iters=0, log_samples=False
    )
    results = evaluated["results"]
    for name in names:
        [made] = derived[name]
        for metric in METRICS:
            stock = results[name].get(f"{metric},none")
            ours = [results[made].get(f"{metric},{method}") for method in METHODS]
            values = [value for value in ours if value is not None]
            if stock is not None and values:
                n = evaluated["n-samples"][name]["effective"]
                yield name, metric, stock, values[0], n


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hub", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--tasks", help="comma-separated patterns; all unless given")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    logging.disable(logging.WARNING)
    start = time.process_time()
    model = str(arguments.model.resolve())
    os.chdir(arguments.hub)  # a folder of a dataset's name is loaded in its place
    manager = TaskManager()
    names = with_data(Path(), manager)
    if arguments.tasks:
        names = pattern_match(arguments.tasks.split(","), names)
    lm = HFLM(pretrained=model, device="cpu", batch_size=32, dtype="float32")
    counts = {"compared": 0, "equal": 0, "questions": 0}
    with tempfile.TemporaryDirectory() as folder:
        derived = derive(names, Path(folder), index=manager.task_index).tasks
        both = TaskManager(include_path=folder)
        for first in range(0, len(names), AT_ONCE):
            part = names[first : first + AT_ONCE]
            for name, metric, stock, ours, n in compared(lm, part, both, derived, arguments.limit):
                counts["compared"] += 1
                counts["equal"] += stock == ours
                counts["questions"] += n * (metric == "acc")
                if stock != ours or not name.startswith("mmlu_"):
                    print(name, metric, n, stock, ours, "" if stock == ours else "DIFFERS")
    print(f"{len(names)} tasks, {counts}, {time.process_time() - start:.0f} CPU seconds")


if __name__ == "__main__":
    main()
