"""Shared prefixes against whole texts, by family: tokens run and time, tiny models, alternately.

    python benchmarks/ratios.py [--hub ../shared/hub] [--questions 60]

Real ARC-Easy questions (bytes as tokens), cloze, without shots and with three of them. Stock's way
is rows of whole texts, longest first, 16 a batch, with logits at the continuations only. Both sides
run alternately on one thread; CPU seconds, the median of the repeats' ratios.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent))

import pyarrow.parquet as pq
import torch
from torch import nn

from benchmarks.architectures import build
from calib_harness.scoring.engine import Counts, budget_for, score
from calib_harness.scoring.support import find_ability
from calib_harness.scoring.tree import Request

KINDS = {
    "Llama": "llama",
    "Qwen3.5": "qwen3_5_text",
    "Granite 4 hybrid": "granitemoehybrid",
    "Gemma 3n": "gemma3n_text",
    "gpt-oss": "gpt_oss",
    "DeepSeek-V3": "deepseek_v3",
    "Mamba": "mamba",
}
BATCH_SIZE, MAX_LENGTH = 16, 2048


def read_requests(hub: Path, questions: int, shots: int) -> list[Request]:
    """Read requests of ARC-Easy's cloze prompt, in bytes shifted past the special tokens."""
    file = hub / "allenai" / "ai2_arc" / "ARC-Easy" / "test.parquet"
    docs = pq.read_table(file).slice(0, questions + shots).to_pylist()

    def prompt(doc: dict) -> str:
        return f"Question: {doc['question']}\nAnswer:"

    def right(doc: dict) -> str:
        choices = doc["choices"]
        return choices["text"][choices["label"].index(doc["answerKey"])]

    def tokens(text: str) -> list[int]:
        return [3 + byte % 250 for byte in text.encode()]

    before = "".join(f"{prompt(doc)} {right(doc)}\n\n" for doc in docs[:shots])
    return [
        Request(tokens(before + prompt(doc)), tokens(" " + choice))
        for doc in docs[shots:]
        for choice in doc["choices"]["text"]
    ]


def score_plainly(model: nn.Module, requests: Sequence[Request]) -> list[list[float]]:
    """Score whole texts in batches; see the module's first lines."""
    order = sorted(range(len(requests)), key=lambda i: -sum(map(len, requests[i])))
    results: list[list[float]] = [[]] * len(requests)
    for first in range(0, len(order), BATCH_SIZE):
        part = order[first : first + BATCH_SIZE]
        rows = [torch.tensor([*requests[i].context, *requests[i].continuation][:-1]) for i in part]
        inputs = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        with torch.no_grad():
            logits = model(input_ids=inputs, use_cache=False).logits
        for row, i, own in zip(logits, part, rows, strict=True):
            wanted = torch.tensor(requests[i].continuation)
            there = torch.log_softmax(row[len(own) - len(wanted) : len(own)].float(), dim=-1)
            results[i] = there[torch.arange(len(wanted)), wanted].tolist()
    return results


def measure(kind: str, requests: Sequence[Request], repeats: int) -> tuple[float, float, float]:
    """Tokens run ÷ tree, time ÷ plain, and the largest difference of a token."""
    model = build(kind)
    ability = find_ability(model, longest=MAX_LENGTH)
    budget = budget_for(BATCH_SIZE, requests, MAX_LENGTH)
    ratios = []
    for _ in range(repeats):
        start = time.process_time()
        plain = score_plainly(model, requests)
        middle = time.process_time()
        counts = Counts()
        shared = dict(
            score(
                model, requests, ability=ability, budget=budget, max_length=MAX_LENGTH,
                counts=counts,
            )
        )  # fmt: skip
        ratios.append((time.process_time() - middle) / (middle - start))
    error = max(
        abs(a - b)
        for i, row in enumerate(plain)
        for a, b in zip(row, shared[i].token_logprobs, strict=True)
    )
    return counts.forwarded / counts.bound, statistics.median(ratios), error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hub", type=Path, default=Path("../shared/hub"))
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print("| family | shots | tokens run ÷ tree | time ÷ plain | largest difference |")
    print("|---|---|---|---|---|")
    for name, kind in KINDS.items():
        for shots in (0, 3):
            requests = read_requests(args.hub, args.questions, shots)
            tokens, ratio, error = measure(kind, requests, args.repeats)
            print(f"| {name} | {shots} | {tokens:.2f} | {ratio:.2f} | {error:.0e} |", flush=True)


if __name__ == "__main__":
    main()
