"""What is concluded from comparisons: excess, losses, ladder, trends, settings, verdicts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from calib_harness import Predictions, UserError, compare, compare_chain, ece, softmax_scores
from calib_harness.analysis import share_harmed, verdict
from calib_harness.analysis.across import at_equal_accuracy, mean_over_pairs
from calib_harness.analysis.backend_differences import backend_differences
from calib_harness.analysis.trends import line_weights
from calib_harness.core.loss import calibration_losses, mean_test
from calib_harness.core.nulls import calibrated_null
from tests.analysis.test_comparison import make_run


def calibrated_pair(seed: int, n: int = 421) -> list[Predictions]:
    """A vague and a sharp model, both calibrated, that answer the same questions."""
    rng = np.random.default_rng(seed)
    runs = []
    gold = rng.integers(4, size=n)
    for name, sharpness in (("b", 1.0), ("a", 4.0)):
        run = make_run(f"{name}{seed}", n=n)
        logits = rng.normal(size=(n, 4)) * sharpness
        own = (rng.random((n, 1)) > np.cumsum(softmax_scores(logits), axis=1)).sum(axis=1)
        columns = (np.arange(4) - (gold - own.clip(max=3))[:, None]) % 4
        run.scores[:] = np.take_along_axis(logits, columns, axis=1)
        run.gold[:] = gold
        runs.append(run)
    return runs


# --- excess -------------------------------------------------------------------------------


def test_sharper_but_calibrated_models_are_not_called_better() -> None:
    # By the raw ECE, whose bias is smaller for the sharper model, nearly all of them were.
    runs = [run for seed in range(15) for run in calibrated_pair(seed)]
    pairs = [(f"f{i}", f"b{i}", f"a{i}") for i in range(15)]
    found = compare(runs, pairs, metrics=["ece"], detail="changes")
    raw = found.changes.drop(columns=["base_null", "aligned_null"])
    assert share_harmed(raw)["n_improved"].item() >= 11
    assert 4 <= share_harmed(found.changes)["n_improved"].item() <= 11
    row = found.changes.iloc[0]
    base, aligned = (
        ece(run.probs, run.gold) - calibrated_null(run.probs, n_resamples=4000, rng=1).mean
        for run in runs[:2]
    )
    assert row["excess_change"] == pytest.approx(aligned - base, abs=0.002)
    assert (
        found.changes["rank"].tolist() == stats.rankdata(-found.changes["excess_change"]).tolist()
    )


def test_bias_of_a_change_is_told_and_holds_the_true_one() -> None:
    # Truth of the aligned model: ECE of a large sample; of the base model: 0.
    large = make_run("large", n=40_000, sharpness=2.0, seed=99)
    truth = ece(large.probs, large.gold)
    measured, told = [], []
    for seed in range(30):
        runs = [make_run("b", seed=seed), make_run("a", seed=seed, sharpness=2.0)]
        row = compare(runs, base="b", aligned="a", metrics=["ece"], n_resamples=100).changes.iloc[0]
        measured.append(row["change"])
        told.append((row["bias_low"], row["bias_high"]))
    bias = np.mean(measured) - truth
    assert bias < -0.02
    low, high = np.mean(told, axis=0)
    assert low - 0.015 <= bias <= high  # gaps in between are neither real nor noise


# --- the primary test ---------------------------------------------------------------------


def test_calibration_loss_is_a_paired_t_test_that_finds_overconfidence() -> None:
    runs = [make_run("b", n=421), make_run("a", n=421, sharpness=2.0)]
    row = compare(runs, base="b", aligned="a", detail="tests", n_resamples=50).changes.iloc[0]
    assert row["metric"] == "calibration_loss"
    assert row["p_value"] < 1e-4
    assert row["harm"] == 1
    assert row["clear"]
    # Independently: the log-loss of the aligned model less that of the base is all miscalibration.
    rows = np.arange(421)
    nll = [-np.log(run.probs[rows, run.gold]) for run in runs]
    assert row["change"] == pytest.approx((nll[1] - nll[0]).mean(), abs=0.02)


def test_calibration_loss_holds_its_level_for_calibrated_models_of_different_sharpness() -> None:
    p_values = []
    for seed in range(200):
        base, aligned = calibrated_pair(seed)
        losses = [calibration_losses(run.probs, run.gold) for run in (base, aligned)]
        p_values.append(mean_test(losses[1] - losses[0]).p_value)
    assert np.mean(np.array(p_values) < 0.05) <= 0.08  # .05 and two Monte-Carlo errors


def test_an_impossible_right_answer_makes_the_log_loss_undefined_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = [make_run("b"), make_run("a")]
    runs[1].scores[3, runs[1].gold[3]] = -np.inf
    metrics = ["calibration_loss", "calibration_loss_brier"]
    changes = compare(runs, base="b", aligned="a", metrics=metrics).changes
    assert changes["p_value"].isna().tolist() == [True, False]
    assert "1 of 200 questions have a right choice of probability 0" in caplog.text


# --- over pairs ---------------------------------------------------------------------------


def test_mean_at_equal_accuracy_takes_off_what_accuracy_explains() -> None:
    rng = np.random.default_rng(0)
    names = [f"p{i}" for i in range(12)]
    of_accuracy = rng.normal(-0.05, 0.1, 12)
    common = {"family": names, "base": names, "aligned": names, "task": "t", "method": "m"}
    acc = pd.DataFrame(common | {"metric": "acc", "change": of_accuracy})
    error = pd.DataFrame(common | {"metric": "ece", "change": 0.02 - 0.5 * of_accuracy})
    frame = pd.concat([acc, error], ignore_index=True)
    found = at_equal_accuracy(frame.assign(excess_change=frame["change"])).iloc[0]
    assert found["slope"] == pytest.approx(-0.5)
    assert found["at_equal"] == pytest.approx(0.02)
    assert found["plain_mean"] == pytest.approx((0.02 - 0.5 * of_accuracy).mean())
    assert "mean" not in found  # that name is the random-effects mean's
    assert found["low"] == pytest.approx(found["high"])
    assert at_equal_accuracy(error.assign(excess_change=0.0)).empty


def test_means_over_pairs_are_corrected_over_the_tasks_of_a_metric() -> None:
    rng = np.random.default_rng(1)
    rows = [
        {"task": t, "method": "m", "metric": "ece", "family": f, "excess_change": c, "stderr": 0.01}
        for t in "tu"
        for f, c in enumerate(rng.normal(0.1, 0.05, 8))
    ]
    found = mean_over_pairs(pd.DataFrame(rows))
    assert found["p_holm"].tolist() == (2 * found["p_value"]).tolist() == [1 / 64] * 2


# --- the ladder ---------------------------------------------------------------------------


def test_the_ladder_tells_a_temperature_from_a_letter() -> None:
    base = make_run("b", n=1500)
    hot, biased = make_run("hot", n=1500, sharpness=2.5), make_run("biased", n=1500)
    biased.scores[:, 0] += 1.5
    pairs = [("f", "b", "hot"), ("g", "b", "biased")]
    found = compare([base, hot, biased], pairs, metrics=["ece"], n_resamples=50, ladder=True)
    rungs = found.ladder.set_index(["aligned", "rung"])
    assert rungs.loc[("hot", "raw"), "excess_change"] > 0.1
    assert rungs.loc[("hot", "temperature"), "excess_change"] < 0.03
    assert rungs.loc[("hot", "temperature"), "p_holm"] < 0.001
    assert rungs.loc[("hot", "letter"), "p_holm"] > 0.05
    assert rungs.loc[("biased", "letter"), "p_holm"] < 0.001
    assert rungs.loc[("biased", "letter"), "change"] > 0.1
    # The steps add up to all that is saved.
    saved = rungs.loc[("hot", "temperature"), "aligned_saved"]
    assert saved > 0.1
    assert np.isnan(rungs.loc[("hot", "raw"), "aligned_saved"])


# --- trends -------------------------------------------------------------------------------


def test_line_weights_are_those_of_least_squares() -> None:
    position, values = [0.0, 100.0, 250.0, 1000.0], [0.1, 0.15, 0.12, 0.3]
    slope = np.polyfit(position, values, 1)[0]
    assert line_weights(position) @ values == pytest.approx(slope * 1000)


def test_a_trend_is_the_rise_of_a_line_and_calibrated_stages_have_none() -> None:
    chain = pd.DataFrame({"family": "f", "model": list("wxyz"), "step": [0, 1, 2, 3]})
    metrics = ["calibration_loss", "ece", "overconfidence"]
    rising = [make_run(m, n=400, sharpness=1 + i) for i, m in enumerate("wxyz")]
    trends = compare_chain(rising, chain, metrics=metrics, n_resamples=300).trends
    assert (trends["p_value"] < 0.02).all()
    assert (trends["low"] > 0).all()
    values = [ece(run.probs, run.gold) for run in rising]
    row = trends.set_index("metric").loc["ece"]
    assert row["change"] == pytest.approx(3 * np.polyfit(range(4), values, 1)[0])
    assert row["tau"] == 1
    level = [make_run(m, n=400) for m in "wxyz"]
    flat = compare_chain(level, chain, metrics=metrics, n_resamples=300).trends
    assert (flat["change"].abs() < 1e-12).all()


# --- settings -----------------------------------------------------------------------------


def test_shots_of_each_model_are_compared_with_the_fewest() -> None:
    runs = [
        make_run(model, n_shot=shots, sharpness=1 + shots / 5)
        for model in ("m", "n")
        for shots in (5, 0, 10)
    ]
    found = compare(runs, by="n_shot", metrics=["ece"], n_resamples=50)
    rows = found.changes[["family", "base", "aligned"]].values.tolist()
    assert rows == [[m, "n_shot=0", f"n_shot={s}"] for m in ("m", "n") for s in (5, 10)]
    assert found.over_families["n_pairs"].tolist() == [2, 2]  # 5 and 10 shots by themselves
    reference = compare(runs, by="n_shot=5", metrics=["ece"], n_resamples=50).changes
    assert set(reference["base"]) == {"n_shot=5"}


def test_an_argument_that_was_not_given_is_the_default() -> None:
    runs = [make_run("m"), make_run("m", settings="dtype=float16, load_in_4bit=True")]
    with pytest.raises(UserError, match="no model was run on one task and method with two values"):
        compare(runs, by="load_in_4bit")  # dtype differs as well
    runs = [make_run("m", settings="dtype=float16"), runs[1]]
    changes = compare(runs, by="load_in_4bit", metrics=["acc"], n_resamples=20).changes
    assert changes[["base", "aligned"]].values.tolist() == [
        ["load_in_4bit=default", "load_in_4bit=True"]
    ]
    with pytest.raises(UserError, match="by takes the place of pairs, base and aligned"):
        compare(runs, [("f", "m", "m")], by="dtype")


def test_revisions_and_templates_are_settings_too() -> None:
    runs = [make_run("m", revision=r) for r in (None, "step100")]
    # With a template, lm-eval asks shots as turns unless it is told not to.
    turns = {True: "dtype=float16, fewshot_as_multiturn=True", False: "dtype=float16"}
    runs += [make_run("n", chat_template=c, settings=turns[c]) for c in (True, False)]
    changes = compare(runs, by="revision", metrics=["acc"], n_resamples=20).changes
    assert changes[["base", "aligned"]].values.tolist() == [["revision=main", "revision=step100"]]
    changes = compare(runs, by="chat_template", metrics=["acc"], n_resamples=20).changes
    assert changes[["base", "aligned"]].values.tolist() == [
        ["chat_template=False", "chat_template=True"]
    ]


# --- the verdict --------------------------------------------------------------------------


def pairs_of(n: int, sharpness: float) -> tuple[list[Predictions], list[tuple[str, str, str]]]:
    runs = [
        make_run(f"{side}{i}", n=300, seed=i, sharpness=s)
        for i, (side, s) in itertools.product(range(n), (("b", 1.0), ("a", sharpness)))
    ]
    return runs, [(f"f{i}", f"b{i}", f"a{i}") for i in range(n)]


def test_the_verdict_follows_from_the_tests() -> None:
    found = compare(*pairs_of(7, 2.0), n_resamples=50)
    (said,) = verdict(found)
    assert (said.n_pairs, said.n_worse, said.n_better) == (7, 7, 0)
    assert said.sentences[0] == (
        "Of 7 pairs, 7 are measurably worse calibrated "
        "(calibration_loss, Holm p < .05 over 7 tests), none better."
    )
    assert "overconfident by" in said.sentences[1]
    assert said.sentences[2].startswith("On average over 7 families it is worse: +")
    assert "(p = .016, signs of whole families flipped)" in said.sentences[2]
    assert said.text.startswith("toy (choice): Of 7 pairs")
    # Tables show the change; the tests, and these words, take off what chance shows.
    assert "beyond chance" not in said.text
    (by_ece,) = verdict(compare(*pairs_of(7, 4.0), metrics=["ece"], n_resamples=500))
    assert " beyond chance (" in by_ece.sentences[1]


def test_the_verdict_finds_nothing_where_nothing_is() -> None:
    runs, pairs = pairs_of(7, 1.0)
    (said,) = verdict(compare(runs, pairs, n_resamples=50))
    assert (said.n_worse, said.n_better) == (0, 0)
    assert "none is measurably worse" in said.sentences[0]
    assert not any("largest change" in sentence for sentence in said.sentences)


def test_few_families_are_said_to_be_too_few() -> None:
    (said,) = verdict(compare(*pairs_of(3, 2.0), n_resamples=50))
    assert "3 families are too few to test it over families (p < .05 takes 6)" in said.text
    one = [("f", base, aligned) for _, base, aligned in pairs_of(3, 2.0)[1]]
    (said,) = verdict(compare(pairs_of(3, 2.0)[0], one, n_resamples=50))
    assert "one family is too few" in said.text


def test_without_tests_there_is_no_verdict() -> None:
    runs, pairs = pairs_of(2, 2.0)
    assert verdict(compare(runs, pairs, detail="changes")) == []
    assert verdict(compare(runs, pairs, metrics=["acc"], n_resamples=20)) == []


# --- backends -----------------------------------------------------------------------------


def other_backend(run: Predictions, settings: str, shift: float) -> Predictions:
    """The same answers from another backend, the first choice's score `shift` off."""
    scores = run.scores.copy()
    scores[:, 0] += shift
    return replace(run, header=replace(run.header, settings=settings), scores=scores)


