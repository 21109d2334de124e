"""The specs under examples/sweeps: all can be planned, the toy world's is carried out."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from calib_harness.sweep.commands import run_sweep
from calib_harness.sweep.planning.plan import make_plan

EXAMPLES = Path(__file__).parents[2] / "examples" / "sweeps"


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("paper.yaml", 14),
        ("stages.yaml", 11),
        ("checkpoints.yaml", 10),
        ("toy_world.yaml", 4),
        ("toy_stages.yaml", 3),
    ],
)
def test_example_can_be_planned(name, runs):
    plan = make_plan(EXAMPLES / name)
    assert len(plan.runs) == runs
    assert not plan.notes


@pytest.mark.parametrize("spec", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_dry_run_of_an_example_lists_its_runs_and_writes_nothing(spec, tmp_path):
    with open(os.devnull, "w") as nowhere:
        console = Console(width=200, record=True, file=nowhere)
        assert run_sweep(spec, dry_run=True, output=str(tmp_path / "out"), console=console) == 0
    told = console.export_text()
    waiting = len(make_plan(spec).runs)
    assert f"{waiting} runs: {waiting} waiting; output in {tmp_path / 'out'}" in told
    assert not (tmp_path / "out").exists()


def test_every_family_of_the_paper_has_a_base_and_an_aligned_model():
    plan = make_plan(EXAMPLES / "paper.yaml")
    families = {run.family for run in plan.runs}
    assert len(families) == 7
    for family in families:
        stages = [run.stage for run in plan.runs if run.family == family]
        assert stages == ["base", "aligned"]


def tables(output: Path) -> dict[str, list[dict[str, str]]]:
    """Return a sweep's tables without the columns that say when and where."""
    found = {}
    for path in (output / "tables").glob("*.csv"):
        rows = csv.DictReader(path.read_text().splitlines())
        found[path.name] = [
            {key: value for key, value in row.items() if key not in ("date", "source")}
            for row in rows
        ]
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_toy_world_gives_the_same_tables_on_both_executors(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is an optional extra")
    monkeypatch.setenv("CALIB_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    console = Console(width=200)
    spec = yaml.safe_load((EXAMPLES / "toy_world.yaml").read_text())
    spec["defaults"]["limit"] = 60  # a third of the example's questions, to spare time
    for model in spec["models"]:
        model["id"] = str((EXAMPLES / model["id"]).resolve())
    (tmp_path / "toy_world.yaml").write_text(yaml.safe_dump(spec))
    only_base = tmp_path / "only_base.yaml"
    only_base.write_text(yaml.safe_dump(spec | {"models": spec["models"][:1]}))
    # One run as users start it; the others without lm-eval's own tasks, which are not needed here.
    assert run_sweep(only_base, output=str(tmp_path / "local"), console=console) == 0
    for executor in ("local", "ray"):
        status = run_sweep(
            tmp_path / "toy_world.yaml",
            executor=executor,
            workers=2,
            output=str(tmp_path / executor),
            console=console,
            launcher=[sys.executable, str(Path(__file__).with_name("real_run.py"))],
        )
        assert status == 0
    local, ray = tables(tmp_path / "local"), tables(tmp_path / "ray")
    assert local == ray
    assert {"metrics.csv", "changes.csv", "chain_values.csv"} <= local.keys()
    # What the toy world is for: alignment leaves the model more certain than it is right.
    rows = {
        row["stage"]: float(row["overconfidence"])
        for row in local["metrics.csv"]
        if row["method"] == "choice"
    }
    assert rows["base"] < rows["step-20"] < rows["step-60"] < rows["aligned"]
    assert [row["step"] for row in local["chain.csv"]] == ["0", "20", "60", "300"]
