"""Recalibration of runs: held out, transferred, kept and applied."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calib_harness import Predictions, UserError, brier_score, cross_fit
from calib_harness.analysis.metrics_frame import metrics_frame
from calib_harness.analysis.recalibrating import (
    SAME_QUESTIONS,
    fit_all,
    read_recalibrators,
    recalibration_frame,
    recalibrators_text,
)
from calib_harness.core.options import Options
from tests.analysis.test_comparison import make_run

QUICK = Options(n_resamples=20)


def renamed(run: Predictions, **header: object) -> Predictions:
    return replace(run, header=replace(run.header, **header))


def test_a_row_tells_what_held_out_recalibration_saves() -> None:
    run = make_run("m", sharpness=3.0)
    row = recalibration_frame([run], "isotonic", options=QUICK).iloc[0]
    _, probs = cross_fit("isotonic", run.scores, run.gold, rng=0)
    saved = brier_score(run.probs, run.gold) - brier_score(probs, run.gold)
    assert row["saved"] == pytest.approx(saved)
    assert row["brier_score_after"] == pytest.approx(row["brier_score"] - saved)
    assert row["fitted_on"] == "other folds"
    assert (row["verdict"], row["low"] > 0) == ("better", True)
    assert row["ece_excess_after"] < row["ece_excess"]


def test_a_fit_of_another_task_is_transferred() -> None:
    there, here = make_run("m", sharpness=3.0), make_run("m", sharpness=3.0, task="u")
    frame = recalibration_frame([there, here], fit_on=there.header.task, options=QUICK)
    assert frame[["task", "fitted_on"]].to_numpy().tolist() == [["u", there.header.task]]
    with pytest.raises(UserError, match=r"^fit_on nowhere: no log of that task"):
        recalibration_frame([there], fit_on="nowhere", options=QUICK)


def test_a_fit_on_few_questions_makes_the_interval_wider() -> None:
    few, here = make_run("m", n=30), make_run("m", seed=1, task="u")
    frame = recalibration_frame([few, here], fit_on=few.header.task, options=QUICK)
    kept = recalibration_frame([here], fitted=fit_all([few], "temperature"), options=QUICK)
    assert frame["saved"][0] == kept["saved"][0]
    assert frame["low"][0] < kept["low"][0]
    assert frame["high"][0] > kept["high"][0]


def test_kept_fits_are_applied_and_the_same_questions_marked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run("m", sharpness=3.0)
    path = tmp_path / "fits.json"
    path.write_text(recalibrators_text(fit_all([run], "isotonic")))
    kept = read_recalibrators(path)
    frame = recalibration_frame([run, renamed(run, task="u")], fitted=kept, options=QUICK)
    assert frame["recalibration"].tolist() == ["isotonic", "isotonic"]
    assert frame["fitted_on"].tolist() == [SAME_QUESTIONS, run.header.task]
    assert "what is saved is overstated" in caplog.text
    with pytest.raises(UserError, match="no run could be recalibrated"):
        recalibration_frame([renamed(run, model="other")], fitted=kept, options=QUICK)
    assert "other on" in caplog.text


def test_agreement_needs_the_base_models_log(caplog: pytest.LogCaptureFixture) -> None:
    base, aligned = make_run("org/b"), make_run("a", sharpness=3.0)
    for named in ("b", "org/b", {"a": "org/b"}):
        frame = recalibration_frame([base, aligned], "agreement", base=named, options=QUICK)
        assert frame["model"].tolist() == ["a"]
        assert frame["verdict"].tolist() == ["better"]
    with pytest.raises(UserError, match=r"^base must name the base model"):
        recalibration_frame([aligned], "agreement", options=QUICK)
    with pytest.raises(UserError, match="no run could be"):
        recalibration_frame([aligned], "agreement", base="b", options=QUICK)
    assert "a on" in caplog.text
    assert "has no log of its base model, b" in caplog.text


def test_a_calibrated_run_is_not_said_to_gain() -> None:
    rng = np.random.default_rng(3)
    verdicts = [
        recalibration_frame([make_run("m", seed=int(seed))], options=QUICK)["verdict"][0]
        for seed in rng.integers(1000, size=5)
    ]
    assert verdicts.count("better") <= 1


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 2, "fitted": []}', '{"version": 1}'])
def test_files_that_are_no_fits_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fits.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"^apply .* is no file that `recalibrate --save` wrote"):
        read_recalibrators(path)
    with pytest.raises(UserError, match=r"^apply .* cannot be read"):
        read_recalibrators(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("recalibration", "params"),
    [
        ("temperature", '{"temperature": 0.0}'),
        ("letter", '{"temperature": "x", "bias": [0.0, 0.0]}'),
        ("isotonic", '{"probability": [], "frequency": []}'),
    ],
)
def test_kept_numbers_that_cannot_be_used_are_refused(
    tmp_path: Path, recalibration: str, params: str
) -> None:
    path = tmp_path / "fits.json"
    path.write_text(
        '{"version": 1, "fitted": [{"model": "m", "task": "t", "method": "choice", '
        f'"recalibration": "{recalibration}", "params": {params}}}]}}'
    )
    with pytest.raises(UserError, match=r"^apply .* is no file that `recalibrate --save` wrote"):
        read_recalibrators(path)


def test_a_run_of_more_choices_than_were_fitted_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = make_run("m", sharpness=3.0)
    two = renamed(run, task="two")
    two = replace(two, scores=two.scores[:, :2], gold=np.minimum(two.gold, 1))
    fitted = fit_all([two], "letter")
    same = renamed(two, task="three")
    frame = recalibration_frame([run, same], fitted=fitted, options=QUICK)
    assert frame["task"].tolist() == ["three"]
    assert f"m on {run.header.task} is left out: scores must have at most 2" in caplog.text


def test_runs_that_cannot_be_fitted_are_named_and_none_left_is_a_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, other = make_run("m", sharpness=3.0), make_run("m", task="u")
    scores = run.scores.copy()
    scores[np.arange(len(run)), run.gold] = -np.inf  # no temperature explains these answers
    bad = replace(run, scores=scores)
    there = run.header.task
    assert list(fit_all([bad, other], "temperature")) == [("m", "u", run.header.method)]
    assert f"m on {there} ({run.header.method}) cannot be fitted: scores must be" in caplog.text
    with pytest.raises(UserError, match=r"^no run could be fitted by temperature"):
        fit_all([bad], "temperature")
    with pytest.raises(UserError, match=r"^no run could be fitted by temperature"):
        recalibration_frame([bad, other], fit_on=there, options=QUICK)
    with pytest.raises(UserError, match=rf"^fit_on {there}: no log of it could be fitted"):
        metrics_frame([bad, other], metrics=["acc"], n_resamples=0, fit_on=there)
    assert "has no temperature to transfer: scores must be finite" in caplog.text
