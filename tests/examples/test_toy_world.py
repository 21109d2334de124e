"""The toy world end to end: its truth is known, so every number has a right answer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from calib_harness import (
    bootstrap,
    calibrated_null,
    compare,
    compare_chain,
    load_predictions,
    metrics_frame,
)
from calib_harness.cli.render import Format, render
from calib_harness.core.metrics import METRICS
from calib_harness.demo import METHODS, evaluate
from examples.toy_world import findings, world

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "examples" / "toy_world" / "models"
# The best that anyone can do; what models are measured against.
BAYES_ACCURACY = 0.6608


@pytest.fixture(scope="module")
def questions():
    return findings.read_questions()


@pytest.fixture(scope="module")
def truth(questions):
    return findings.true_probs(questions)


def test_questions_on_disk_are_the_generators(questions):
    made = world.make_questions(world.make_facts())
    assert questions.to_dict("records") == made


def test_there_are_enough_questions_of_every_size_and_degree(questions):
    assert len(questions) >= 2000
    cells = questions.groupby([questions["choices"].map(len), "degree"]).size()
    assert len(cells) == 4 * 5
    assert cells.min() >= 100


def test_golds_are_drawn_from_the_true_distributions(questions, truth):
    p = np.nan_to_num(truth)
    drawn = np.zeros_like(p)
    drawn[np.arange(len(p)), questions["gold"]] = 1
    assert np.allclose(p.sum(axis=1), 1)
    assert (p[drawn == 1] > 0).all()
    # Pearson's statistic has mean K - 1 for every question of K possible choices.
    likely = p > 0
    pearson = ((drawn - p) ** 2 / np.where(likely, p, 1)).sum(axis=1)
    freedom = likely.sum(axis=1) - 1
    assert abs((pearson - freedom).mean()) < 3 * pearson.std() / np.sqrt(len(p))


@pytest.mark.parametrize("metric", ["ece", "sce"])
def test_true_distributions_lie_within_their_calibrated_null(questions, truth, metric):
    value = bootstrap([metric], truth, questions["gold"], rng=0)[metric].value
    null = calibrated_null(truth, metric=metric, rng=0)
    assert null.low < value < null.high
    assert null.high < 0.04


def test_one_vs_all_sce_calls_the_true_distributions_far_off(questions, truth):
    estimate = bootstrap(["sce_ova"], truth, questions["gold"], rng=0)["sce_ova"]
    assert estimate.low > 0.5


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Sample logs of all models; base and aligned by the command line, from elsewhere."""
    folder = tmp_path_factory.mktemp("toy_world")
    for name in ("base", "aligned"):
        command = [sys.executable, "-c", "from calib_harness.cli import main; main()", "run"]
        command += ["--model", "hf", "--tasks", "toy_world_calib", "--log_samples"]
        command += ["--model_args", f"pretrained={MODELS / name},dtype=float32"]
        command += ["--device", "cpu", "--batch_size", "64", "--output_path", "logs"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    for name in (*findings.MODELS[1:-1], *findings.STAGES[1:]):
        evaluate(name, folder / "logs")
    return folder / "logs"


@pytest.fixture(scope="module")
def predictions(logs):
    return load_predictions(logs, methods=METHODS, cache=False)


@pytest.fixture(scope="module")
def metrics(predictions):
    """Metrics of every model by (model, method, metric)."""
    frame = metrics_frame(predictions, metrics=["acc", "ece", "sce", "overconfidence"])
    frame["model"] = [Path(model).name for model in frame["model"]]
    return frame.set_index(["model", "method", "metric"]).sort_index()


@pytest.fixture(scope="module")
def changes(predictions):
    frame = compare(predictions, base="base", aligned="aligned").changes
    return frame.set_index(["method", "metric"]).sort_index()


def run_of(predictions, model, method):
    (found,) = (
        p for p in predictions if Path(p.header.model).name == model and p.header.method == method
    )
    return found


@pytest.mark.slow
def test_every_model_answers_all_questions_by_all_methods(predictions, questions):
    found = {(Path(p.header.model).name, p.header.method) for p in predictions}
    models = {*findings.MODELS, *findings.STAGES}
    assert found == {(model, method) for model in models for method in METHODS}
    for p in predictions:
        assert len(p) == len(questions)
        assert p.usable.all()
        assert (p.gold == questions["gold"].to_numpy()[p.doc_id]).all()


@pytest.mark.slow
@pytest.mark.parametrize("model", findings.MODELS)
def test_what_lm_eval_reports_equals_the_metrics_of_its_logs(logs, predictions, model):
    [file] = (path for path in logs.rglob("results_*.json") if path.parent.name.endswith(model))
    reported = json.loads(file.read_text(encoding="utf-8"))["results"]
    for method in METHODS:
        run = run_of(predictions, model, method)
        values = reported[run.header.task]
        for name in ("acc", "ece", "sce", "brier_score", "nll"):
            expected = METRICS[name].function(run.probs, run.gold)
            assert values[f"{name},{method}"] == pytest.approx(expected, abs=1e-9), (method, name)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["continuation-sum", "choice"])
