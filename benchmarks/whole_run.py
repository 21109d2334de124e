"""Where the CPU seconds of a whole run go: the command from its first import to its last line.

    python benchmarks/whole_run.py --hub HUB --model MODEL --limit .05 --before OLD_CHECKOUT

Runs `calib-harness run` on the ten calibration tasks (three methods, five metrics and more with
standard errors), the same of another checkout, and stock `lm_eval` on the ten stock tasks
(accuracy only), each in a process of its own, in turn. CPU seconds of the process and of those
it starts, on one thread, so that other work on the machine changes little. A second belongs to
the innermost stage: an import while tasks are built counts as import. Each side runs once
before it is measured, which fills the caches that a user's second run finds filled.
"""

from __future__ import annotations

import argparse
import functools
import importlib._bootstrap as bootstrap  # type: ignore[import-not-found]
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

#: What is wrapped, by stage: module, and the path of the attribute in it.
STAGES = {
    "index": ["lm_eval.tasks.manager:TaskManager.__init__"],
    "load data": ["lm_eval.api.task:ConfigurableTask.download"],
    "load tasks": ["lm_eval.tasks.manager:TaskManager.load"],
    "load model": ["lm_eval.models.huggingface:HFLM.__init__"],
    "build": ["lm_eval.api.task:Task.build_all_requests"],
    "tokenise": [
        "lm_eval.models.huggingface:HFLM._encode_pair",
        "calib_harness.harness.huggingface.plain:encode_requests",
    ],
    "score": [
        "lm_eval.api.model:TemplateLM.loglikelihood",
        "lm_eval.api.model:LM.token_loglikelihood",
    ],
    "metrics": ["lm_eval.evaluator:evaluate"],
    "environment": [
        "lm_eval.evaluator:add_env_info",
        "lm_eval.evaluator:get_git_commit_hash",
    ],
    "write": [
        "lm_eval.loggers.evaluation_tracker:EvaluationTracker.save_results_aggregated",
        "lm_eval.loggers.evaluation_tracker:EvaluationTracker.save_results_samples",
    ],
}
ORDER = ["import", *STAGES, "rest"]
STOCK = (
    "arc_easy,arc_challenge,hellaswag,piqa,sciq,medmcqa,"
    "mmlu_stem,mmlu_other,mmlu_social_sciences,mmlu_humanities"
)


class Clock:
    """CPU seconds by stage; each belongs to the innermost stage that has begun."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack, self._since = ["rest"], 0.0

    def charge(self) -> None:
        """Add what has passed since the last call to the innermost stage."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        now = time.process_time() + children.ru_utime + children.ru_stime
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its seconds, without those of stages in it, are a stage's."""

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self.charge()
            self._stack.append(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self.charge()
                self._stack.pop()

        return wrapper


def watch(clock: Clock) -> None:
    """Time every import, and wrap what `STAGES` names as soon as it exists."""
    pending = {(stage, place) for stage, places in STAGES.items() for place in places}
    load = bootstrap._find_and_load
    timed = clock.timed("import", load)

    def find_and_load(name: str, import_: Any) -> Any:
        module = timed(name, import_)
        for stage, place in list(pending):
            module_name, _, path = place.partition(":")
            *owners, attribute = path.split(".")
            owner = functools.reduce(
                lambda found, part: getattr(found, part, None), owners, sys.modules.get(module_name)
            )
            if owner is not None and hasattr(owner, attribute):
                setattr(owner, attribute, clock.timed(stage, getattr(owner, attribute)))
                pending.discard((stage, place))
        return module

    bootstrap._find_and_load = find_and_load


def run_watched(report: str, program: str, arguments: list[str]) -> None:
    """Run one command in this process and write its seconds by stage."""
    clock = Clock()
    watch(clock)
    sys.argv = [program, "run", *arguments]
    try:
        if program == "lm_eval":
            from lm_eval.__main__ import cli_evaluate as main
        else:
            from calib_harness.cli import main
        main()
    except SystemExit as ended:
        if ended.code:
            raise
    finally:
        clock.charge()
        Path(report).write_text(json.dumps(clock.seconds))


def measure(side: str, args: argparse.Namespace) -> dict[str, float]:
    """Seconds by stage of one run of a side, in a process of its own."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": str(args.before if side == "before" else Path(__file__).parents[1]),
    }
    program, tasks = ("lm_eval", STOCK) if side == "stock" else ("calib-harness", "calib_paper")
    with TemporaryDirectory() as folder:
        report = Path(folder, "seconds.json")
        command = [sys.executable, __file__, "--watched", str(report), program]
        command += ["--model", "hf", "--model_args", f"pretrained={args.model.resolve()}"]
        command += ["--tasks", tasks, "--device", "cpu", "--batch_size", "16"]
        command += ["--output_path", folder, "--log_samples"]
        command += ["--limit", str(args.limit)] if args.limit else []
        done = subprocess.run(command, cwd=args.hub, env=environment, capture_output=True)
        if done.returncode:
            sys.exit(done.stderr.decode()[-3000:])
        seconds: dict[str, float] = json.loads(report.read_text())
    return seconds


def main() -> None:
    if sys.argv[1:2] == ["--watched"]:
        run_watched(sys.argv[2], sys.argv[3], sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hub", type=Path, required=True, help="folder that holds the datasets")
    parser.add_argument("--model", type=Path, required=True, help="folder of a causal model")
    parser.add_argument("--before", type=Path, help="another checkout to compare with")
    parser.add_argument("--limit", help="of each task: a share, such as .05; all by default")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warm", action="store_true", help="caches are filled already")
    args = parser.parse_args()

    sides = ["stock", *(["before"] if args.before else []), "ours"]
    if not args.warm:
        for side in sides:
            measure(side, args)
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(args.repeats):
        for side in sides:
            runs[side].append(measure(side, args))
    print("| CPU seconds | " + " | ".join(sides) + " |")
    print("|---|" + "---:|" * len(sides))
    for stage in ORDER:
        print(f"| {stage} | " + " | ".join(_cell(runs[side], stage) for side in sides) + " |")
    totals = [statistics.median(sum(run.values()) for run in runs[side]) for side in sides]
    print("| whole run | " + " | ".join(f"{total:.1f}" for total in totals) + " |")


def _cell(runs: list[dict[str, float]], stage: str) -> str:
    seconds = statistics.median(run.get(stage, 0.0) for run in runs)
    return f"{seconds:.2f} ({seconds / statistics.median(sum(run.values()) for run in runs):.1%})"


if __name__ == "__main__":
    main()
