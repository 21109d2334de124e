"""What an installation holds: the wheel's files, and entry points that load."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from calib_harness import METRICS
from calib_harness.harness.aggregations import Aggregation, Outcome
from calib_harness.harness.filters import FILTERS
from calib_harness.harness.responses import TokenLogprobs
from tests.conftest import ROOT


def entry_points(group):
    found = importlib.metadata.distribution("calib-harness").entry_points
    return {point.name: point for point in found if point.group == group}


def test_every_method_is_an_entry_point_that_loads_its_filter():
    loaded = {name: point.load() for name, point in entry_points("lm_eval.filters").items()}
    assert loaded == FILTERS


def test_every_metric_lm_eval_lacks_is_an_entry_point_beside_its_aggregation():
    metrics, aggregations = (
        entry_points(f"lm_eval.{kind}") for kind in ("metrics", "aggregations")
    )
    assert set(metrics) == set(aggregations) == set(METRICS) - {"acc", "brier_score"}
    for name, point in aggregations.items():
        aggregation = point.load()
        assert isinstance(aggregation, Aggregation)
        assert aggregation.name == name
        assert callable(metrics[name].load())
        # lm-eval looks for a metric's aggregation where the metric is.
        assert metrics[name].module == point.module


def test_a_registry_that_loads_entry_points_gets_all_that_a_stock_yaml_names():
    """A stand-in for the coming lm-eval: names to objects, one dictionary per group."""
    registry = {
        kind: {name: point.load() for name, point in entry_points(f"lm_eval.{kind}").items()}
        for kind in ("tasks", "filters", "metrics", "aggregations")
    }
    [folder] = [give_folder() for give_folder in registry["tasks"].values()]
    assert any(Path(folder).rglob("*_calib_cloze.yaml"))
    response = [TokenLogprobs(-1.5, False, [-1.0, -0.5])]
    for method in ("continuation-sum", "continuation-min", "continuation-mean", "choice"):
        [(score, is_greedy)] = registry["filters"][method]().apply([response], [{}])
        assert score <= -0.5
        assert is_greedy is False
    questions = [Outcome((0.75, 0.25), 0), Outcome((0.4, 0.6), 0)]
    items = [registry["metrics"]["ece"](question) for question in questions]
    ece = registry["aggregations"]["ece"](items)
    assert ece == pytest.approx((0.25 + 0.6) / 2)  # each alone in its bin


def test_the_command_is_an_entry_point_that_loads():
    [point] = entry_points("console_scripts").values()
    assert point.name == "calib-harness"
    assert callable(point.load())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel and unpack it, as an installation does."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    [file] = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_every_task_file(wheel):
    def files(folder):
        return {
            path.relative_to(folder): path.read_bytes()
            for path in Path(folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    assert files(ROOT / "task_yamls") == files(wheel / "calib_harness" / "task_yamls")


def test_an_installed_wheel_finds_its_own_tasks_and_models(wheel, tmp_path):
    code = "from calib_harness.paths import *; print(task_path(), toy_world_path(), sep='\\n')"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(wheel)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    package = wheel / "calib_harness"
    assert [Path(line) for line in printed] == [
        package / "task_yamls",
        package / "examples/toy_world",
    ]
    assert list((package / "examples/toy_world/models").rglob("*.safetensors"))


def test_every_public_name_loads_and_every_metric_is_one():
    import calib_harness

    assert calib_harness.__all__ == sorted(calib_harness.__all__)
    for name in calib_harness.__all__:
        assert getattr(calib_harness, name) is not None
    functions = {metric.function.__name__ for metric in METRICS.values()}
    assert functions <= set(calib_harness.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        calib_harness.nonsense  # noqa: B018
