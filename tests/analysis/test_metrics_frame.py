"""The metrics table says what the array functions say, with honest errors beside it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calib_harness import (
    METRICS,
    Header,
    Predictions,
    UserError,
    ece,
    excesses,
    fit_temperature,
    metrics_frame,
    softmax_scores,
    wide_frame,
)
from calib_harness.analysis.against_nulls import NULL_COLUMNS
from calib_harness.analysis.metrics_frame import VALUE_COLUMNS
from calib_harness.cli.readable import metrics_for_reading


def make_run(
    n: int = 300, *, task: str = "toy", model: str = "m", method: str = "choice", seed: int = 0,
    sharpness: float = 2.0, n_shot: int | None = 0,
) -> Predictions:  # fmt: skip
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4))
    probs = softmax_scores(logits)
    gold = np.array([rng.choice(4, p=row) for row in probs], dtype=np.int64)
    scores = np.log(softmax_scores(logits * sharpness)) - 0.5
    header = Header(model, None, task, method, n_shot, False)
    hashes = np.array([f"{task}-{i}" for i in range(n)], dtype=object)
    return Predictions(header, scores, gold, np.arange(n), hashes)


def value(frame: pd.DataFrame, metric: str) -> float:
    (found,) = frame.loc[frame["metric"] == metric, "value"]
    return float(found)


@pytest.mark.parametrize("n_resamples", [0, 20])
def test_values_are_those_of_the_metric_functions(n_resamples: int) -> None:
    run = make_run()
    frame = metrics_frame(
        [run], metrics=list(METRICS), n_bins=7, binning="equal_mass", n_resamples=n_resamples
    )
    options = {"n_bins": 7, "binning": "equal_mass"}
    for name, metric in METRICS.items():
        own = {key: option for key, option in options.items() if key in metric.options}
        expected = metric.function(run.probs, run.gold, **own)
        assert value(frame, name) == pytest.approx(expected, rel=1e-12)


def test_standard_error_of_accuracy_is_the_binomial_one() -> None:
    frame = metrics_frame([make_run()], metrics=["acc"], n_resamples=4000)
    (row,) = frame.itertuples()
    assert row.stderr == pytest.approx(np.sqrt(row.value * (1 - row.value) / 300), rel=0.05)
    assert row.low < row.value < row.high


def test_a_temperature_out_of_bounds_names_its_run_once(caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(60)
    always_right = Predictions(
        run.header, run.scores, run.scores.argmax(axis=1), run.doc_id, run.doc_hash
    )
    metrics_frame([always_right, make_run(60)], metrics=["ece"], recalibrate=True, n_resamples=0)
    [said] = [message for message in caplog.messages if "temperature" in message]
    assert said == "m on toy (choice): no temperature in bounds fits best; 0.1 is used."


def test_unusable_questions_count_in_acc_only() -> None:
    run = make_run(100)
    scores, gold = run.scores.copy(), run.gold.copy()
    scores[:10] = np.nan
    gold[10:15] = -1
    damaged = Predictions(run.header, scores, gold, run.doc_id, run.doc_hash)
    frame = metrics_frame([damaged], metrics=["acc", "ece"], n_resamples=50)
    assert frame["n"].tolist() == [100] * 3
    assert frame["n_unusable"].tolist() == [15] * 3
    assert value(frame, "acc") == damaged.correct.sum() / 100
    assert value(frame, "ece") == pytest.approx(ece(run.probs[15:], run.gold[15:]))


def test_run_without_any_usable_question_has_a_row_of_nan() -> None:
    run = make_run(5)
    empty = Predictions(run.header, np.full((5, 4), np.nan), run.gold, run.doc_id, run.doc_hash)
    frame = metrics_frame([empty], metrics=["acc", "ece"], recalibrate=True)
    assert value(frame, "acc") == 0
    assert np.isnan(value(frame, "ece"))
    assert frame["metric"].tolist() == ["acc", "ece"]


def test_calibrated_null_stands_after_ece_and_is_what_calibrated_models_show() -> None:
    calibrated = metrics_frame([make_run(1000, sharpness=1.0)], metrics=["acc", "ece", "nll"])
    assert calibrated["metric"].tolist() == ["acc", "ece", "ece_null", "nll"]
    null = calibrated.set_index("metric").loc["ece_null"]
    assert null["low"] < value(calibrated, "ece") < null["high"]
    sharp = metrics_frame([make_run(1000, sharpness=3.0)], metrics=["ece"])
    assert value(sharp, "ece") > sharp.set_index("metric").loc["ece_null", "high"]


def test_every_calibration_error_stands_beside_its_null() -> None:
    run = make_run(300, sharpness=3.0)
    names = ["ece", "sce", "mce", "nll", "sce_ova"]
    rows = metrics_frame([run], metrics=names, n_resamples=99).set_index("metric")
    expected = excesses(names[:3], run.probs, run.gold, n_resamples=99, rng=0)
    for name, found in expected.items():
        seen = rows.loc[name, ["value", "null", "excess", "p_calibrated"]].tolist()
        assert seen == [found.value, found.null.mean, found.excess, found.p_value]
    assert rows.loc[["nll", "sce_ova"], "null"].isna().all()
    wide = wide_frame(rows.reset_index())
    assert wide["sce_excess"].item() == expected["sce"].excess
    assert wide["ece_null"].item() == expected["ece"].null.mean


def test_too_few_questions_for_an_error_are_said_to_be() -> None:
    for n, few in ((60, True), (2000, False)):
        rows = metrics_frame([make_run(n)], metrics=["sce"], n_resamples=20)
        assert rows["too_few"].tolist() == [few]


def test_a_small_p_value_is_not_said_to_be_of_too_few_questions() -> None:
    for sharpness, said in ((2.0, True), (3.0, False)):
        run = make_run(60, sharpness=sharpness)
        wide = wide_frame(metrics_frame([run], metrics=["sce"], n_resamples=99))
        assert wide["sce_too_few"].tolist() == [True]
        shown = metrics_for_reading(wide)["p sce"].item()
        assert ("n too small" in shown) == said


def test_recalibration_finds_the_temperature_and_lowers_ece() -> None:
    run = make_run(2000, sharpness=2.0)
    frame = metrics_frame([run], metrics=["ece"], recalibrate=True, n_resamples=50)
    assert value(frame, "temperature") == pytest.approx(2.0, rel=0.1)
    assert value(frame, "temperature") == fit_temperature(run.scores, run.gold)
    assert value(frame, "ece_recalibrated") < 0.5 * value(frame, "ece")


def test_recalibration_never_judges_a_question_by_its_own_fit() -> None:
    # Gold at random: in-sample, any temperature fits a little; held out, none should help.
    rng = np.random.default_rng(3)
    run = make_run(40)
    noise = Predictions(run.header, run.scores, rng.integers(4, size=40), run.doc_id, run.doc_hash)
    frame = metrics_frame([noise], metrics=["nll"], recalibrate=True, n_resamples=0)
    from calib_harness import cross_fit_temperature

    _, probs = cross_fit_temperature(noise.scores, noise.gold, rng=0)
    assert value(frame, "ece_recalibrated") == pytest.approx(ece(probs, noise.gold))


def test_temperature_of_another_task_is_transferred() -> None:
    fitted, other = make_run(500, task="a_calib_cloze"), make_run(500, task="b", seed=1)
    frame = metrics_frame([fitted, other], metrics=["ece"], fit_on="a", n_resamples=0)
    temperature = fit_temperature(fitted.scores, fitted.gold)
    on_b = frame[frame["task"] == "b"]
    assert value(on_b, "temperature") == temperature
    expected = ece(softmax_scores(other.scores / temperature), other.gold)
    assert value(on_b, "ece_recalibrated") == pytest.approx(expected)
    # Nothing is judged on the task it was fitted on.
    assert "ece_recalibrated" not in set(frame.loc[frame["task"] != "b", "metric"])


def test_fitting_on_another_task_holds_a_few_runs_at_a_time() -> None:
    alive: list[int] = []

    class Runs:
        """Makes each run anew in every pass, as a stream of logs does."""

        made = 0

        def __iter__(self) -> Iterator[Predictions]:
            known: weakref.WeakSet[Predictions] = weakref.WeakSet()
            for i in range(12):
                run = make_run(20, task="a" if i % 2 else "b", model=f"m{i // 2}")
                known.add(run)
                self.made += 1
                yield run
                del run
                alive.append(len(known))

    runs = Runs()
    frame = metrics_frame(runs, metrics=["acc"], fit_on="a", n_resamples=0)
    assert (len(frame[frame["metric"] == "ece_recalibrated"]), runs.made) == (6, 24)
    assert max(alive) <= 2
    once = metrics_frame(iter(runs), metrics=["acc"], fit_on="a", n_resamples=0)
    pd.testing.assert_frame_equal(once, frame)


def test_temperature_is_not_transferred_between_models_or_methods() -> None:
    fitted = make_run(100, task="a")
    runs = [fitted, make_run(100, task="b", model="n"), make_run(100, task="b", method="other")]
    frame = metrics_frame(runs, metrics=["ece"], fit_on="a", n_resamples=0)
    on_b = frame[(frame["task"] == "b") & (frame["metric"] == "temperature")]
    assert on_b["value"].isna().all()


def test_temperature_is_that_of_the_same_shots(caplog: pytest.LogCaptureFixture) -> None:
    # The run read last gave its temperature to all numbers of shots.
    fitted = [make_run(100, task="a", n_shot=shots, seed=shots) for shots in (0, 5)]
    others = [make_run(100, task="b", n_shot=shots, seed=9) for shots in (0, 5, 25)]
    frame = metrics_frame([*fitted, *others], metrics=["ece"], fit_on="a", n_resamples=0)
    on_b = frame[(frame["task"] == "b") & (frame["metric"] == "temperature")]["value"].tolist()
    assert on_b[:2] == [fit_temperature(run.scores, run.gold) for run in fitted]
    assert on_b[0] != on_b[1]
    assert np.isnan(on_b[2])
    assert "m on b (choice) has no temperature: it was run on a with the same settings" in (
        caplog.text
    )


def test_shots_are_whole_numbers_beside_unknown_ones() -> None:
    runs = [make_run(20, n_shot=5), make_run(20, n_shot=None, task="u")]
    wide = wide_frame(metrics_frame(runs, metrics=["acc"], n_resamples=0))
    assert wide[["n_shot"]].to_csv(index=False) == 'n_shot\n5\n""\n'


def test_choice_mass_is_for_letters() -> None:
    run = make_run(50)
    frame = metrics_frame([run], metrics=["choice_mass"])
    assert value(frame, "choice_mass") == pytest.approx(np.exp(-0.5))
    cloze = make_run(50, method="continuation-sum")
    assert metrics_frame([cloze], metrics=["acc", "choice_mass"])["metric"].tolist() == ["acc"]


def test_rows_do_not_depend_on_company_or_threads() -> None:
    runs = [make_run(seed=seed, model=f"m{seed}") for seed in range(5)]
    alone = metrics_frame(runs[3:4], n_resamples=50)
    for n_jobs in (1, 2):
        together = metrics_frame(runs, n_resamples=50, n_jobs=n_jobs)
        assert together["model"].unique().tolist() == [f"m{seed}" for seed in range(5)]
        part = together[together["model"] == "m3"].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, alone)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_iterator_is_not_drained_ahead(n_jobs: int) -> None:
    from calib_harness.analysis.metrics_frame import SummaryOptions, _in_parallel

    taken = []

    def runs():  # type: ignore[no-untyped-def]
        for seed in range(20):
            taken.append(seed)
            yield make_run(20, seed=seed)

    options = SummaryOptions(("acc",), n_resamples=0)
    for done, _ in enumerate(_in_parallel(runs(), options, None, n_jobs)):
        assert len(taken) <= done + n_jobs + 3


def test_wide_frame_has_one_row_per_run() -> None:
    runs = [make_run(task="a"), make_run(task="b"), make_run(task="b", method="other")]
    frame = metrics_frame(runs, metrics=["acc", "ece"], n_resamples=20)
    wide = wide_frame(frame)
    assert wide[["task", "method"]].values.tolist() == [
        ["a", "choice"],
        ["b", "choice"],
        ["b", "other"],
    ]
    for row in frame.itertuples():
        match = wide[(wide["task"] == row.task) & (wide["method"] == row.method)].iloc[0]
        assert match[row.metric] == row.value
        assert match[f"{row.metric}_stderr"] == row.stderr
    assert frame.columns.tolist()[-9:] == [*VALUE_COLUMNS, *NULL_COLUMNS]


def test_repeated_runs_stay_apart_in_the_wide_frame() -> None:
    frame = metrics_frame([make_run(20), make_run(20)], metrics=["acc"], n_resamples=0)
    assert len(wide_frame(frame)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["nonsense"]}, "^metrics must be among acc, .*; got nonsense"),
        ({"metrics": []}, "^metrics must be among acc, .*; got none"),
        ({"n_bins": 0}, "^n_bins must be a whole number of at least 1; got 0"),
        ({"binning": "odd"}, "^binning must be one of 'uniform', .*; got 'odd'"),
        ({"n_resamples": 1}, "^n_resamples must be 0 or at least 2; got 1"),
        ({"n_resamples": -5}, "^n_resamples must be 0 or at least 2; got -5"),
        ({"fit_on": "nowhere"}, "^fit_on nowhere: no log of that task is among LOGS"),
    ],
)
def test_wrong_options_are_named(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        metrics_frame([make_run(10)], **options)


def test_one_question_has_values_and_no_errors() -> None:
    table = metrics_frame([make_run(1)], metrics=["acc", "ece"], n_resamples=20)
    own = table[table["metric"].isin(["acc", "ece"])]
    assert own["value"].notna().all()
    assert own[["stderr", "low", "high"]].isna().all(axis=None)
