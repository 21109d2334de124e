"""Shared prefixes against stock `hf`: the same requests, alternately, in one process.

    python benchmarks/scoring.py --hub ../shared/hub --workload hellaswag-cloze
    python benchmarks/scoring.py --device cuda --dtype bfloat16 --size 1b --questions 1000

Scores real questions with a Llama of random weights (by default 6 layers x 512, vocabulary 50,304,
float32, on the CPU) and prints, per workload,

- the seconds of each repeat, tokenisation included, and the ratio of the medians; on a CPU those
  that this process computed (on all its threads), whatever else the machine does;
- the tokens each side ran the model on, padding and our check of the first questions included,
  and the fewest that any plan has to (the requests' token tree);
- peak memory: how far the process grew while that side ran. Free heap pages are given back
  before each repeat and the kernel's high-water mark is reset, so that neither side is charged
  for the other; the largest of the repeats counts (Linux only). On a GPU, the most memory that
  tensors took beside the weights;
- the largest difference of a sum, and the largest share of the difference that a run accepts as
  rounding (`scoring/support.py`): in half precision stock rounds each log-probability, too.

On a GPU each side first scores the requests once to warm up; that time is printed, not counted.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

# Before anything imports datasets: the folders of --hub stand in for the Hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_HOME", tempfile.mkdtemp(prefix="hf-"))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

import calib_harness
from calib_harness.harness.huggingface.double_check import tolerance
from calib_harness.harness.huggingface.encoding import encode_requests
from calib_harness.scoring.passes import Costs, make_plan
from calib_harness.scoring.tree import Request, build_tree, count_tokens, read_window

Sums = list[float]


@dataclass(frozen=True)
class Workload:
    """Questions, and what their scoring should reach.

    Attributes
    ----------
    tasks, stock_tasks
        What ours and stock score; the latter None where both score the same requests.
    orders
        In which orders choices are shown, if in several.
    """

    tasks: tuple[str, ...]
    questions: int
    shots: int
    least_ratio: float
    most_padding: float | None = 1.3
    stock_tasks: tuple[str, ...] | None = None
    orders: str | None = None


WORKLOADS = {
    "arc-easy-cloze": Workload(("arc_easy_calib_cloze",), 200, 0, 4),
    "hellaswag-cloze": Workload(("hellaswag_calib_cloze",), 100, 0, 2.2),
    "mmlu-cloze": Workload(("mmlu_stem_calib_cloze",), 100, 5, 15),
    "mmlu-choice": Workload(("mmlu_stem_calib_choice",), 100, 5, 7),
    "mmlu-choice-cyclic": Workload(("mmlu_stem_calib_choice",), 50, 5, 7, orders="cyclic"),
    "arc-easy-run": Workload(
        ("arc_easy_calib_cloze", "arc_easy_calib_choice"), 200, 0, 2, None, ("arc_easy",)
    ),
}


# Sizes of Llama; the second is Llama 3.2 1B's, but for the vocabulary.
SIZES = {
    "small": {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}


class Recorder(LM):
    """Stands in for a model, to learn what lm-eval asks of one."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Instance] = []

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Take note of the requests; say something finite of each, and not the same of all."""
        self.requests += requests
        return [(-1.0 - place % 7, False) for place in range(len(requests))]

    loglikelihood_rolling = loglikelihood

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Say nothing: a backend is asked for texts to be tried on its own answers."""
        return [""] * len(requests)


def clock(device: torch.device) -> float:
    """Seconds: on a CPU those that this process has computed, elsewhere those of the wall."""
    return time.process_time() if device.type == "cpu" else time.perf_counter()


@dataclass
class Side:
    """What one way of scoring took and gave."""

    name: str
    score: Callable[[], Sums]
    seconds: list[float] = field(default_factory=list)
    first: float | None = None
    tokens: int = 0
    peak: float = 0.0
    sums: Sums = field(default_factory=list)

    def run(self, model: PreTrainedModel, *, timed: bool = True) -> None:
        """Score once more."""
        # Both sides draw progress bars, stock's for every batch.
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            redirect_stderr(nowhere),
            growth(model.device) as grown,
            forwarded(model) as read,
        ):
            start = clock(model.device)
            self.sums = self.score()
            finish(model.device)
            seconds = clock(model.device) - start
        if timed:
            self.seconds.append(seconds)
        else:
            self.first = seconds
        self.tokens = read.tokens
        self.peak = max(self.peak, grown.megabytes)