def test_base_is_calibrated(metrics, method):
    ece, null = (metrics.loc[("base", method, name)] for name in ("ece", "ece_null"))
    # The spread of the null is the standard error of a calibrated model's ECE.
    assert abs(ece["value"] - null["value"]) < 3 * null["stderr"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["continuation-sum", "choice"])
def test_alignment_keeps_accuracy_and_breaks_calibration(
    predictions, metrics, changes, truth, method
):
    run = run_of(predictions, "aligned", method)
    expected, _ = findings.against_truth(run.probs, truth[run.doc_id])
    assert np.nanmax(truth, axis=1).mean() == pytest.approx(BAYES_ACCURACY, abs=1e-4)
    assert expected > BAYES_ACCURACY - 0.03
    base, aligned = (metrics.loc[(model, method, "ece")] for model in ("base", "aligned"))
    assert aligned["value"] - base["value"] >= 0.15
    assert aligned["low"] > base["high"]
    change = changes.loc[(method, "ece")]
    assert change["change"] == pytest.approx(aligned["value"] - base["value"], abs=1e-12)
    assert change["low"] > 0.1
    assert change["p_holm"] < 0.01
    assert changes.loc[(method, "sce")]["low"] > 0.05
    assert metrics.loc[("aligned", method, "overconfidence")]["low"] > 0.1


@pytest.mark.slow
def test_calibration_breaks_step_by_step(predictions):
    chain = {"model": findings.MODELS, "stage": findings.MODELS}
    found = compare_chain(predictions, findings.pd.DataFrame(chain), metrics=["ece"])
    for _, values in found.values.groupby("method"):
        assert values["value"].is_monotonic_increasing
    changes = found.changes.set_index(["reference", "method"]).sort_index()
    assert (changes.loc["first", "low"] > 0).all()
    # By choice nearly all of it happens within the first steps; in words it goes on.
    assert (changes.loc["previous"].loc["continuation-sum", "low"] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["continuation-sum", "choice"])
def test_demonstrations_keep_calibration_and_preferences_break_it_as_far_as_they_aim(
    predictions, truth, method
):
    chain = {"model": findings.STAGES, "stage": findings.STAGES}
    found = compare_chain(predictions, findings.pd.DataFrame(chain), metrics=["ece"])
    steps = found.changes.set_index(["method", "reference", "to_stage"]).sort_index()
    assert not steps.loc[(method, "previous", "sft"), "clear"]
    assert steps.loc[(method, "previous", "dpo"), "low"] > 0
    sft, dpo = (run_of(predictions, stage, method) for stage in ("sft", "dpo"))
    aim = findings.preferred(sft.probs, truth[sft.doc_id])
    errors = [METRICS["ece"].function(probs, dpo.gold) for probs in (dpo.probs, aim)]
    assert errors[0] == pytest.approx(errors[1], abs=0.01)
    far, near = (findings.against_truth(dpo.probs, to)[1] for to in (truth[dpo.doc_id], aim))
    assert near < far / 2
    assert near < (0.01 if method == "continuation-sum" else 0.07)


@pytest.mark.slow
def test_min_equals_sum_on_one_token_and_is_less_certain_on_several(predictions, questions, truth):
    several = questions["kind"].isin(findings.TOKENS["several"]).to_numpy()
    total, least = (run_of(predictions, "base", method) for method in METHODS[:2])
    rows = several[total.doc_id]
    assert np.allclose(total.probs[~rows], least.probs[~rows], atol=1e-6, equal_nan=True)
    assert least.confidence[rows].mean() < total.confidence[rows].mean() - 0.01
    # The sum is the probability that the chronicles' answer is this one; the minimum is not.
    distances = [
        findings.against_truth(run.probs[rows], truth[run.doc_id][rows])[1]
        for run in (total, least)
    ]
    assert distances[0] < 0.02
    assert distances[1] > 2 * distances[0]


@pytest.mark.slow
def test_tables_in_the_documentation_are_what_comes_out(predictions):
    page = (ROOT / "docs" / "background" / "toy-world.md").read_text(encoding="utf-8")
    for title, frame in findings.tables(predictions).items():
        lines = render({title: frame}, Format.markdown).splitlines()
        start = page.splitlines().index(f"**{title}**")
        for made, written in zip(lines, page.splitlines()[start:], strict=False):
            number = r"-?\d+\.\d+"
            assert re.sub(number, "#", made) == re.sub(number, "#", written)
            # Another machine's sums may change a last digit, and no more.
            values = [[float(x) for x in re.findall(number, line)] for line in (made, written)]
            assert values[0] == pytest.approx(values[1], abs=0.0021)


@pytest.mark.slow
def test_alignment_comes_out_again(tmp_path):
    shutil.copytree(MODELS / "base", tmp_path / "models" / "base")
    command = [sys.executable, str(ROOT / "examples" / "toy_world" / "train.py")]
    command += ["--align-only", "--until", "20", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    made, kept = (
        load_file(models / "step-20" / "model.safetensors")
        for models in (tmp_path / "models", MODELS)
    )
    assert made.keys() == kept.keys()
    # The same bits on one machine; others may sum in another order.
    for name, weights in made.items():
        assert np.allclose(weights, kept[name], atol=0.002), name
    assert (tmp_path / "data" / "test.jsonl").read_text() == (
        ROOT / "examples" / "toy_world" / "data" / "test.jsonl"
    ).read_text()
