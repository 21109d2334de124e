"""CPU seconds a question: stock `hf`, ours on hf, vLLM as lm-eval calls it, vLLM through us.

    python benchmarks/backends.py --model MODEL --questions 50

All in one process, on the same requests, in the environment that `scripts/test-backends` makes: it
has a vLLM for CPUs. Run it from a folder that holds the benchmarks under their Hub names. CPU
seconds of the process, tokenisation included; one thread (OMP_NUM_THREADS=1). Prints the largest
difference of a sum from stock `hf` too.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

import calib_harness.harness  # noqa: F401 registers the request type
from calib_harness.paths import task_path

WORKLOADS = {
    "ARC-Easy cloze": ("arc_easy_calib_cloze", 0),
    "ARC-Easy choice": ("arc_easy_calib_choice", 0),
    "MMLU 5-shot cloze": ("mmlu_stem_calib_cloze", 5),
    "MMLU 5-shot choice": ("mmlu_stem_calib_choice", 5),
}
LM_EVAL = {"stock hf", "vLLM as lm-eval calls it"}


def requests_of(task_name: str, n_shots: int, n_questions: int) -> list[Instance]:
    manager = TaskManager(include_path=task_path(), include_defaults=False)
    task = manager.load([task_name])["tasks"][task_name]
    task.set_config("num_fewshot", n_shots)
    task.build_all_requests(limit=n_questions, rank=0, world_size=1)
    return list(task.instances)


def measure(lm: Any, name: str, requests: list[Instance]) -> tuple[float, list[float]]:
    score = lm.loglikelihood if name in LM_EVAL else lm.token_loglikelihood
    began = time.process_time()
    results = score(copy.copy(requests))
    return time.process_time() - began, [float(result[0]) for result in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--workloads", nargs="*", choices=WORKLOADS, default=list(WORKLOADS))
    options = parser.parse_args()

    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.vllm_causallms import VLLM

    hf = HFLM(pretrained=str(options.model), device="cpu", dtype="float32", batch_size=8)
    engine = VLLM(
        pretrained=str(options.model),
        dtype="float32",
        enforce_eager=True,
        distributed_executor_backend="uni",
        max_model_len=hf.max_length,
    )
    sides = {
        "stock hf": hf,
        "ours on hf": hf,
        "vLLM as lm-eval calls it": engine,
        "vLLM through us": engine,
    }
    for workload in options.workloads:
        task, n_shots = WORKLOADS[workload]
        requests = requests_of(task, n_shots, options.questions)
        n = len({request.doc_id for request in requests})
        expected: list[float] = []
        seconds = {}
        for name, lm in sides.items():
            if lm is engine:
                engine.model.reset_prefix_cache()
            seconds[name], sums = measure(lm, name, requests)
            expected = expected or sums
            worst = max(abs(a - b) for a, b in zip(sums, expected, strict=True))
            per_question = seconds[name] / n
            print(f"{workload:20} {name:26} {per_question:8.4f} s/question, off by {worst:.1e}")
        ratio = seconds["vLLM as lm-eval calls it"] / seconds["vLLM through us"]
        print(f"{workload:20} lm-eval's way / ours on vLLM: {ratio:.1f}", flush=True)


if __name__ == "__main__":
    main()