def test_two_backends_of_one_model_are_told_with_their_largest_differences(caplog) -> None:
    hf = make_run("m")
    served = other_backend(hf, "backend=vllm, max_model_len=512", 0.25).take(np.arange(5, len(hf)))
    runs = [hf, served, make_run("n")]
    (found,) = backend_differences(runs)
    kept = hf.take(np.arange(5, len(hf)))
    assert found.n == len(hf) - 5
    assert found.score == pytest.approx(0.25)
    assert found.prob == pytest.approx(np.nanmax(np.abs(kept.probs - served.probs)))
    assert found.predictions == (kept.probs.argmax(1) != served.probs.argmax(1)).sum()
    assert found.settings == ()  # an argument that only one side knows
    compare(runs, base="m", aligned="n", metrics=["acc"], n_resamples=20)
    (said,) = (record.message for record in caplog.records if "was run on" in record.message)
    assert said.startswith("m was run on hf and vllm: on their shared questions")
    assert "0.25 (toy, choice," in said


def test_nothing_is_said_of_backends_that_share_no_question() -> None:
    hf = make_run("m")
    half = len(hf) // 2
    served = other_backend(hf, "backend=vllm", 0.25).take(np.arange(half, len(hf)))
    assert backend_differences([hf.take(np.arange(half)), served]) == []


def test_a_backend_is_a_setting_whatever_arguments_it_was_given(caplog) -> None:
    hf = make_run("m", settings="dtype=float32")
    runs = [hf, other_backend(hf, "backend=vllm, dtype=bfloat16, max_model_len=512", 0.1)]
    changes = compare(runs, by="backend", metrics=["acc"], n_resamples=20).changes
    assert changes[["base", "aligned"]].values.tolist() == [["backend=hf", "backend=vllm"]]
    assert "with other settings too (dtype: float32, bfloat16)" in caplog.text
