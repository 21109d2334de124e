"""CPU seconds a question: stock `hf`, ours on hf, and vLLM, here and served, in both ways.

    python benchmarks/real_backends/costs.py --model MODEL --questions 50

On the same requests, in the environment of vLLM that `scripts/setup-backends` makes.
Run it from a folder that holds the benchmarks under their Hub names. CPU seconds of the process and
of the server's processes, tokenisation included; one thread (OMP_NUM_THREADS=1). Prints the largest
difference of a sum from stock `hf` too.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from pathlib import Path
from typing import Any

import requests
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from agreement import serve_vllm  # isort: skip
from trial import Trial, report, server_groups  # isort: skip

import calib_harness.harness  # noqa: F401 registers the request type
from calib_harness.harness.backends.known_answer import distance
from calib_harness.paths import task_path

WORKLOADS = {
    "ARC-Easy cloze": ("arc_easy_calib_cloze", 0),
    "ARC-Easy choice": ("arc_easy_calib_choice", 0),
    "MMLU 5-shot cloze": ("mmlu_stem_calib_cloze", 5),
    "MMLU 5-shot choice": ("mmlu_stem_calib_choice", 5),
}
#: Each way of ours beside lm-eval's own.
SIDES = {
    "ours on hf": "stock hf",
    "vLLM through us": "vLLM as lm-eval calls it",
    "served vLLM through us": "served vLLM as lm-eval asks it",
}


def requests_of(task_name: str, n_shots: int, n_questions: int) -> list[Instance]:
    manager = TaskManager(include_path=task_path(), include_defaults=False)
    task = manager.load([task_name])["tasks"][task_name]
    task.set_config("num_fewshot", n_shots)
    task.build_all_requests(limit=n_questions, rank=0, world_size=1)
    return list(task.instances)


def cpu_seconds() -> float:
    """CPU seconds so far, of this process and of the servers that it has started."""
    groups = set(server_groups())
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[2]) in groups:
            ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def measure(lm: Any, name: str, asked: list[Instance]) -> tuple[float, list[float]]:
    score = lm.token_loglikelihood if name in SIDES else lm.loglikelihood
    began = cpu_seconds()
    results = score(copy.copy(asked))
    return cpu_seconds() - began, [float(result[0]) for result in results]


def backends(model: Path, address: str) -> dict[str, Any]:
    """Return the three backends, each for lm-eval's way and for ours."""
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from lm_eval.models.vllm_causallms import VLLM

    hf = HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=8)
    engine = VLLM(
        pretrained=str(model),
        dtype="float32",
        enforce_eager=True,
        distributed_executor_backend="uni",
        max_model_len=hf.max_length,
    )
    served = LocalCompletionsAPI(
        model=str(model),
        base_url=f"{address}/v1/completions",
        num_concurrent=8,
        max_length=hf.max_length,
        tokenizer_backend="huggingface",
    )
    pairs = zip(SIDES.items(), (hf, engine, served), strict=True)
    return {name: lm for (ours, theirs), lm in pairs for name in (theirs, ours)}


def compare_costs(workload: str, sides: dict[str, Any], questions: int) -> None:
    """Score one workload in every way; print what each costs and by how much each is off."""
    asked = requests_of(*WORKLOADS[workload], questions)
    n = len({request.doc_id for request in asked})
    expected: list[float] = []
    seconds = {}
    for name, lm in sides.items():
        # Each way begins with an empty prefix cache: the one before would have filled it.
        if name.startswith("vLLM"):
            lm.model.reset_prefix_cache()
        if name.startswith("served"):
            server = lm.base_url.partition("/v1/")[0]
            requests.post(f"{server}/reset_prefix_cache", timeout=60).raise_for_status()
        seconds[name], sums = measure(lm, name, asked)
        expected = expected or sums
        worst = max(distance(a, b) for a, b in zip(sums, expected, strict=True))
        ratio = f", {seconds[SIDES[name]] / seconds[name]:.1f} x less" if name in SIDES else ""
        report(
            f"{workload}, {n} questions",
            f"{name:31} {seconds[name] / n:.4f} CPU s/question{ratio}; off by {worst:.1e}",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--workloads", nargs="*", choices=WORKLOADS, default=list(WORKLOADS))
    options = parser.parse_args()
    trial = Trial(Path.cwd().parent, options.model.parent, options.questions)
    env = Path(sys.executable).parent.parent
    # Its cache can be emptied in this mode only.
    command = serve_vllm(trial, env, "tiny")
    with trial.serve("vllm-costs", command, VLLM_SERVER_DEV_MODE="1") as address:
        sides = backends(options.model, address)
        for workload in options.workloads:
            compare_costs(workload, sides, options.questions)


if __name__ == "__main__":
    main()