class Differences(NamedTuple):
    """Largest difference of a sum, and largest share of what is accepted as rounding."""

    largest: float
    share: float


@contextmanager
def forwarded(model: torch.nn.Module) -> Iterator[SimpleNamespace]:
    """Count the tokens the model is run on."""
    read = SimpleNamespace(tokens=0)

    def count(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        read.tokens += (args[0] if args else kwargs["input_ids"]).numel()

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    yield read
    hook.remove()


def finish(device: torch.device) -> None:
    """Wait for what an accelerator still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def growth(device: torch.device) -> Iterator[SimpleNamespace]:
    """Measure by how much the process, or what it holds on a GPU, grows, at most."""
    grown = SimpleNamespace(megabytes=float("nan"))
    gc.collect()
    finish(device)
    if device.type == "cuda":
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield grown
        grown.megabytes = (torch.cuda.max_memory_allocated(device) - held) / 2**20
        return
    if not Path("/proc/self/clear_refs").exists():
        yield grown
        return
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = memory("VmRSS")
    yield grown
    grown.megabytes = memory("VmHWM") - before


def memory(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def record(
    tasks: tuple[str, ...], questions: int, shots: int, orders: str | None = None
) -> list[Instance]:
    """Return what lm-eval asks of a model for these tasks."""
    recorder = Recorder()
    evaluate(recorder, tasks, questions, shots, orders)
    return recorder.requests


@cache
def task_index(orders: str | None = None) -> TaskManager:
    """Return the index of all tasks: lm-eval's own take 6 s, and are not what is compared."""
    metadata = {} if orders is None else {"orders": orders}
    return TaskManager(include_path=calib_harness.task_path(), metadata=metadata)


def evaluate(
    lm: LM, tasks: tuple[str, ...], questions: int, shots: int, orders: str | None = None
) -> dict[str, Any]:
    return simple_evaluate(
        model=lm,
        tasks=list(tasks),
        num_fewshot=shots or None,
        limit=questions,
        task_manager=task_index(orders),
        bootstrap_iters=0 if isinstance(lm, Recorder) else 100_000,
    )


def build_model(
    vocabulary: int = 50_304,
    *,
    size: str = "small",
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=vocabulary, max_position_embeddings=2048, **SIZES[size])
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval()


def sides(lm: HFLM, workload: Workload, requests: list[Instance]) -> tuple[Side, Side]:
    if workload.stock_tasks is None:
        return (
            Side("stock", lambda: [logprob for logprob, _ in lm.loglikelihood(requests)]),
            Side("ours", lambda: [r.logprob for r in lm.token_loglikelihood(requests)]),
        )

    def whole_run(tasks: tuple[str, ...]) -> Sums:
        results = evaluate(lm, tasks, workload.questions, workload.shots)
        return [
            float(answer[0][0])
            for sample in results["samples"][tasks[0]]
            if sample["filter"] == results["samples"][tasks[0]][0]["filter"]
            for answer in sample["resps"]
        ]

    stock_tasks = workload.stock_tasks
    return (
        Side("stock", lambda: whole_run(stock_tasks)),
        Side("ours", lambda: whole_run(workload.tasks)),
    )


def read_requests(lm: HFLM, requests: list[Instance]) -> list[Request]:
    return [Request(*item[1:]) for item in encode_requests(lm, [r.args for r in requests])]


def compare(
    stock: Side, ours: Side, dtype: torch.dtype, continuations: Sequence[Sequence[int]]
) -> Differences:
    found = [abs(a - b) for a, b in zip(stock.sums, ours.sums, strict=True)]
    allowed = [tolerance(dtype, len(tokens)) for tokens in continuations]
    return Differences(max(found), max(d / a for d, a in zip(found, allowed, strict=True)))


def run(lm: HFLM, name: str, workload: Workload, repeats: int) -> bool:
    """Measure a workload; return whether it reached its floors."""
    requests = record(workload.tasks, workload.questions, workload.shots, workload.orders)
    stock, ours = sides(lm, workload, requests)
    if lm.device.type != "cpu":
        for side in (stock, ours):
            side.run(lm.model, timed=False)
    for _ in range(repeats):
        for side in (stock, ours):
            side.run(lm.model)
    ratio = statistics.median(stock.seconds) / statistics.median(ours.seconds)
    encoded = read_requests(lm, requests)
    bound = make_plan(encoded, max_length=lm.max_length, costs=Costs(0, 0, 0)).bound
    padding = ours.tokens / bound
    compared = [
        continuation
        for request, (_, continuation) in zip(requests, encoded, strict=True)
        if request.task_name == workload.tasks[0]  # a whole run's sums are its first task's
    ]
    difference = compare(stock, ours, lm.model.dtype, compared)

    print(
        f"{name}: {workload.questions} questions, {len(requests)} requests, {workload.shots}-shot"
    )
    for side in (stock, ours):
        times = " ".join(f"{value:.2f}" for value in side.seconds)
        times += "" if side.first is None else f"; first {side.first:.2f}"
        print(
            f"  {side.name:6}{statistics.median(side.seconds):8.2f} s ({times})"
            f"{side.tokens:10,} tokens   peak memory +{side.peak:,.0f} MB"
        )
    print(f"  ratio {ratio:.2f} (floor {workload.least_ratio:g})")
    ceiling = "" if workload.most_padding is None else f" (ceiling {workload.most_padding})"
    print(f"  tree bound {bound:,} tokens; ours / bound {padding:.3f}{ceiling}")
    print(
        f"  largest difference of a sum {difference.largest:.1e} (of {len(ours.sums)}), "
        f"{difference.share:.2f} of what is accepted as rounding",
        flush=True,
    )
    return (
        ratio >= workload.least_ratio
        and (workload.most_padding is None or padding <= workload.most_padding)
        and difference.share <= 1
        and not ours.peak > stock.peak
    )


def count(lm: HFLM, name: str, workload: Workload) -> None:
    """Print what a workload asks, without running the model."""
    requests = record(workload.tasks, workload.questions, workload.shots, workload.orders)
    read = read_requests(lm, requests)
    alone = sum(len(read_window(one, lm.max_length)) for one in read)
    bound = count_tokens(build_tree(read, max_length=lm.max_length))
    print(
        f"{name:18} {workload.questions:4} questions {len(requests):6,} requests   each alone "
        f"{alone:10,} tokens   tree bound {bound:8,}   ratio {alone / bound:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hub", type=Path, default=Path("../shared/hub"))
    parser.add_argument(
        "--tokenizer", type=Path, default=None, help="GPT-2's, by default beside it"
    )
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="all by default")
    parser.add_argument("--questions", type=int, help="per workload, by default 50 to 200")
    parser.add_argument("--count", action="store_true", help="requests and tokens only")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--size", default="small", choices=SIZES, help="of the model")
    args = parser.parse_args()
    tokenizer = (args.tokenizer or args.hub.parent / "tokenizers" / "gpt2").absolute()
    for needed in (args.hub, tokenizer):
        if not needed.is_dir():
            sys.exit(
                f"{needed} is not a folder. --hub must name a folder of datasets laid out as the "
                "Hub has them (allenai/ai2_arc, Rowan/hellaswag, cais/mmlu), --tokenizer GPT-2's."
            )
    os.chdir(args.hub)  # lm-eval loads a folder named like a Hub dataset in its place
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
    lm = HFLM(
        pretrained=build_model(
            size=args.size, device=args.device, dtype=getattr(torch, args.dtype)
        ),
        tokenizer=AutoTokenizer.from_pretrained(tokenizer),
        batch_size=args.batch_size,
        device=args.device,
    )
    workloads = {name: WORKLOADS[name] for name in args.workload or WORKLOADS}
    if args.questions:
        workloads = {
            name: replace(workload, questions=args.questions)
            for name, workload in workloads.items()
        }
    if args.count:
        for name, workload in workloads.items():
            count(lm, name, workload)
        return
    reached = [run(lm, name, workload, args.repeats) for name, workload in workloads.items()]
    sys.exit(0 if all(reached) else 1)


if __name__ == "__main__":
    main()
