"""Sweeps of real models through lm-eval: killed in the middle of a task, and with NaN weights."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from calib_harness.sweep.sweep import run_sweep

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


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with three models (one of them with NaN weights), a task and a spec."""
    from safetensors.torch import load_file, save_file

    root = tmp_path_factory.mktemp("world")
    (root / "tasks").mkdir()
    (root / "tasks" / "story_calib.yaml").write_text(TASK)
    with (root / "questions.jsonl").open("w") as stream:
        for number in range(QUESTIONS):
            question = f"Once upon a time there was a little girl who had {number} toys. She"
            choices = [" was happy", " went to the park", " said no"]
            line = {"question": question, "choices": choices, "gold": number % 3}
            stream.write(json.dumps(line) + "\n")
    for name, factor in (("base", 1.0), ("aligned", 1.05), ("broken", float("nan"))):
        folder = root / name
        folder.mkdir()
        for file in MODEL.iterdir():
            if file.suffix != ".safetensors":
                (folder / file.name).write_bytes(file.read_bytes())
                continue
            weights = {key: value * factor for key, value in load_file(file).items()}
            save_file(weights, folder / file.name, metadata={"format": "pt"})
    spec = {
        "output": "out",
        "tasks": ["story_calib"],
        "include_path": "tasks",
        "working_dir": ".",
        "defaults": {"dtype": "float32", "batch_size": BATCH, "device": "cpu"},
        "models": [
            {"id": "./base", "family": "story", "stage": "base"},
            {"id": "./aligned", "family": "story", "stage": "aligned"},
        ],
        "environment": {"set": {"HF_HUB_OFFLINE": 1, "OMP_NUM_THREADS": 1}},
        "execution": {"backoff": 0.1},
    }
    (root / "spec.yaml").write_text(yaml.safe_dump(spec))
    spec["models"] = [{"id": "./broken"}]
    (root / "broken.yaml").write_text(yaml.safe_dump(spec))
    return root


def carry_out(world, monkeypatch, output: str, *, spec: str = "spec.yaml") -> tuple[str, dict]:
    """Run the sweep into a folder; return what it printed and its tables without dates."""
    monkeypatch.setenv("COUNTER", str(world / f"{output}-scored"))
    monkeypatch.setenv("KILL_AT", str(world / f"{output}-kill"))
    monkeypatch.setenv("HF_HOME", str(world / "hf"))
    monkeypatch.setenv("CALIB_HARNESS_CACHE", str(world / "cache"))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    launcher = [sys.executable, str(Path(__file__).with_name("counting_run.py"))]
    with open(os.devnull, "w") as nowhere:
        console = Console(width=200, record=True, file=nowhere)
        status = run_sweep(
            world / spec,
            output=str(world / output),
            console=console,
            launcher=launcher,
        )
    told = console.export_text()
    assert status == 0, told
    tables = {}
    for path in (world / output / "tables").glob("*.csv"):
        rows = list(csv.DictReader(path.read_text().splitlines()))
        tables[path.name] = [
            {key: value for key, value in row.items() if key not in ("date", "source")}
            for row in rows
        ]
    return told, tables


def test_token_of_the_environment_is_in_no_file_of_a_real_sweep(world, undisturbed):
    files = [path for path in (world / "undisturbed").rglob("*") if path.is_file()]
    assert any(path.name.startswith("results_") for path in files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def scored(world, output: str) -> Counter:
    return Counter((world / f"{output}-scored").read_text().splitlines())


@pytest.fixture(scope="module")
def undisturbed(world) -> dict:
    """Tables of a local sweep in which nothing went wrong."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return carry_out(world, monkeypatch, "undisturbed")[1]


def test_model_with_nan_weights_is_finished_and_counted(world, monkeypatch):
    _, tables = carry_out(world, monkeypatch, "broken-out", spec="broken.yaml")
    rows = tables["metrics.csv"]
    assert rows
    assert {row["n_unusable"] for row in rows} == {str(QUESTIONS)}
    assert {row["ece"] for row in rows} == {""}


def test_run_killed_in_the_middle_of_a_task_repeats_a_batch_at_most(
    world, undisturbed, monkeypatch
):
    (world / "killed-kill").write_text(str(5 * BATCH + 3))
    told, tables = carry_out(world, monkeypatch, "killed")
    assert "killed (SIGKILL" in told
    difference = largest_difference(tables, undisturbed)
    print(f"largest difference of a number in the tables: {difference:.1e}")
    # What is left of a task falls into other batches, which changes the last digits of float32.
    assert difference < 1e-4
    counts = scored(world, "killed")
    twice = sum(number - 1 for number in counts.values())
    # A request is noted when its score is handed to the cache; a batch in flight is not.
    print(f"requests written: {sum(counts.values())}, of them twice: {twice}, in flight <= {BATCH}")
    assert counts.keys() == scored(world, "undisturbed").keys()
    assert twice <= BATCH


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
