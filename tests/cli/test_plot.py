"""The plot commands write figures; a wrong argument is one sentence, before anything is read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calib_harness.cli import app
from calib_harness.errors import UserError
from calib_harness.predictions.samples import write_example_log

FIGURES = ("reliability", "risk-coverage", "forest", "ranks")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    for model, sharpness in (("org/m", 1.0), ("org/m-chat", 3.0)):
        for task in ("one", "two"):
            write_example_log(folder, model=model, task=task, n=60, sharpness=sharpness)
    (folder / "pairs.csv").write_text("family,base,aligned\nM,m,m-chat\n")
    return folder


def plot(figure: str, logs: Path, *options: object) -> None:
    arguments = ["plot", figure, str(logs), "--no-cache", *map(str, options)]
    CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    ("figure", "options"),
    [
        ("reliability", ["--task", "one", "--base", "m", "--aligned", "m-chat"]),
        ("reliability", ["--task", "one", "--model", "m", "--classwise", "--resamples", 0]),
        ("risk-coverage", ["--task", "one", "--pairs", "PAIRS", "--resamples", 0]),
        ("forest", ["--task", "one", "--pairs", "PAIRS", "--resamples", 50, "--width", 3.3]),
        ("ranks", ["--width", 3.3]),
    ],
)
def test_every_figure_is_written(
    logs: Path, tmp_path: Path, figure: str, options: list[object]
) -> None:
    given = [logs / "pairs.csv" if option == "PAIRS" else option for option in options]
    plot(figure, logs, *given, "-o", tmp_path / "new" / "f.svg")
    assert "<svg" in (tmp_path / "new" / "f.svg").read_text()


@pytest.mark.parametrize(
    ("figure", "options", "message"),
    [
        ("forest", ["-o", "f.jpg", "--pairs", "p.csv"], r"--output must end in .pdf, .svg, .png"),
        ("ranks", ["-o", "f.pdf", "--width", 1], "--width must be 2.5 to 40 inches; got 1"),
        ("ranks", ["-o", "f.pdf", "--metric", "x"], "--metric must be one of acc.* got 'x'"),
        ("forest", ["-o", "f.pdf"], "needs --pairs FILE, or both --base"),
        ("reliability", ["-o", "f.pdf"], "several tasks: choose with --task one of one, two"),
        ("reliability", ["-o", "f.pdf", "--task", "x"], "--task must be one of one, two; got 'x'"),
        ("reliability", ["-o", "f.pdf", "--method", "x"], "--method must be one of choice"),
        ("reliability", ["-o", "f.pdf", "--task", "one", "--model", "x"], "no log of model 'x'"),
        ("risk-coverage", ["-o", "f.pdf", "--base", "m"], "both --base MODEL and --aligned"),
        ("risk-coverage", ["-o", "f.pdf", "--resamples", 1], "--resamples must be 0 or at least 2"),
        ("reliability", ["-o", "f.pdf", "--binning", "x"], "--binning must be one of"),
        *(
            (name, ["-o", "f.pdf", "--seed", -1], "--seed must be a whole number of at least 0")
            for name in FIGURES
        ),
        ("reliability", ["-o", "f.pdf", "--model", ","], "--model must name at least one model"),
    ],
)
def test_a_wrong_argument_is_a_sentence(
    logs: Path, figure: str, options: list[object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plot(figure, logs, *options)


@pytest.mark.parametrize("figure", FIGURES)
def test_output_that_cannot_be_written_is_said_before_logs_are_read(
    tmp_path: Path, figure: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        plot(figure, Path("nowhere"), "-o", tmp_path / "file" / "f.pdf")


@pytest.mark.parametrize(
    ("n_panels", "width", "said"),
    [
        (41, 7, "41 panels are too many for a figure, 40 at most.* --model"),
        (12, 40, r"12 panels make a figure \d\d+ inches tall.* --model"),
    ],
)
def test_panels_that_no_paper_has_room_for_are_a_sentence(
    tmp_path: Path, n_panels: int, width: int, said: str
) -> None:
    for i in range(n_panels):
        write_example_log(tmp_path, model=f"org/m{i}", task="one", n=5)
    with pytest.raises(UserError, match=said):
        plot("reliability", tmp_path, "--resamples", 0, "--width", width, "-o", tmp_path / "f.pdf")
    assert not (tmp_path / "f.pdf").exists()


def test_missing_matplotlib_is_said_before_logs_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="figures need matplotlib"):
        plot("ranks", Path("nowhere"), "-o", "f.pdf")
