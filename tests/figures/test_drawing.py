"""Drawn artists carry the computed numbers; files are plain, repeatable and readable."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

import calib_harness as ch
from calib_harness.figures import style
from calib_harness.predictions import Predictions
from calib_harness.predictions.samples import write_example_log
from tests.figures.test_forest_and_ranks import changes, values

HOSTILE = "_$x^{$ <b>&\u202e\n" + "long" * 2500


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Predictions]:
    folder = tmp_path_factory.mktemp("logs")
    for model, sharpness in (("org/m", 1.0), ("org/m-chat", 3.0)):
        write_example_log(folder, model=model, task="toy", n=90, sharpness=sharpness)
    return ch.load_predictions(folder, cache=False)


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    pyplot.close("all")


def texts(display: Any) -> list[str]:
    display.figure_.draw_without_rendering()
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_reliability_points_bars_and_counts_are_the_numbers(runs: list[Predictions]) -> None:
    display = ch.ReliabilityDisplay.from_predictions(*runs, n_resamples=50).plot()
    base, _ = display.curves.values()
    (points, _, (bars,)) = display.ax_.containers[0]
    assert points.get_xdata().tolist() == base.confidence.tolist()
    assert points.get_ydata().tolist() == base.accuracy.tolist()
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, np.stack([base.accuracy_low, base.accuracy_high], axis=1))
    null = np.array([segment[:, 1] for segment in display.ax_.collections[0].get_segments()])
    np.testing.assert_allclose(null, np.stack([base.null_low, base.null_high], axis=1))
    heights = [bar.get_height() for bar in display.histogram_ax_.containers[0]]
    assert heights == base.n.tolist()
    numbers = [text.get_text() for text in display.histogram_ax_.texts]
    assert numbers[: len(heights)] == [str(n) for n in base.n]


def test_legend_says_who_how_many_and_the_ece_with_interval_and_null(
    runs: list[Predictions],
) -> None:
    display = ch.ReliabilityDisplay.from_predictions(*runs, n_resamples=50).plot()
    ece, null = display.curves["m"].ece, display.curves["m"].ece_null
    assert texts(display)[0] == (
        f"m (n = 90)\nECE {ece.value:.3f} [{ece.low:.3f}, {ece.high:.3f}], null {null.mean:.3f}"
    )
    assert display.ax_.get_legend().get_title().get_text() == "toy, choice\n15 uniform bins"


def test_without_resamples_the_ece_stands_alone(runs: list[Predictions]) -> None:
    display = ch.ReliabilityDisplay.from_predictions(runs[0], n_resamples=0).plot()
    assert re.fullmatch(r"m \(n = 90\)\nECE 0\.\d{3}", texts(display)[0])


def test_histogram_of_equal_mass_bins_still_shows_the_confidences(
    runs: list[Predictions],
) -> None:
    display = ch.ReliabilityDisplay.from_predictions(
        runs[1], binning="equal_mass", n_bins=10, n_resamples=0
    ).plot()
    confidence = runs[1].confidence
    expected = [((confidence > m / 10) & (confidence <= (m + 1) / 10)).sum() for m in range(10)]
    heights = [bar.get_height() for bar in display.histogram_ax_.containers[0]]
    assert heights == [count for count in expected if count]


def test_a_position_shows_how_often_it_is_gold(runs: list[Predictions]) -> None:
    display = ch.ReliabilityDisplay.from_predictions(runs[0], position=2, n_resamples=0).plot()
    expected = ch.classwise_reliability(runs[0].probs, runs[0].gold, n_resamples=0)[2]
    assert display.ax_.containers[0][0].get_ydata().tolist() == expected.accuracy.tolist()
    assert display.ax_.get_ylabel() == "Share that is gold"
    assert "position 3" in display.ax_.get_legend().get_title().get_text()


def test_questions_that_cannot_be_used_are_left_out(runs: list[Predictions]) -> None:
    run = runs[0]
    gold = run.gold.copy()
    gold[:10] = -1
    broken = Predictions(run.header, run.scores, gold, run.doc_id, run.doc_hash)
    for display in (ch.ReliabilityDisplay, ch.RiskCoverageDisplay):
        drawn = display.from_predictions(broken, n_resamples=0).plot()
        assert "(n = 80)" in texts(drawn)[0]


def test_risk_coverage_lines_are_the_numbers(runs: list[Predictions]) -> None:
    display = ch.RiskCoverageDisplay.from_predictions(*runs, n_resamples=50).plot()
    for line, curve in zip(display.ax_.lines, display.curves.values(), strict=True):
        assert line.get_xdata().tolist() == curve.coverage.tolist()
        assert line.get_ydata().tolist() == curve.risk.tolist()
    area = display.curves["m-chat"].aurc
    assert f"AURC {area.value:.3f} [{area.low:.3f}, {area.high:.3f}]" in texts(display)[1]


def test_forest_rows_are_the_numbers() -> None:
    display = ch.ForestDisplay.from_changes(changes(), metric="ece").plot()
    rows = dict(zip(display.ax_.get_yticks(), display.data.change, strict=True))
    drawn = {}
    for container in display.ax_.containers:
        points, _, (bars,) = container
        drawn |= dict(zip(points.get_ydata(), points.get_xdata(), strict=True))
        for (x, _), (low, high) in zip(
            points.get_xydata(), [s[:, 0] for s in bars.get_segments()], strict=True
        ):
            i = display.data.change.tolist().index(x)
            assert (low, high) == pytest.approx((display.data.low[i], display.data.high[i]))
    assert drawn == rows
    assert texts(display) == ["worse", "better", "interval contains 0"]


def test_rank_lines_are_the_numbers_and_the_title_has_kendalls_w() -> None:
    frame = values([[0.1, 0.2, 0.1], [0.3, 0.1, 0.2], [0.3, 0.4, 0.2]])
    display = ch.RanksDisplay.from_frame(frame, metric="ece", unit="model", value="value").plot()
    drawn = [line.get_ydata().tolist() for line in display.ax_.lines]
    assert drawn == display.data.ranks.tolist()
    assert f"Kendall's W = {display.data.kendalls_w:.2f}" in display.ax_.get_title(loc="left")


def test_names_of_tied_models_do_not_cover_each_other() -> None:
    frame = values([[0.1, 0.2], [0.3, 0.2], [0.3, 0.2], [0.4, 0.2]])
    display = ch.RanksDisplay.from_frame(frame, metric="ece", unit="model", value="value").plot()
    places = sorted(text.xyann[1] for text in display.ax_.texts)
    assert places == [1, 2, 3, 4]


def overlapping(boxes: list[Any]) -> list[tuple[int, int]]:
    return [
        (i, j)
        for i, one in enumerate(boxes)
        for j, other in enumerate(boxes[:i])
        if one.shrunk(0.9, 0.9).overlaps(other.shrunk(0.9, 0.9))
    ]


def test_thirty_models_have_room_for_their_names() -> None:
    rng = np.random.default_rng(0)
    frame = values(rng.random((30, 4)).tolist())
    names = {f"m{i}": f"organisation/model-{i}-of-many-with-a-long-name" for i in range(30)}
    frame["model"] = frame["model"].map(names)
    display = ch.RanksDisplay.from_frame(frame, metric="ece", unit="model", value="value")
    with style.print_style():
        figure = style.new_figure(*display.size())
        display.plot(figure.subplots())
        figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in display.ax_.texts]
    assert overlapping(boxes) == []
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert len({(line.get_color(), line.get_marker()) for line in display.ax_.lines}) == 30


@pytest.mark.parametrize("kind", ["reliability", "risk", "forest", "ranks"])
def test_hostile_names_are_shown_as_text(
    runs: list[Predictions], kind: str, tmp_path: Path
) -> None:
    frame = values([[0.1, 0.2], [0.3, 0.1]])
    frame["model"] = frame["model"].replace("m0", HOSTILE)
    display = {
        "reliability": lambda: ch.ReliabilityDisplay.from_predictions(
            runs[0], labels=[HOSTILE], n_resamples=0
        ),
        "risk": lambda: ch.RiskCoverageDisplay.from_predictions(
            runs[0], labels=[HOSTILE], n_resamples=0
        ),
        "forest": lambda: ch.ForestDisplay.from_changes(changes(base=HOSTILE), metric="ece"),
        "ranks": lambda: ch.RanksDisplay.from_frame(
            frame, metric="ece", unit="model", value="value"
        ),
    }[kind]()
    figure = style.new_figure(style.PAGE, 4)
    display.plot(figure.subplots())
    style.save(figure, tmp_path / "f.svg")
    labels = [text.get_text() for text in figure.findobj(pyplot.Text)]
    assert any(r"_\$x^{\$ <b>&" in label for label in labels)
    assert not any("\u202e" in label or "long" * 100 in label for label in labels)


@pytest.mark.parametrize("suffix", style.SUFFIXES)
def test_the_same_figure_is_the_same_file(
    runs: list[Predictions], suffix: str, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        with style.print_style():
            figure = style.new_figure(style.COLUMN, 3)
            ch.RiskCoverageDisplay.from_predictions(*runs, n_resamples=0).plot(figure.subplots())
            style.save(figure, tmp_path / f"{name}{suffix}")
    one, two = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "two"))
    assert one == two
    assert b"CreationDate" not in one
    if suffix == ".pdf":
        assert b"/Type3" not in one
        assert b"/TrueType" in one or b"/CIDFontType2" in one


def test_draws_into_given_axes_wherever_they_stand(runs: list[Predictions]) -> None:
    display = ch.ReliabilityDisplay.from_predictions(runs[0], n_resamples=0)
    figure = Figure(figsize=(6, 4))
    in_grid = figure.add_subplot(1, 2, 1)
    by_hand = figure.add_axes((0.6, 0.1, 0.35, 0.5))
    for ax in (in_grid, by_hand):
        display.plot(ax)
        assert display.ax_ is ax
        assert display.figure_ is figure
        above, below = ax.get_position(), display.histogram_ax_.get_position()
        assert below.y1 <= above.y0 + 1e-9
        assert (above.x0, above.x1) == pytest.approx((below.x0, below.x1))
    assert len(pyplot.get_fignums()) == 0


def test_looks_differ_in_more_than_colour() -> None:
    looks = [style.look(i) for i in range(49)]
    assert len({(one.marker, str(one.line)) for one in looks[:7]}) == 7
    assert len({(one.colour, one.marker) for one in looks}) == 49


def test_base_and_aligned_differ_in_greyscale() -> None:
    def lightness(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    base, aligned = style.look(0), style.look(1)
    assert abs(lightness(base.colour) - lightness(aligned.colour)) > 0.08
    assert (base.marker, base.line, base.hatch) != (aligned.marker, aligned.line, aligned.hatch)


def test_labels_must_tell_runs_apart(runs: list[Predictions]) -> None:
    for labels in (["a", "a"], ["a"]):
        with pytest.raises(ValueError, match="labels must name each of 2"):
            ch.RiskCoverageDisplay.from_predictions(*runs, labels=labels)


def test_models_of_the_same_last_name_keep_the_first(tmp_path: Path) -> None:
    for model in ("one/m", "two/m"):
        write_example_log(tmp_path, model=model, task="toy", n=5)
    display = ch.RiskCoverageDisplay.from_predictions(
        *ch.load_predictions(tmp_path, cache=False), n_resamples=0
    )
    assert list(display.curves) == ["one/m", "two/m"]


def test_numbers_need_no_matplotlib() -> None:
    code = (
        "import sys; import calib_harness as c;"
        "c.reliability([[.6, .4]], [0]); c.risk_coverage([[.6, .4]], [0]);"
        "c.ReliabilityDisplay; c.ForestDisplay; c.RanksDisplay; c.RiskCoverageDisplay;"
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_matplotlib_is_one_sentence(
    runs: list[Predictions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ch.UserError, match=r"pip install 'calib-harness\[plot\]'"):
        ch.RiskCoverageDisplay.from_predictions(runs[0], n_resamples=0).plot()


def test_no_usable_pandas_frame_is_needed_for_an_empty_selection() -> None:
    with pytest.raises(ValueError, match="curves must hold at least one"):
        ch.ReliabilityDisplay({})
    with pytest.raises(ch.UserError, match="--metric must be one of"):
        ch.forest(pd.DataFrame(columns=["metric"]), metric="ece")
