"""Real vLLM and llama.cpp against hf, and what faults between lm-eval and a server cost.

    scripts/test-backends            installs both and runs this
    python benchmarks/real_backends --vllm ENV --llama ENV --shared ../shared --work DIR

ENV are environments as `scripts/setup-backends` makes them; a part whose environment is missing is
left out and said to be. Models: a Llama of random weights (head size 64, GPT-2's tokenizer) on
ARC-Easy, and the toy world's base model on its own task, all in single precision. For each backend:
the largest difference of a sum, of a token and of a choice's least token from hf, and how many
printed values differ in their last digit. For each fault: what is printed, what is scored twice,
what comes out. Then CPU seconds a question.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from agreement import (  # isort: skip
    serve_vllm,
    try_hf,
    try_llama_cpp,
    try_vllm,
    try_vllm_server,
)
from faults import try_faults  # isort: skip
from trial import ROOT, Trial, report  # isort: skip

PARTS = ("vllm", "server", "faults", "llama", "costs")


def try_server(trial: Trial, env: Path) -> None:
    """Serve each model in turn, and score on it."""
    for model in ("toy", "tiny"):
        with trial.serve("vllm", serve_vllm(trial, env, model)) as address:
            try_vllm_server(trial, address, model)


def try_all_faults(trial: Trial, env: Path) -> None:
    """Serve one model, and let everything happen to it."""
    command = serve_vllm(trial, env, "tiny")
    with ExitStack() as first, ExitStack() as second:
        address = first.enter_context(trial.serve("vllm-faults", command))

        def restart() -> str:
            trial.kill_servers()
            return second.enter_context(trial.serve("vllm-again", command))

        try_faults(trial, address, restart)


def try_costs(trial: Trial, env: Path, questions: Sequence[int]) -> None:
    """Measure CPU seconds a question, in vLLM's environment."""
    costs = Path(__file__).with_name("costs.py")
    command = [str(env / "bin" / "python"), "-W", "ignore", str(costs)]
    command += ["--model", str(trial.models["tiny"])]
    for n in questions:
        subprocess.run(
            [*command, "--questions", str(n)],
            cwd=trial.shared / "hub",
            env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
            check=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vllm", type=Path)
    parser.add_argument("--llama", type=Path)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    trial = Trial(options.shared.resolve(), options.work.resolve(), options.questions)
    trial.make_tiny()
    try_hf(trial)
    for part in options.parts:
        env = options.llama if part == "llama" else options.vllm
        if env is None:
            report(part, "left out: no environment was given")
        elif part == "costs":
            try_costs(trial, env.resolve(), (50, 200))
        else:
            _TRIES[part](trial, env.resolve())


_TRIES = {
    "vllm": try_vllm,
    "server": try_server,
    "faults": try_all_faults,
    "llama": try_llama_cpp,
}

if __name__ == "__main__":
    main()
