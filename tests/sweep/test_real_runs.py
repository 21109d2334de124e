"""Sweeps of real models through lm-eval: absent, with NaN weights, killed in mid-task."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from calib_harness.sweep.commands import run_sweep

MODEL = Path(__file__).parents[3] / "shared" / "models" / "stories260K"
QUESTIONS = 30
BATCH = 8
SECRET = "hf_abcdefghijklmnop"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODEL.is_dir(), reason="../shared/models/stories260K is not here"),
]

TASK = """
task: story_calib
class: !function calib_harness.CalibrationTask
dataset_path: json
dataset_kwargs:
  data_files:
    test: questions.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{gold}}"
"""


FACTORS = {"base": 1.0, "aligned": 1.05, "broken": float("nan"), "late": 1.02}


def make_model(folder: Path, factor: float) -> None:
    """Write the model with its weights multiplied by a factor."""
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    for file in MODEL.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
            continue
        weights = {key: value * factor for key, value in load_file(file).items()}
        save_file(weights, folder / file.name, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with a task, a spec of four models, and three of these (one with NaN weights)."""
    root = tmp_path_factory.mktemp("world")
    (root / "tasks").mkdir()
    (root / "tasks" / "story_calib.yaml").write_text(TASK)
    with (root / "questions.jsonl").open("w") as stream:
        for number in range(QUESTIONS):
            question = f"Once upon a time there was a little girl who had {number} toys. She"
            choices = [" was happy", " went to the park", " said no"]
            line = {"question": question, "choices": choices, "gold": number % 3}
            stream.write(json.dumps(line) + "\n")
    for name in ("base", "aligned", "broken"):
        make_model(root / name, FACTORS[name])
    spec = {
        "output": "out",
        "tasks": ["story_calib"],
        "include_path": "tasks",
        "working_dir": ".",
        "defaults": {"dtype": "float32", "batch_size": BATCH, "device": "cpu"},
        "models": [
            {"id": "./base", "family": "story", "stage": "base"},
            {"id": "./late", "family": "other", "stage": "base"},
            {"id": "./broken", "family": "broken", "stage": "base"},
            {"id": "./aligned", "family": "story", "stage": "aligned"},
        ],
        "environment": {"set": {"HF_HUB_OFFLINE": 1, "OMP_NUM_THREADS": 1}},
        "execution": {"backoff": 0.1, "workers": 2},
    }
    (root / "spec.yaml").write_text(yaml.safe_dump(spec))
    return root


def carry_out(world, output: str) -> tuple[int, str]:
    """Run the sweep into a folder; return its status and what it printed."""
    launcher = [sys.executable, str(Path(__file__).with_name("real_run.py"))]
    with pytest.MonkeyPatch.context() as patch, open(os.devnull, "w") as nowhere:
        patch.setenv("COUNTER", str(world / f"{output}-scored"))
        patch.setenv("KILL_AT", str(world / f"{output}-kill"))
        patch.setenv("HF_HOME", str(world / "hf"))
        patch.setenv("CALIB_HARNESS_CACHE", str(world / "cache"))
        patch.setenv("HF_TOKEN", SECRET)
        console = Console(width=200, record=True, file=nowhere)
        status = run_sweep(
            world / "spec.yaml", output=str(world / output), console=console, launcher=launcher
        )
    return status, console.export_text()


def tables(world, output: str) -> dict[str, list[dict[str, str]]]:
    """Return a sweep's tables without dates."""
    found = {}
    for path in (world / output / "tables").glob("*.csv"):
        rows = csv.DictReader(path.read_text().splitlines())
        found[path.name] = [
            {key: value for key, value in row.items() if key not in ("date", "source")}
            for row in rows
        ]
    return found


def scored(world, output: str) -> Counter:
    return Counter((world / f"{output}-scored").read_text().splitlines())


@pytest.fixture(scope="module")
def with_absent_model(world) -> str:
    """What a sweep printed of whose models one is not there."""
    status, told = carry_out(world, "whole")
    assert status == 1, told
    return told


@pytest.fixture(scope="module")
def whole(world, with_absent_model) -> str:
    """What the same sweep printed when the model had come."""
    make_model(world / "late", FACTORS["late"])
    status, told = carry_out(world, "whole")
    assert status == 0, told
    return told


def test_model_that_does_not_exist_fails_and_the_rest_completes(with_absent_model):
    assert "3 finished, 1 failed" in with_absent_model
    assert "FAILED late" in with_absent_model
    assert "the model or its revision does not exist" in with_absent_model
    assert "retry" not in with_absent_model


def test_second_start_finishes_only_what_was_missing(world, whole, note_fault):
    assert "4 runs: 3 finished, 1 waiting" in whole
    assert "1 finished, 0 failed; 1 process" in whole
    assert set(scored(world, "whole").values()) == {1}
    note_fault("real models: one does not exist, one gives NaN", scored(world, "whole"))


def test_model_with_nan_weights_is_finished_and_counted(world, whole):
    rows = [row for row in tables(world, "whole")["metrics.csv"] if row["family"] == "broken"]
    assert rows
    assert {row["n_unusable"] for row in rows} == {str(QUESTIONS)}
    assert {row["ece"] for row in rows} == {""}


def test_token_of_the_environment_is_in_no_file_of_a_real_sweep(world, whole):
    files = [path for path in (world / "whole").rglob("*") if path.is_file()]
    assert any(path.name.startswith("results_") for path in files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_run_killed_in_the_middle_of_a_task_repeats_a_batch_at_most(world, whole, note_fault):
    for finished in (world / "whole" / "runs").iterdir():
        if not finished.name.startswith("base"):  # the others are not what this is about
            shutil.copytree(finished, world / "killed" / "runs" / finished.name)
    (world / "killed-kill").write_text(str(5 * BATCH + 3))
    status, told = carry_out(world, "killed")
    assert status == 0, told
    assert "killed (SIGKILL" in told
    assert f"{5 * BATCH + 3} taken from earlier attempts" in told
    difference = largest_difference(tables(world, "killed"), tables(world, "whole"))
    # What is left of a task falls into other batches, which changes the last digits of float32.
    assert difference < 1e-4
    counts = scored(world, "killed")
    note_fault(f"real model: kill -9 in the middle of a task ({difference:.0e} apart)", counts)
    assert counts.keys() == {
        request for request in scored(world, "whole") if request.startswith("base")
    }
    # A request is noted once it is in the cache; up to a batch may have been in flight besides.
    assert set(counts.values()) == {1}


def largest_difference(tables: dict, others: dict) -> float:
    """Return the largest difference of a number; everything else must be equal."""
    assert tables.keys() == others.keys()
    largest = 0.0
    for name, rows in tables.items():
        assert len(rows) == len(others[name])
        for row, other in zip(rows, others[name], strict=True):
            assert row.keys() == other.keys()
            for key, value in row.items():
                try:
                    largest = max(largest, abs(float(value) - float(other[key])))
                except ValueError:
                    assert value == other[key]
    return largest
