"""Tokenising 5-shot MMLU: lm-eval's loop against ours, alternately, in one process.

    python benchmarks/tokenising.py --hub ../shared/hub

Builds the 5-shot cloze prompts of all 14,042 MMLU questions once (not timed), then encodes them as
stock `loglikelihood` does and as ours does, and prints the seconds of each repeat, the ratio of
the medians, the same for CPU time, and whether the tokens are equal. The other tokenizers take
every tenth question, for information. Exit status 1: GPT-2's ratio is below its floor, or tokens
differ anywhere.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# First, so that it sets the environment before anything imports datasets or tokenizers.
from scoring import build_model, record  # isort: skip

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer

from calib_harness.harness.huggingface.encoding import encode_requests

TASKS = tuple(
    f"mmlu_{category}_calib_cloze"
    for category in ("stem", "other", "social_sciences", "humanities")
)
QUESTIONS = 14_042
FLOOR = 4.0
TOY_WORLD = Path(__file__).parent.parent / "examples" / "toy_world" / "models" / "base"

Tokens = list[tuple[list[int], list[int]]]


class Encoder(HFLM):
    """Stock `hf` up to the forward pass: its `loglikelihood` returns the tokens."""

    def _loglikelihood_tokens(self, requests: list[Any], *_: Any, **__: Any) -> Tokens:
        return [(context, continuation) for _, context, continuation in requests]


def sides(lm: Encoder, requests: list[Instance]) -> dict[str, Callable[[], Tokens]]:
    pairs = [request.args for request in requests]
    return {
        "stock": lambda: lm.loglikelihood(requests, disable_tqdm=True),
        "ours": lambda: [item[1:] for item in encode_requests(lm, pairs)],
    }


def measure(lm: Encoder, requests: list[Instance], repeats: int) -> tuple[float, bool]:
    """Print the times of both sides; return the ratio and whether the tokens are equal."""
    wall: dict[str, list[float]] = {"stock": [], "ours": []}
    cpu: dict[str, list[float]] = {"stock": [], "ours": []}
    equal = True
    for _ in range(repeats):
        tokens = []
        for name, encode in sides(lm, requests).items():
            start = time.perf_counter(), time.process_time()
            tokens.append(encode())
            wall[name].append(time.perf_counter() - start[0])
            cpu[name].append(time.process_time() - start[1])
        equal = equal and tokens[0] == tokens[1]
    for name in wall:
        each = " ".join(f"{value:.2f}" for value in wall[name])
        print(
            f"  {name:6}{statistics.median(wall[name]):8.2f} s ({each}), "
            f"CPU {statistics.median(cpu[name]):.2f} s"
        )
    ratio, of_cpu = (
        statistics.median(times["stock"]) / statistics.median(times["ours"])
        for times in (wall, cpu)
    )
    print(f"  ratio {ratio:.2f}, of CPU time {of_cpu:.2f}; tokens equal: {equal}", flush=True)
    return ratio, equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hub", type=Path, default=Path("../shared/hub"))
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    shared = args.hub.absolute().parent
    gpt2 = shared / "tokenizers" / "gpt2"
    others = [shared / "tokenizers" / "gpt-neox-20b", shared / "models" / "stories260K", TOY_WORLD]
    for needed in (args.hub, gpt2, *others):
        if not needed.is_dir():
            sys.exit(
                f"{needed} is not a folder; --hub must name ../shared/hub, or one laid out so."
            )
    os.chdir(args.hub)  # lm-eval loads a folder named like a Hub dataset in its place
    logging.disable(logging.WARNING)
    requests = record(TASKS, QUESTIONS, 5)
    contexts = list(dict.fromkeys(request.args[0] for request in requests))
    tenth = set(contexts[::10])
    model = build_model()

    reached = True
    for folder in (gpt2, *others):
        lm = Encoder(
            pretrained=model, tokenizer=AutoTokenizer.from_pretrained(folder), device="cpu"
        )
        chosen = [r for r in requests if folder == gpt2 or r.args[0] in tenth]
        n_questions = len({(r.task_name, r.doc_id) for r in chosen})
        floor = f" (floor {FLOOR:g})" if folder == gpt2 else ""
        print(f"{folder.name}: {n_questions:,} questions, {len(chosen):,} requests{floor}")
        ratio, equal = measure(lm, chosen, args.repeats)
        reached = reached and equal and (folder != gpt2 or ratio >= FLOOR)
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
