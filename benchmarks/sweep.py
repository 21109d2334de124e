"""What a sweep costs beside the runs that it starts: planning, waiting, tables.

    python benchmarks/sweep.py [--runs 20] [--plan 1000]

Two numbers:

- planning: `make_plan` and `run_states` for a spec of a thousand models on ten tasks of ours, two
  of lm-eval's; from reading the YAML to the state of every run, median of three;
- overhead: the command `calib-harness sweep run` on runs of a trivial task (ten questions, the toy
  world's base model with another seed each time), one after the other. Time on the clock is that
  of the whole command, from the start of its interpreter over planning, publishing and tables to
  its exit. Time inside is the sum over the runs of the time between the start and the end of their
  process, as their manifests give it. The difference is what the sweep costs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from calib_harness.sweep.planning.plan import make_plan
from calib_harness.sweep.showing.state import run_states

MODEL = Path(__file__).parents[1] / "examples" / "toy_world" / "models" / "base"


def write_spec(path: Path, **spec: Any) -> Path:
    path.write_text(yaml.safe_dump({"output": path.stem, **spec}))
    return path


def time_planning(folder: Path, runs: int) -> float:
    models = [
        {"id": f"org/model-{number}", "family": f"family-{number // 2}", "dtype": "bfloat16"}
        for number in range(runs)
    ]
    tasks = ["calib_paper", "arc_easy", "mmlu"]
    path = write_spec(folder / "plan.yaml", tasks=tasks, models=models)
    began = time.perf_counter()
    plan = make_plan(path)
    states = run_states(plan)
    seconds = time.perf_counter() - began
    if len(states) != runs:
        raise SystemExit(f"expected a plan of {runs} runs, got {len(states)}")
    return seconds


def time_sweep(folder: Path, runs: int) -> tuple[float, float]:
    """Return the seconds on the clock and the seconds inside the runs' processes."""
    path = write_spec(
        folder / "sweep.yaml",
        tasks=["toy_world_calib_choice"],
        models=[{"id": str(MODEL), "seed": number} for number in range(runs)],
        defaults={"dtype": "float32", "device": "cpu", "limit": 10, "batch_size": 10},
        environment={"set": {"HF_HUB_OFFLINE": 1}},
        execution={"retries": 0},
    )
    command = [sys.executable, "-m", "calib_harness", "sweep", "run", str(path), "--workers", "1"]
    began = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    if ended.returncode:
        last = "\n".join((ended.stdout + ended.stderr).splitlines()[-30:])
        raise SystemExit(
            f"the sweep ended with status {ended.returncode} after {wall:.0f} s (130: interrupted "
            "by a signal; 1: a run failed), so there is nothing to measure. It said at last:\n"
            f"{last}"
        )
    manifests = list((folder / "sweep" / "runs").glob("*/manifest.json"))
    if len(manifests) != runs:
        raise SystemExit(f"expected {runs} finished runs, got {len(manifests)}")
    return wall, sum(json.loads(manifest.read_text())["seconds"] for manifest in manifests)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a sweep costs beside its runs.")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--plan", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["CALIB_HARNESS_CACHE"] = str(Path(name) / "cache")
        times = sorted(time_planning(Path(name), options.plan) for _ in range(3))
        print(
            f"planning {options.plan:,} runs: {times[1]:.2f} s (median of 3; at most 2 s)",
            flush=True,
        )
        wall, inside = time_sweep(Path(name), options.runs)
        outside = wall - inside
        print(
            f"{options.runs} runs: {wall:.1f} s, of them {inside:.1f} s inside lm-eval processes; "
            f"outside {outside:.2f} s, {100 * outside / wall:.2f} % (at most 2 %)"
        )


if __name__ == "__main__":
    main()
