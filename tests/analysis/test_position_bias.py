"""Position bias from logs: a model that prefers B by a known amount, and is else calibrated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calib_harness import Header, ece, load_predictions, sce
from calib_harness.analysis.position_bias import position_bias
from calib_harness.errors import UserError
from calib_harness.predictions import PredictionStream
from calib_harness.predictions.asked_orders import AskedOrders, read_orders
from calib_harness.predictions.samples import write_example_log

BIAS = np.array([0.1, 0.5, 0.25, 0.15])
ORDERS = [[(k + shift) % 4 for k in range(4)] for shift in range(4)]


def write_log(folder: Path, n: int = 1500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write a log in lm-eval's layout; return contents' probabilities, biased ones, and gold."""
    rng = np.random.default_rng(5)
    contents = rng.dirichlet(np.ones(4), size=n)
    gold = np.array([rng.choice(4, p=content) for content in contents])
    lines, biased = [], []
    for i, (content, right) in enumerate(zip(contents, gold, strict=True)):
        arguments, resps = {}, []
        for order in ORDERS:
            weights = BIAS * content[order]
            for letter, p in enumerate(weights / weights.sum()):
                arguments[f"gen_args_{len(resps)}"] = {
                    "arg_0": f"question {i} {order}",
                    "arg_1": f" {'ABCD'[letter]}",
                }
                resps.append([[str(np.log(p)), "False", [str(np.log(p))]]])
        biased.append(BIAS * content / (BIAS * content).sum())
        entry = {
            "doc_id": i,
            "doc": {"n": i},
            "doc_hash": f"hash {i}",
            "target": str(right),
            "arguments": arguments,
            "resps": resps,
            "calib_harness": {"gold": int(right), "prompt": "choice", "orders": ORDERS},
        }
        lines += [json.dumps({**entry, "filter": name}) for name in ("choice", "choice-permuted")]
    (folder / "samples_toy_2026-01-01T00-00-00.000000.jsonl").write_text("\n".join(lines) + "\n")
    return contents, np.array(biased), gold


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def truth(folder):
    return write_log(folder)


@pytest.fixture(scope="module")
def found(folder, truth):
    asked = read_orders(PredictionStream(folder, cache=False))
    return position_bias(asked, metrics=["acc", "ece", "sce"], n_resamples=200)


def row(frame, **wanted):
    for key, value in wanted.items():
        frame = frame[frame[key] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_the_prior_over_letters_comes_back_within_its_interval(found):
    for letter, prior in zip("ABCD", BIAS, strict=True):
        one = row(found.letters, letter=letter)
        assert one.prior == pytest.approx(prior, abs=1e-9)
        assert one.low - 1e-9 <= prior <= one.high + 1e-9


def test_values_are_the_metrics_of_the_known_probabilities(found, truth):
    contents, biased, gold = truth
    for method, probs in (("choice", biased), ("choice-prior-free", contents)):
        for name, metric in (("ece", ece), ("sce", sce)):
            one = row(found.values, metric=name, method=method)
            assert one.value == pytest.approx(metric(probs, gold), abs=1e-9)
            assert one.low <= one.value <= one.high


def test_all_of_sce_is_bias_where_the_model_is_calibrated_but_for_its_letter(found):
    one = row(found.values, metric="sce", method="choice-prior-free")
    assert one.share == pytest.approx(1.0, abs=0.1)
    assert one.share_low < one.share <= one.share_high == pytest.approx(1.0)
    assert one.change_high < 0
    assert one.null == pytest.approx(one.value, abs=0.01)  # what is left is chance


def test_there_is_no_share_of_an_error_that_is_only_chance(tmp_path, monkeypatch):
    # It was -3e10 for a calibrated model.
    monkeypatch.setattr("tests.analysis.test_position_bias.BIAS", np.full(4, 0.25))
    write_log(tmp_path, n=400)
    asked = read_orders(PredictionStream(tmp_path, cache=False))
    values = position_bias(asked, metrics=["sce"], n_resamples=50).values
    assert "share" not in values.columns or values.share.isna().all()


def test_how_often_the_answer_changes_with_the_order_is_counted_naively(found, truth):
    contents, _, _ = truth
    changed = 0
    for content in contents:
        answers = {order[int(np.argmax(BIAS * content[order]))] for order in ORDERS}
        changed += len(answers) > 1
    one = found.answers.iloc[0]
    assert one.answer_changes == pytest.approx(changed / len(contents))
    assert (one.n, one.n_orders, one.n_left_out) == (1500, 4, 0)


def test_plain_readers_see_the_order_given(folder, truth):
    [run] = load_predictions(folder, cache=False)
    assert run.header.method == "choice"
    assert run.probs == pytest.approx(truth[1], abs=1e-9)


def test_logs_without_orders_are_a_sentence(tmp_path):
    write_example_log(tmp_path, model="org/m", task="toy", n=20)
    with pytest.raises(UserError, match="no log holds questions under several orders"):
        list(read_orders(PredictionStream(tmp_path, cache=False)))


def test_questions_that_cannot_be_used_are_counted(folder, truth, tmp_path):
    source = next(folder.glob("*.jsonl"))
    lines = source.read_text().splitlines()
    entry = json.loads(lines[0])
    entry["resps"][7] = [["nan", "False", ["nan"]]]
    (tmp_path / source.name).write_text("\n".join([json.dumps(entry), *lines[2:40:2]]) + "\n")
    [asked] = read_orders(PredictionStream(tmp_path, cache=False))
    assert (len(asked.gold), asked.n_left_out) == (19, 1)


def test_lines_with_a_bare_nan_are_counted_and_broken_ones_named(folder, truth, tmp_path, caplog):
    source = next(folder.glob("*.jsonl"))
    lines = source.read_text().splitlines()[:40]
    for i in (2, 3):  # both filters of the second question
        entry = json.loads(lines[i])
        entry["resps"][7] = [[float("nan"), False, [float("nan")]]]
        lines[i] = json.dumps(entry)
    (tmp_path / source.name).write_text("\n".join([*lines[:-2], lines[-2][:50]]) + "\n")
    [asked] = read_orders(PredictionStream(tmp_path, cache=False))
    assert (len(asked.gold), asked.n_left_out) == (18, 1)
    assert f"{source.name}: 1 lines cannot be read and are left out" in caplog.text


def two_and_four_choices(n: int = 40) -> AskedOrders:
    """Questions of two and of four choices in turn, each in the order given and reversed."""
    rng = np.random.default_rng(2)
    sizes = [2 + 2 * (i % 2) for i in range(n)]
    logprobs = [np.log(rng.dirichlet(np.ones(k), size=2)) for k in sizes]
    shown = [np.array([range(k), range(k)[::-1]]) for k in sizes]
    header = Header("org/m", "step5", "toy", "", n_shot=5, chat_template=True)
    return AskedOrders(header, logprobs, shown, rng.integers(2, size=n), 0)


def test_orders_that_are_balanced_for_two_choices_do_not_leave_out_all_other_questions():
    # Everything, `choice` included, was computed on the questions of two choices.
    values = position_bias([two_and_four_choices()], metrics=["acc"], n_resamples=20).values
    assert set(values.method) == {"choice", "choice-permuted"}
    assert set(values.n) == {40}


def test_runs_of_one_model_and_task_are_told_apart():
    found = position_bias([two_and_four_choices()], metrics=["acc"], n_resamples=20)
    for frame in (found.values, found.letters, found.answers):
        first = frame.iloc[0]
        assert (first.model, first.n_shot, first.chat_template) == ("org/m@step5", 5, True)
