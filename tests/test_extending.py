"""The worked examples of docs/extending.md do what they say."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.api.registry import filter_registry
from matplotlib.figure import Figure
from typer.testing import CliRunner

from calib_harness import load_predictions
from calib_harness.cli import plot
from calib_harness.core import registry
from calib_harness.harness.responses import TokenLogprobs
from calib_harness.predictions.samples import write_example_log
from calib_harness.sweep.drive import Retries, drive
from calib_harness.sweep.planning.plan import make_plan
from calib_harness.sweep.running.execute import Job
from tests.conftest import CLOZE, ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def example(heading: str) -> dict[str, Any]:
    """Run the Python under a heading of the page and return its names."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert section, f"docs/extending.md has no section {heading!r}"
    blocks = re.findall(r"^```python\n(.*?)^```", section[1], re.M | re.S)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/extending.md", "exec"), names)
    return names


class Silent:
    """A display that shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *error: object) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


def test_executor_carries_out_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "t.yaml").write_text("task: t\noutput_type: multiple_choice\n")
    (tmp_path / "spec.yaml").write_text(
        "output: out\ntasks: [t]\ninclude_path: tasks\nmodels: [{id: first}]\n"
    )
    for name in ("FAKE_CONTROL", "FAKE_COUNTER"):
        monkeypatch.setenv(name, str(tmp_path / name))
    plan = make_plan(tmp_path / "spec.yaml")
    launcher = (sys.executable, str(ROOT / "tests" / "sweep" / "fake_run.py"))
    job = Job(plan.runs[0], plan.output, str(plan.work), launcher, str(tmp_path), {})
    executor = example("An executor")["OneAtATime"]()
    summary = drive([job], executor, Retries(0, 0.1, 0.1), Silent())
    assert [outcome.status for outcome in summary.outcomes.values()] == ["finished"]


def test_metric_has_a_value_and_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calib_harness.core.registry.REGISTERED", {})
    margin = example("A metric")["margin"]
    row = registry.REGISTERED["margin"]
    probs, gold = [[0.7, 0.2, 0.1], [0.5, 0.5, float("nan")]], [0, 1]
    assert margin(probs, gold) == pytest.approx(0.25)
    # Resampled: only the first question, twice; only the second.
    assert row.resampled(probs, gold, [[2, 0], [0, 2]]) == pytest.approx([0.5, 0.0])
    assert row.options == ()


def test_method_scores_a_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_eval.api.registry.filter_registry", type(filter_registry)("filter"))
    method = example("A method")["ContinuationMax"]
    response = TokenLogprobs(-3.0, False, [-2.0, -1.0])
    assert method().apply([[response]], [{}]) == [(-1.0, False)]


def test_task_may_use_a_registered_filter_of_its_own(
    make_lm: Any, evaluate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_registry, "_objs", dict(filter_registry._objs))
    example("A method")
    task = CLOZE + (
        "filter_list:\n  - {name: largest, filter: [{function: continuation-max}]}\n"
        "  - {name: sum, filter: [{function: continuation-sum}]}\n"
    )
    results = evaluate(make_lm(), task)["results"]["toy"]
    assert 0 <= results["acc,largest"] <= 1
    assert results["ece,largest"] != results["ece,sum"]


def test_figure_draws_its_numbers_and_has_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plot.app, "registered_commands", list(plot.app.registered_commands))
    names = example("A figure")
    for model, sharpness in (("org/m", 1.0), ("org/m-chat", 3.0)):
        write_example_log(tmp_path / "out", model=model, task="toy", n=50, sharpness=sharpness)
    runs = load_predictions(tmp_path / "out", cache=False)
    display = names["ConfidencesDisplay"].from_predictions(*runs).plot(Figure().subplots())
    for run, line in zip(runs, display.ax_.lines, strict=True):
        for at, share in zip(line.get_xdata(), line.get_ydata(), strict=True):
            assert share == pytest.approx(np.mean(run.confidence <= at))
    file = tmp_path / "confidences.svg"
    asked = ["confidences", str(tmp_path / "out"), "--no-cache", "-o", str(file)]
    done = CliRunner().invoke(plot.app, asked)
    assert done.exit_code == 0, done.output
    assert file.read_bytes().startswith(b"<?xml")
