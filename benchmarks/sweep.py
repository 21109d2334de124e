"""What a sweep costs beside the runs that it starts: planning, waiting, tables.

    python benchmarks/sweep.py [--runs 20]

Plans a spec of a thousand runs, then carries out runs of a trivial task (ten questions, a model of
a million parameters) one after the other, and compares the time inside their processes with the
time on the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import yaml
from rich.console import Console

from calib_harness.sweep.plan import make_plan
from calib_harness.sweep.state import run_states
from calib_harness.sweep.sweep import run_sweep

MODEL = Path(__file__).parents[1] / "examples" / "toy_world" / "models" / "base"


def time_planning(folder: Path, runs: int) -> float:
    models = [
        {"id": f"org/model-{number}", "family": f"family-{number // 2}", "dtype": "bfloat16"}
        for number in range(runs)
    ]
    spec = {"output": "plan", "tasks": ["calib_paper", "arc_easy", "mmlu"], "models": models}
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(spec))
    began = time.perf_counter()
    plan = make_plan(path)
    assert len(run_states(plan)) == runs
    return time.perf_counter() - began


def time_sweep(folder: Path, runs: int) -> tuple[float, float]:
    """Return the seconds on the clock and the seconds inside the runs' processes."""
    models = [{"id": str(MODEL), "seed": number} for number in range(runs)]
    spec = {
        "output": "out",
        "tasks": ["toy_world_calib_choice"],
        "models": models,
        "defaults": {"dtype": "float32", "device": "cpu", "limit": 10, "batch_size": 10},
        "environment": {"set": {"HF_HUB_OFFLINE": 1}},
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(spec))
    began = time.perf_counter()
    status = run_sweep(path, console=Console(quiet=True))
    wall = time.perf_counter() - began
    assert status == 0
    manifests = (folder / "out" / "runs").glob("*/manifest.json")
    return wall, sum(json.loads(manifest.read_text())["seconds"] for manifest in manifests)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--plan", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["CALIB_HARNESS_CACHE"] = str(Path(name) / "cache")
        times = sorted(time_planning(Path(name), options.plan) for _ in range(3))
        print(f"planning {options.plan:,} runs: {times[1]:.2f} s (median of 3; at most 2 s)")
        wall, inside = time_sweep(Path(name), options.runs)
        outside = wall - inside
        print(
            f"{options.runs} runs: {wall:.1f} s, of them {inside:.1f} s inside lm-eval processes; "
            f"outside {outside:.2f} s, {100 * outside / wall:.2f} % (at most 2 %)"
        )


if __name__ == "__main__":
    main()
