"""Examples in the documentation run and give what they show."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calib_harness.cli import app
from calib_harness.predictions.samples import write_example_log

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", ["how-to/analyse-logs.md", "how-to/recalibrate.md"])
def test_examples_run_as_shown(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = doctest.NORMALIZE_WHITESPACE
    done = doctest.testfile(str(DOCS / name), module_relative=False, optionflags=flags)
    assert done.attempted > 5
    assert done.failed == 0


def test_tutorial_compares_the_models_that_it_has_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    models = re.findall(r"pretrained=(\S+)", page)
    assert len(models) == 2
    for sharpness, model in enumerate(models, 1):
        write_example_log("out", model=model, task="toy", n=40, sharpness=sharpness)
    [line] = re.findall(r"^calib-harness (compare .*)$", page, re.M)
    done = CliRunner().invoke(app, [*shlex.split(line), "--no-cache", "--metrics", "acc"])
    assert done.exit_code == 0, repr(done.exception)
