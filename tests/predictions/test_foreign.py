"""Logs of other harnesses: files that they wrote, or written here by hand; see the README."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib_harness import UserError, load_predictions
from calib_harness.predictions.table import Predictions

DATA = Path(__file__).parent / "foreign_data"  # its README says what wrote each


def load(path: Path) -> list[Predictions]:
    return load_predictions(path, cache=False)


# -- inspect_ai ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["eval", "json"])
def test_inspect_letters_among_the_alternatives_of_the_answer(suffix: str) -> None:
    (path,) = (DATA / "inspect").glob(f"*toy-mc*.{suffix}")
    (run,) = load(path)
    assert (run.header.model, run.header.task, run.header.method) == (
        "mockllm/model",
        "toy_mc",
        "choice",
    )
    assert run.scores.shape == (8, 4)
    mass = np.exp(run.scores).sum(axis=1)
    np.testing.assert_allclose(mass, 1 / 1.05, atol=1e-9)  # as the file was made
    (whole,) = (DATA / "inspect").glob("*toy-mc*.json")
    for sample, correct in zip(json.loads(whole.read_text())["samples"], run.correct, strict=True):
        assert (sample["scores"]["choice"]["value"] == "C") == correct


def test_inspect_without_log_probabilities_is_refused_in_a_sentence() -> None:
    (path,) = (DATA / "inspect").glob("*toy-plain*.eval")
    with pytest.raises(UserError, match=r"inspect_ai and holds neither .*--top-logprobs 20"):
        load(path)


def test_inspect_confidences_of_a_scorer(tmp_path: Path) -> None:
    (path,) = (DATA / "inspect").glob("*toy-plain*.json")
    log = json.loads(path.read_text())
    for i, sample in enumerate(log["samples"]):
        sample["scores"]["choice"]["metadata"] = {"confidence": 0.1 + i / 10}
    (tmp_path / path.name).write_text(json.dumps(log))
    (run,) = load(tmp_path)
    assert run.header.method == "confidence"
    np.testing.assert_allclose(run.confidence, [0.1 + i / 10 for i in range(8)])
    right = [sample["scores"]["choice"]["value"] == "C" for sample in log["samples"]]
    assert run.correct.tolist() == right


def rewrite_inspect(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    (path,) = (DATA / "inspect").glob("*toy-mc*.json")
    log = json.loads(path.read_text())
    for sample in log["samples"]:
        change(sample)
    (folder / path.name).write_text(json.dumps(log))
    return folder / path.name


def test_inspect_logs_that_hold_nan_are_read(tmp_path: Path) -> None:
    # It writes the standard error of one sample so.
    path = rewrite_inspect(tmp_path, lambda sample: sample.update(total_time=float("nan")))
    assert "NaN" in path.read_text()
    (run,) = load(path)
    assert run.scores.shape == (8, 4)


def test_inspect_letters_of_shuffled_choices_are_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def shuffle(sample: dict[str, Any]) -> None:
        # The letters as shown stay in the tokens; target and score are of the order given.
        shown = dict(zip("ABCD", "BCDA", strict=True))
        for token in sample["output"]["choices"][0]["logprobs"]["content"]:
            for one in (token, *token["top_logprobs"]):
                letter = one["token"].strip()
                one["token"] = f" {shown[letter]}" if letter in shown else one["token"]

    (run,) = load(rewrite_inspect(tmp_path, shuffle))
    assert not run.usable.any()
    assert "the logged acc is not what the logged scores" in caplog.text


def test_inspect_letters_with_and_without_a_space_count_together(tmp_path: Path) -> None:
    def split(sample: dict[str, Any]) -> None:
        for token in sample["output"]["choices"][0]["logprobs"]["content"]:
            halves = [
                one | {"logprob": one["logprob"] - math.log(2)} for one in token["top_logprobs"]
            ]
            spaced = [one | {"token": f" {one['token'].strip()}"} for one in halves]
            bare = [one | {"token": one["token"].strip()} for one in halves]
            token["top_logprobs"] = bare + spaced

    (whole,) = load(next((DATA / "inspect").glob("*toy-mc*.json")))
    (run,) = load(rewrite_inspect(tmp_path, split))
    np.testing.assert_allclose(run.scores, whole.scores, atol=1e-12)


def test_inspect_target_that_is_a_text_names_no_letter(tmp_path: Path) -> None:
    def name(sample: dict[str, Any]) -> None:
        sample["target"] = "Athens"

    (run,) = load(rewrite_inspect(tmp_path, name))
    assert (run.gold == -1).all()


def test_inspect_archive_and_its_json_are_one_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (run,) = load_predictions(DATA / "inspect", tasks="toy_mc", cache=False)
    assert run.header.label == "mockllm/model"
    assert "mockllm/model on toy_mc was run 2 times" in caplog.text


# -- HELM ------------------------------------------------------------------------------------


def helm_state(method: str, states: list[dict[str, Any]]) -> dict[str, Any]:
    spec = {"method": method, "model": "org/m", "max_train_instances": 5}
    return {"adapter_spec": spec, "request_states": states}


def helm_instance(i: int) -> dict[str, Any]:
    references = [{"output": {"text": text}, "tags": []} for text in ("red", "dark blue")]
    references[i % 2]["tags"] = ["correct"]
    return {"id": f"id{i}", "input": {"text": f"Question {i}?"}, "references": references}


def token(text: str, logprob: float) -> dict[str, Any]:
    return {"text": text, "logprob": logprob}


def write_helm(folder: Path, state: dict[str, Any]) -> None:
    run = folder / "mmlu:subject=anatomy,method=x,model=org_m"
    run.mkdir(parents=True)
    (run / "scenario_state.json").write_text(json.dumps(state))


def test_helm_scores_of_each_reference_are_those_of_its_own_tokens(tmp_path: Path) -> None:
    endings = ([token(" red", -2.0)], [token(" dark", -1.0), token(" blue", -3.0)])
    states = [
        {
            "instance": helm_instance(i),
            "reference_index": k,
            "request_mode": mode,
            "train_trial_index": 0,
            "result": {
                "completions": [
                    {"text": "", "logprob": -9.0, "tokens": [token("Question", -7.0), *endings[k]]}
                ]
            },
        }
        for i in range(4)
        for k in range(2)
        for mode in ("original", "calibration")
    ]
    write_helm(tmp_path, helm_state("multiple_choice_separate_original", states))
    runs = {run.header.method: run for run in load(tmp_path)}
    assert runs["continuation-sum"].scores.tolist() == [[-2.0, -4.0]] * 4
    assert runs["continuation-mean"].scores.tolist() == [[-2.0, -2.0]] * 4
    assert runs["continuation-sum"].gold.tolist() == [0, 1, 0, 1]
    header = runs["continuation-sum"].header
    assert (header.model, header.task, header.n_shot) == ("org/m", "mmlu:subject=anatomy", 5)


def test_helm_run_of_a_real_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = json.loads((DATA / "helm" / "separate.json").read_text())
    write_helm(tmp_path, state)
    (folder,) = tmp_path.iterdir()
    for name in ("stats.json", "per_instance_stats.json"):  # which HELM writes beside it
        (folder / name).write_text("[{}]")
    run, *others = load(tmp_path)
    assert not caplog.records
    tokens: dict[str, list[list[dict[str, Any]]]] = {}
    for one in state["request_states"]:
        own = tokens.setdefault(one["instance"]["id"], [])
        own.append(one["result"]["completions"][0]["tokens"])
    # What the requests of a question share is its prompt, and the rest of each its reference.
    for scores, requests in zip(run.scores, tokens.values(), strict=True):
        texts = [[token["text"] for token in request] for request in requests]
        n = next(i for i, same in enumerate(zip(*texts, strict=False)) if len(set(same)) > 1)
        expected = [math.fsum(token["logprob"] for token in request[n:]) for request in requests]
        np.testing.assert_allclose(scores[: len(expected)], expected, atol=1e-12)
    (mean,) = (other for other in others if other.header.method == "continuation-mean")
    assert mean.correct.mean() == pytest.approx(4 / 6)  # exact_match in HELM's own stats.json


def test_helm_tokens_that_are_not_those_of_the_reference_are_refused(tmp_path: Path) -> None:
    state = json.loads((DATA / "helm" / "separate.json").read_text())
    for one in state["request_states"]:
        one["result"]["completions"][0]["tokens"][-1]["text"] += "x"
    write_helm(tmp_path, state)
    with pytest.raises(UserError, match="whose last tokens are not those of its reference 'girl'"):
        load(tmp_path)


def joint(i: int, letter: str, logprob: float) -> dict[str, Any]:
    return {
        "instance": helm_instance(i),
        "output_mapping": {"A": "red", "B": "dark blue"},
        "train_trial_index": 0,
        "result": {"completions": [{"text": f" {letter}", "logprob": logprob, "tokens": []}]},
    }


def test_helm_answers_of_a_joint_prompt_have_a_confidence(tmp_path: Path) -> None:
    states = [joint(0, "A", -0.1), joint(1, "A", -0.7), joint(2, "?", -0.5)]
    write_helm(tmp_path, helm_state("multiple_choice_joint", states))
    (run,) = load(tmp_path)
    assert run.header.method == "confidence"
    np.testing.assert_allclose(run.confidence[:2], np.exp([-0.1, -0.7]))
    assert run.correct.tolist() == [True, False, False]
    assert run.usable.tolist() == [True, True, False]  # an answer that is no letter


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (helm_state("generation", []), "of HELM with the adapter generation; what can be read"),
        (helm_state("multiple_choice_joint", [joint(0, "A", 0.0)]), "no log-probabilities of its"),
        ({"adapter_spec": 3}, "is named as a run of HELM and is not written as they are"),
    ],
)
def test_what_helm_does_not_tell_is_refused(
    tmp_path: Path, state: dict[str, Any], message: str
) -> None:
    write_helm(tmp_path, state)
    with pytest.raises(UserError, match=message):
        load(tmp_path)


# -- OLMES -----------------------------------------------------------------------------------


def write_olmes(folder: Path, *, with_requests: bool = True) -> list[list[float]]:
    rng = np.random.default_rng(0)
    rows, requests, sums = [], [], []
    for i in range(10):
        scores = (-rng.exponential(size=3) - 1).tolist()
        sums.append(scores)
        label = int(rng.integers(3))
        texts = [" a", " bb", " ccc"]
        rows.append(
            {
                "doc_id": i,
                "native_id": f"q{i}",
                "label": label,
                "metrics": {"acc_raw": int(np.argmax(scores) == label), "correct_choice": label},
                "model_output": [
                    {"sum_logits": s, "num_tokens": 1, "num_chars": len(t), "is_greedy": False}
                    for s, t in zip(scores, texts, strict=True)
                ],
            }
        )
        requests += [
            {"doc_id": i, "idx": k, "request": {"context": f"Q{i}", "continuation": t}}
            for k, t in enumerate(texts)
        ]
    stem = folder / "task-000-arc_challenge"
    Path(f"{stem}-predictions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    if with_requests:
        Path(f"{stem}-requests.jsonl").write_text("\n".join(map(json.dumps, requests)))
    metrics = {"model_config": {"model": "org/m"}, "task_config": {"num_shots": 5}}
    Path(f"{stem}-metrics.json").write_text(json.dumps(metrics))
    return sums


def test_olmes_sums_of_each_choice(tmp_path: Path) -> None:
    sums = write_olmes(tmp_path)
    runs = {r.header.method: r for r in load(tmp_path / "task-000-arc_challenge-predictions.jsonl")}
    run = runs["continuation-sum"]
    assert run.scores.tolist() == sums
    assert (run.header.model, run.header.task, run.header.n_shot, run.header.gold) == (
        *("org/m", "arc_challenge", 5),
        "stated",
    )
    expected = np.array(sums) / [1, 2, 3]
    np.testing.assert_allclose(runs["continuation-bytes"].scores, expected)


def test_olmes_gold_that_contradicts_its_accuracy_is_not_believed(tmp_path: Path) -> None:
    write_olmes(tmp_path)
    path = tmp_path / "task-000-arc_challenge-predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["label"] = (row["label"] + 1) % 3
    path.write_text("\n".join(map(json.dumps, rows)))
    assert not any(run.usable.any() for run in load(path))


def test_olmes_lengths_in_bytes_are_not_guessed(tmp_path: Path) -> None:
    write_olmes(tmp_path, with_requests=False)
    assert [run.header.method for run in load(tmp_path)] == ["continuation-sum"]


def test_olmes_names_of_files_and_questions_as_published(tmp_path: Path) -> None:
    write_olmes(tmp_path, with_requests=False)
    path = tmp_path / "arc_challenge-predictions.jsonl"
    next(tmp_path.glob("*-predictions.jsonl")).rename(path)
    next(tmp_path.glob("*-metrics.json")).rename(tmp_path / "arc_challenge-metrics.json")
    rows = [json.loads(line) | {"native_id": None} for line in path.read_text().splitlines()]
    path.write_text("\n".join(map(json.dumps, rows)))
    run = load(path)[0]
    assert (run.header.model, run.header.task) == ("org/m", "arc_challenge")
    assert len(set(run.doc_hash)) == len(run)


def test_a_table_called_predictions_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "predictions.jsonl").write_text('{"p0": 0.25, "p1": 0.75, "gold": 1}\n')
    (run,) = load(tmp_path / "predictions.jsonl")
    assert (run.header.method, run.gold.tolist()) == ("probabilities", [1])


def test_olmes_generation_is_refused(tmp_path: Path) -> None:
    row = {"doc_id": 0, "model_output": [{"continuation": "42"}], "metrics": {}}
    (tmp_path / "task-001-gsm8k-predictions.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match="of OLMES and holds no score of each choice"):
        load(tmp_path)


# -- lighteval -------------------------------------------------------------------------------


def test_lighteval_details_of_letters_and_texts(tmp_path: Path) -> None:
    # The files' own names, which not every file system takes.
    folder = tmp_path / "details" / "org" / "tiny" / "2026-11-28T08-00-00.000000"
    folder.mkdir(parents=True)
    for name, task in (("arc", "leaderboard|arc:challenge|0"), ("piqa", "lighteval|piqa|0")):
        data = (DATA / "lighteval" / f"{name}.parquet").read_bytes()
        (folder / f"details_{task}_{folder.name}.parquet").write_bytes(data)
    runs = {(r.header.task, r.header.method): r for r in load(tmp_path)}
    assert set(runs) == {
        ("arc:challenge", "continuation-sum"),
        ("arc:challenge", "continuation-bytes"),
        ("piqa", "choice"),
    }
    for run in runs.values():
        assert (run.header.model, run.header.n_shot) == ("org/tiny", 0)
        assert run.header.gold == "stated"
        assert len(run) == 12
        assert not math.isnan(run.confidence.sum())


def test_lighteval_runs_are_told_apart_before_they_are_read(tmp_path: Path) -> None:
    data = (DATA / "lighteval" / "piqa.parquet").read_bytes()
    for model in ("a", "b"):
        for date in ("2026-11-27T08-00-00.000000", "2026-11-28T08-00-00.000000"):
            folder = tmp_path / "details" / "org" / model / date
            folder.mkdir(parents=True)
            for subject in ("x", "y"):
                (folder / f"details_lighteval|piqa_{subject}|0_{date}.parquet").write_bytes(data)
    runs = load_predictions(tmp_path, tasks=["piqa_x", "piqa_y"], pool="piqa_*", cache=False)
    assert {(r.header.label, r.header.date[:10], len(r)) for r in runs} == {
        ("org/a", "2026-11-28", 24),
        ("org/b", "2026-11-28", 24),
    }


def test_lighteval_without_scores_is_refused(tmp_path: Path) -> None:
    import pandas as pd

    doc = {"query": "6*7?", "choices": ["42"], "gold_index": 0, "id": "0"}
    row = {"doc": doc, "model_response": {"logprobs": []}, "metric": {"em": 1.0}}
    pd.DataFrame([row]).to_parquet(
        tmp_path / "details_lighteval|gsm8k|0_2025-01-01T00-00-00.parquet"
    )
    with pytest.raises(UserError, match="of lighteval and holds no log-probability of each choice"):
        load(tmp_path)
