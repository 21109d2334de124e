"""Pairs of models over several prompts, from runs on the same questions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calib_harness import (
    Predictions,
    UserError,
    calibrated_null,
    compare,
    compare_over_prompts,
    ece,
)
from tests.analysis.test_comparison import make_run

POWERS = {"b": (1.0, 1.0, 1.0), "a": (1.0, 2.0, 4.0)}


def variants(model: str, task: str = "toy_calib_prompt_p{}", **header) -> list[Predictions]:
    """Runs on the same questions, more or less sharp, each as another variant of the task."""
    runs = [make_run(model, sharpness=power) for power in POWERS[model]]
    return [
        replace(run, header=replace(run.header, task=task.format(j), **header))
        for j, run in enumerate(runs)
    ]


def compared(runs: list[Predictions], **options):
    return compare_over_prompts(runs, [("toy", "b", "a")], **({"n_resamples": 200} | options))


def test_values_are_those_of_each_prompt_less_what_chance_shows():
    runs = variants("b") + variants("a")
    [row] = compared(runs, metrics=["ece"]).to_dict("records")
    above = [
        ece(run.probs, run.gold) - calibrated_null(run.probs, metric="ece", rng=0).mean
        for run in runs
    ]
    changes = np.array(above[3:]) - above[:3]
    assert row["change"] == pytest.approx(changes.mean(), abs=1e-12)
    assert row["least_change"] == pytest.approx(changes.min(), abs=1e-12)
    assert row["largest_change"] == pytest.approx(changes.max(), abs=1e-12)
    assert row["aligned_spread"] == pytest.approx(np.std(above[3:], ddof=1), rel=0.1)
    assert row["base_spread"] == 0.0
    assert (row["benchmark"], row["n_prompts"], row["n"]) == ("toy", 3, 200)


def test_an_aligned_model_that_depends_on_its_prompt_is_found_and_its_accuracy_is_the_same():
    frame = compared(variants("b") + variants("a"), metrics=["acc", "nll"]).set_index("metric")
    assert frame.loc["nll", "spread_p_value"] < 0.05
    assert frame.loc["nll", "share"] > 0.3
    assert frame.loc["acc", "change"] == frame.loc["acc", "spread_change"] == 0
    assert np.isnan(frame.loc["acc", "share"])


def test_shots_and_chat_template_are_prompts_too():
    runs = [
        replace(run, header=replace(run.header, task="toy_calib", n_shot=shots, chat_template=chat))
        for model in ("b", "a")
        for run, (shots, chat) in zip(
            variants(model), [(0, False), (5, False), (5, True)], strict=True
        )
    ]
    [row] = compared(runs, metrics=["acc"]).to_dict("records")
    assert row["prompts"] == (
        "toy_calib, 0-shot; toy_calib, 5-shot; toy_calib, 5-shot, chat template"
    )


def test_prompts_that_only_one_model_was_asked_under_do_not_count():
    [row] = compared(variants("b") + variants("a")[1:], metrics=["acc"]).to_dict("records")
    assert row["n_prompts"] == 2


def test_one_prompt_or_several_methods_are_nothing_to_compare():
    one = variants("b")[:1] + variants("a")[:1]
    other = [replace(run, header=replace(run.header, method="x")) for run in variants("a")]
    for runs in (one, variants("b") + other):
        with pytest.raises(UserError, match="no pair has runs of one method under two prompts"):
            compared(runs)


def test_losses_are_refused():
    with pytest.raises(UserError, match="cannot be compared over prompts"):
        compared(variants("b") + variants("a"), metrics=["calibration_loss"])


def test_one_prompt_under_two_names_counts_once(caplog):
    # The stock task and its calibration task looked like a model that depends on no prompt.
    runs = [
        replace(run, header=replace(run.header, task=task))
        for model, power in (("b", 1.0), ("a", 2.0))
        for run in [make_run(model, sharpness=power)]
        for task in ("toy", "toy_calib_cloze")
    ]
    with pytest.raises(UserError, match="no pair has runs of one method under two prompts"):
        compared(runs)
    assert "toy, 0-shot and toy_calib_cloze, 0-shot ask the same" in caplog.text


def test_a_system_instruction_is_a_prompt_and_other_settings_are_named(caplog):
    told = "dtype=float16, system_instruction_sha=abc"
    runs = variants("b")[:1] + variants("a")[:1]
    runs += variants("b", settings=told)[:1] + variants("a", settings=told)[1:2]
    runs = [replace(run, header=replace(run.header, task="toy_calib")) for run in runs]
    [row] = compared(runs, metrics=["acc"]).to_dict("records")
    assert row["prompts"] == "toy_calib, 0-shot; toy_calib, 0-shot, system_instruction_sha=abc"
    assert not caplog.text
    halved = [
        replace(run, header=replace(run.header, settings="load_in_4bit=True")) for run in runs
    ]
    compared(runs + halved[:1], metrics=["acc"])
    assert "run with '' and with 'load_in_4bit=True'" in caplog.text


def test_a_model_is_no_pair_with_itself(caplog):
    with pytest.raises(UserError, match="no pair has runs"):
        compare_over_prompts(variants("a"), [("toy", "a", "a")], n_resamples=50)
    assert "both are the model a" in caplog.text


def test_a_change_of_ece_over_prompts_holds_as_much_as_compare_says_of_each():
    runs = variants("b") + variants("a")
    row = compared(runs, metrics=["ece"]).iloc[0]
    alone = compare(runs, [("toy", "b", "a")], metrics=["ece"], n_resamples=200).changes
    assert row["high"] - row["low"] > (alone["high"] - alone["low"]).min()
    assert np.isnan([row["spread_low"], row["spread_high"], row["share_low"]]).all()
