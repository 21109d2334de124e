"""Several tasks' questions as one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calib_harness import UserError, compare, ece, load_predictions, metrics_frame
from calib_harness.predictions.pooling import KNOWN_GROUPS
from calib_harness.predictions.samples import write_example_log
from tests.predictions.entries import entry, write_run

SUBJECTS = ("mmlu_anatomy", "mmlu_virology", "mmlu_sociology")


def write_subjects(folder: Path, model: str, tasks: tuple[str, ...] = SUBJECTS) -> None:
    for seed, task in enumerate(tasks):
        write_example_log(folder, model=model, task=task, n=30 + seed, seed=seed, sharpness=2.0)


def test_a_pool_is_its_tasks_questions_one_after_the_other(tmp_path: Path) -> None:
    write_subjects(tmp_path, "org/m")
    write_example_log(tmp_path, model="org/m", task="arc", n=10)
    alone = {p.header.task: p for p in load_predictions(tmp_path, cache=False)}
    arc, pool = load_predictions(tmp_path, cache=False, pool=["mmlu"])
    assert (arc.header.task, pool.header.task) == ("arc", "mmlu")
    assert len(pool) == 30 + 31 + 32
    assert pool.subject is not None
    for task in SUBJECTS:
        part = pool.take(pool.subject == task)
        np.testing.assert_array_equal(part.scores, alone[task].scores)
        np.testing.assert_array_equal(part.gold, alone[task].gold)
    probs = np.concatenate([alone[task].probs for task in sorted(SUBJECTS)])
    gold = np.concatenate([alone[task].gold for task in sorted(SUBJECTS)])
    assert ece(pool.probs, pool.gold) == pytest.approx(ece(probs, gold), abs=1e-12)
    mean = np.mean([ece(alone[task].probs, alone[task].gold) for task in SUBJECTS])
    assert ece(pool.probs, pool.gold) < mean  # which is biased upwards


def test_categories_of_mmlu_are_known_and_add_up(tmp_path: Path) -> None:
    write_subjects(tmp_path, "org/m")
    runs = load_predictions(tmp_path, cache=False, pool=["mmlu_stem", "mmlu_other"])
    assert {p.header.task: len(p) for p in runs} == {
        "mmlu_stem": 30,
        "mmlu_other": 31,
        "mmlu_sociology": 32,
    }
    assert len(KNOWN_GROUPS["mmlu"]) == 3 * 57


def test_a_group_of_the_results_file_and_a_pattern_name_the_same_tasks(tmp_path: Path) -> None:
    write_subjects(tmp_path, "org/m", ("x_a", "x_b", "y"))
    results = next((tmp_path / "org__m").glob("results_*.json"))
    content = json.loads(results.read_text())
    content["group_subtasks"] = {"all": ["inner"], "inner": ["x_a", "x_b"], "y": []}
    results.write_text(json.dumps(content))
    for name in ("all", "inner", "x_*"):
        runs = load_predictions(tmp_path, cache=False, pool=name)
        assert {p.header.task: len(p) for p in runs} == {name: 61, "y": 32}


def test_choices_of_unequal_number_and_methods_that_one_task_lacks(
    tmp_path: Path,
) -> None:
    tokens = [[-1.0], [-2.0]]
    with_tokens = entry(0, [-1.0, -2.0], 0, texts=["u", "v"], tokens=tokens)
    without = entry(1, [-1.0, -2.0, -3.0], 0, texts=["u", "v", "w"])
    write_run(tmp_path, [with_tokens], task="t_1", date="2025-03-04T00-00-00.0")
    write_run(tmp_path, [without], task="t_2")
    runs = load_predictions(tmp_path, cache=False, pool="t_*")
    assert [p.header.method for p in runs] == ["continuation-sum", "continuation-bytes"]
    assert np.isnan(runs[0].scores[0, 2])
    with pytest.raises(UserError, match="no log-probabilities of single tokens"):
        load_predictions(tmp_path, cache=False, pool="t_*", methods="continuation-min")


def test_models_with_other_tasks_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_subjects(tmp_path, "org/whole")
    write_subjects(tmp_path, "org/part", SUBJECTS[:2])
    load_predictions(tmp_path, cache=False, pool="mmlu")
    assert "org/part has 2 of the 3 tasks pooled as mmlu (not mmlu_sociology)" in caplog.text


def test_settings_and_repetitions_are_not_pooled_together(tmp_path: Path) -> None:
    for date in ("2025-01-01T00-00-00.0", "2025-01-02T00-00-00.0"):
        for task in ("t_1", "t_2"):
            write_example_log(tmp_path, model="m", task=task, n=10, date=date)
    assert [len(p) for p in load_predictions(tmp_path, cache=False, pool="t_*")] == [20]
    both = load_predictions(tmp_path, cache=False, pool="t_*", all_runs=True)
    assert [len(p) for p in both] == [20, 20]


def test_a_pool_is_resampled_by_subject_where_asked(tmp_path: Path) -> None:
    write_subjects(tmp_path, "org/m", tuple(f"mmlu_{name}" for name in "abcdefghijkl"))
    write_example_log(tmp_path, model="org/m", task="arc", n=30)
    runs = load_predictions(tmp_path, cache=False, pool="mmlu_*")
    names = ["acc", "choice_mass", "calibration_loss"]
    by_question = metrics_frame(runs, metrics=names, n_resamples=400)
    by_subject = metrics_frame(runs, metrics=names, n_resamples=400, by_subject=True)
    assert by_question["n_subjects"].isna().all()
    assert dict(zip(by_subject["task"], by_subject["n_subjects"], strict=True)) == {
        "arc": None,  # no pool: its questions are resampled
        "mmlu_*": 12,
    }
    pool = next(p for p in runs if p.header.task == "mmlu_*")
    assert pool.subject is not None
    for _, row in by_subject[by_subject["task"] == "mmlu_*"].iterrows():
        same = by_question[(by_question["task"] == "mmlu_*")]
        (other,) = same[same["metric"] == row["metric"]].itertuples()
        assert row["value"] == pytest.approx(other.value, abs=1e-12)
        assert row["stderr"] != other.stderr
    # The ratio estimator's error, from the subjects' sums of what differs from the mean.
    residuals = pool.correct - pool.correct.mean()
    sums = [residuals[pool.subject == name].sum() for name in set(pool.subject)]
    expected = np.sqrt(np.sum(np.square(sums)) * 12 / 11) / len(pool)
    (found,) = by_subject[(by_subject["metric"] == "acc") & by_subject["n_subjects"].notna()][
        "stderr"
    ]
    assert found == pytest.approx(expected, rel=0.15)


def test_calibration_errors_have_no_interval_where_subjects_are_resampled(tmp_path: Path) -> None:
    write_subjects(tmp_path, "org/m", tuple(f"mmlu_{name}" for name in "abcdef"))
    runs = load_predictions(tmp_path, cache=False, pool="mmlu_*")
    names = ["acc", "brier_score", "ece", "sce"]
    frame = metrics_frame(runs, metrics=names, n_resamples=50, by_subject=True)
    found = frame.set_index("metric")
    assert found.loc[names, "stderr"].gt(0).all()
    assert found.loc[["acc", "brier_score"], ["low", "high"]].notna().all(axis=None)
    assert found.loc[["ece", "sce"], ["low", "high"]].isna().all(axis=None)


def test_pools_are_compared_on_their_shared_questions(tmp_path: Path) -> None:
    write_subjects(tmp_path, "org/m")
    write_subjects(tmp_path, "org/m-chat", SUBJECTS[:2])
    runs = load_predictions(tmp_path, cache=False, pool="mmlu")
    changes = compare(runs, base="org/m", aligned="org/m-chat", n_resamples=50).changes
    assert set(changes["task"]) == {"mmlu"}
    assert set(changes["n"]) == {61}
    assert set(changes["gold"]) == {"confirmed"}


def test_a_log_that_cannot_be_used_is_no_part_of_its_pool(tmp_path: Path) -> None:
    write_subjects(tmp_path, "org/m")
    next((tmp_path / "org__m").glob("samples_mmlu_virology*")).write_text("{")
    (pool,) = load_predictions(tmp_path, cache=False, pool="mmlu")
    assert len(pool) == 30 + 32


def test_every_task_and_no_other_model_of_pooled_tables_is_kept(tmp_path: Path) -> None:
    paths = []
    for part, subject in enumerate(("a", "b")):
        rows = [
            f"{model},{subject}{i % 2},{model}{part}{i},{-1 - i},-3,0"
            for model in ("m1", "m2")
            for i in range(6)
        ]
        path = tmp_path / f"t_{part}.csv"
        path.write_text("model,task,id,score_0,score_1,gold\n" + "\n".join(rows))
        paths.append(path)
    runs = load_predictions(paths, scores="sum", pool="[ab]*", cache=False)
    assert {(p.header.model, p.header.task, len(p)) for p in runs} == {
        ("m1", "[ab]*", 12),
        ("m2", "[ab]*", 12),
    }
    for run in runs:
        assert run.subject is not None
        assert sorted(set(run.subject)) == ["a0", "a1", "b0", "b1"]
        assert all(name.startswith(run.header.model) for name in run.doc_hash)


def test_tasks_within_one_table_are_pooled_by_their_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "scores.csv"
    rows = [
        f"{model},{task},{task}{i},{-1 - i},-3,{i % 2}"
        for model in ("whole", "part")
        for task in ("mmlu_anatomy", "mmlu_virology", "arc")
        for i in range(5)
        if (model, task) != ("part", "mmlu_virology")
    ]
    path.write_text("model,task,id,score_0,score_1,gold\n" + "\n".join(rows))
    runs = load_predictions(path, scores="sum", pool=["mmlu"], cache=False)
    assert {(p.header.model, p.header.task): len(p) for p in runs} == {
        ("whole", "arc"): 5,
        ("part", "arc"): 5,
        ("whole", "mmlu"): 10,
        ("part", "mmlu"): 5,
    }
    assert "part has 1 of the 2 tasks pooled as mmlu (not mmlu_virology)" in caplog.text
    with pytest.raises(UserError, match=r"'bbh' is none that .* arc, mmlu_anatomy, mmlu_virology"):
        load_predictions(path, scores="sum", pool=["bbh"], cache=False)


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (["bbh"], r"pool must be a group \(mmlu, .*\) or a pattern of tasks; 'bbh' is none"),
        (["z_*"], r"'z_\*' is none that has logs here, whose tasks are mmlu_anatomy"),
        (["mmlu", "mmlu_*"], "pool names mmlu and mmlu_\\*, and mmlu_anatomy belongs to both"),
    ],
)
def test_a_pool_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, pool: list[str], message: str
) -> None:
    write_subjects(tmp_path, "org/m")
    with pytest.raises(UserError, match=message):
        load_predictions(tmp_path, cache=False, pool=pool)
