"""What calibration costs: our task against the stock one, alternately, in one process.

    cd HUB && HF_HUB_OFFLINE=1 python CHECKOUT/benchmarks/cost.py --model MODEL

Runs lm-eval's `arc_easy` and our `arc_easy_calib_cloze` on the same questions, filters, metrics
and standard errors included, and prints the median seconds of each and their ratio. The plain
path is the fair comparison; `auto` shows what users get.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import time

import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import calib_harness


def seconds(lm: HFLM, manager: TaskManager, task: str, limit: int | None) -> float:
    start = time.perf_counter()
    simple_evaluate(model=lm, tasks=[task], task_manager=manager, limit=limit)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder or Hub name of a causal model")
    parser.add_argument("--limit", type=int, default=None, help="questions (all by default)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)

    lm = HFLM(pretrained=args.model, batch_size=args.batch_size, device="cpu")
    manager = TaskManager(include_path=calib_harness.task_path())
    sides = {
        "stock arc_easy": ("arc_easy", "plain"),
        "ours, plain": ("arc_easy_calib_cloze", "plain"),
        "ours, auto": ("arc_easy_calib_cloze", "auto"),
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(args.repeats):
        for side, (task, scoring) in sides.items():
            os.environ["CALIB_HARNESS_SCORING"] = scoring
            times[side].append(seconds(lm, manager, task, args.limit))
    stock = statistics.median(times["stock arc_easy"])
    for side, values in times.items():
        median = statistics.median(values)
        print(f"{side:16} {median:8.2f} s   {median / stock:5.2f} x stock   {len(values)} runs")


if __name__ == "__main__":
    main()
