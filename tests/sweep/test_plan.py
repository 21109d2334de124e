"""From a spec to runs: what they are, what tells them apart, how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from calib_harness.errors import UserError
from calib_harness.sweep.planning import plan as planning
from calib_harness.sweep.planning.plan import make_plan


@pytest.fixture
def plan(tmp_path):
    """Return a function that plans a spec with these parts."""
    tasks = tmp_path / "own"
    tasks.mkdir()
    for name in ("sciq", "piqa"):  # found here first, lm-eval's own need not be searched
        (tasks / f"{name}.yaml").write_text(f"task: {name}\n")

    def make(**parts):
        spec = {"output": "out", "tasks": ["sciq"], "models": [{"id": "org/model"}]}
        spec |= {"include_path": "own"} | parts
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump(spec))
        return make_plan(path)

    return make


def option(run, name):
    values = [word.split("=", 1)[1] for word in run.arguments if word.startswith(f"{name}=")]
    assert len(values) == 1
    return values[0]


def test_run_is_one_setting_with_all_its_tasks(plan):
    runs = plan(
        tasks=["sciq", "piqa"],
        defaults={"num_fewshot": [0, 5], "dtype": "float32"},
        models=[
            {"id": "org/a", "apply_chat_template": [False, True]},
            {"id": "org/b", "revisions": ["main", "v2"], "num_fewshot": 1, "dtype": "bfloat16"},
        ],
    ).runs
    assert [(run.model, run.revision, run.num_fewshot, run.chat) for run in runs] == [
        ("org/a", None, 0, False),
        ("org/a", None, 0, True),
        ("org/a", None, 5, False),
        ("org/a", None, 5, True),
        ("org/b", "main", 1, False),
        ("org/b", "v2", 1, False),
    ]
    assert all(option(run, "--tasks") == "sciq,piqa" for run in runs)
    assert json.loads(option(runs[0], "--model_args")) == {
        "pretrained": "org/a",
        "dtype": "float32",
    }
    assert json.loads(option(runs[5], "--model_args")) == {
        "pretrained": "org/b",
        "revision": "v2",
        "dtype": "bfloat16",
    }
    assert ["--apply_chat_template" in run.arguments for run in runs] == [
        *(False, True, False, True, False, False)
    ]


def test_steps_become_revisions(plan):
    models = [{"id": "org/a", "steps": {"start": 0, "stop": 2000, "by": 1000}}]
    runs = plan(models=models).runs
    assert [(run.revision, run.step) for run in runs] == [
        ("step0", 0),
        ("step1000", 1000),
        ("step2000", 2000),
    ]


BASE = {"id": "org/model"}
CHANGES = {
    "revision": {"revisions": ["v2"]},
    "dtype": {"dtype": "float16"},
    "any model argument": {"model_args": {"load_in_4bit": True}},
    "tasks": {"tasks": ["piqa"]},
    "shots": {"num_fewshot": 3},
    "limit": {"limit": 7},
    "seed": {"seed": 5},
    "chat template": {"apply_chat_template": True},
    "system instruction": {"system_instruction": "Be brief."},
    "batch size": {"batch_size": 8},
    "kind of device": {"device": "cpu"},
    "metadata": {"metadata": {"n_bins": 10}},
    "remote code": {"trust_remote_code": True},
    "backend": {"backend": "vllm"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_can_change_a_number_makes_another_run(plan, change):
    [before], [after] = plan(models=[BASE]).runs, plan(models=[BASE | change]).runs
    assert before.identity != after.identity
    assert before.name != after.name


SAME = {
    "labels": {"family": "f", "stage": "base"},
    "resources": {"resources": {"gpus": 1, "memory": "1GiB"}},
    "time limit": {"time_limit": "1h"},
    "the default said": {"seed": [0, 1234, 1234, 1234], "batch_size": 1, "num_fewshot": None},
    "order of arguments": {"model_args": {"b": 1, "a": 2}},
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_changes_no_number_makes_no_other_run(plan, change):
    arguments = {"model_args": {"a": 2, "b": 1}} if "model_args" in change else {}
    [before], [after] = plan(models=[BASE | arguments]).runs, plan(models=[BASE | change]).runs
    assert before.identity == after.identity


def test_retrained_local_model_makes_another_run(plan, tmp_path):
    weights = tmp_path / "model" / "weights.bin"
    weights.parent.mkdir()
    weights.write_bytes(bytes(1000))
    [before] = plan(models=[{"id": "./model"}]).runs
    weights.write_bytes(bytes(999) + b"x")
    from calib_harness.sweep.planning.fingerprint import fingerprint_files

    fingerprint_files.cache_clear()
    [after] = plan(models=[{"id": "./model"}]).runs
    assert json.loads(option(after, "--model_args"))["pretrained"] == str(tmp_path / "model")
    assert before.identity != after.identity


def test_changed_data_of_a_task_makes_another_run(plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    kwargs = {"data_files": {"test": "questions.jsonl"}}
    task = {"task": "own", "dataset_path": "json", "dataset_kwargs": kwargs}
    (tmp_path / "tasks" / "own.yaml").write_text(yaml.safe_dump(task))
    from calib_harness.sweep.planning.fingerprint import fingerprint_files

    identities = set()
    for text in ("a", "b", "b"):
        (tmp_path / "questions.jsonl").write_text(text)
        fingerprint_files.cache_clear()
        identities.add(plan(tasks=["own"], include_path="tasks").runs[0].identity)
    assert len(identities) == 2


def test_changed_file_of_a_task_named_by_its_path_makes_another_run(plan, tmp_path):
    task, functions = tmp_path / "mine" / "one.yaml", tmp_path / "mine" / "functions.py"
    task.parent.mkdir()
    identities = set()
    for text, code in (("a", "b"), ("c", "b"), ("c", "d"), ("c", "d")):
        task.write_text(f"task: one\ndoc_to_text: {text}\ndoc_to_target: !function functions.f\n")
        functions.write_text(code)
        identities.add(plan(tasks=["sciq", "./mine/one.yaml"]).runs[0].identity)
    assert len(identities) == 3


def test_folder_that_takes_the_place_of_a_hub_model_is_noted_and_part_of_the_identity(
    plan, tmp_path, monkeypatch
):
    [before] = plan(models=[BASE]).runs
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "org" / "model" / "weights.bin"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"x")
    found = plan(models=[BASE])
    assert found.notes == (
        f"model org/model: a folder of this name in {tmp_path} takes the Hub's place",
    )
    assert found.runs[0].identity != before.identity
    # The run still names it as the spec does: on another machine it may come from the Hub.
    assert json.loads(option(found.runs[0], "--model_args"))["pretrained"] == "org/model"


def test_output_of_the_command_line_starts_where_the_command_does(plan, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    plan(working_dir="own")
    assert make_plan(tmp_path / "spec.yaml", output="out").output == str(elsewhere / "out")
    assert make_plan(tmp_path / "spec.yaml").output == str(tmp_path / "out")


def test_password_in_the_output_of_the_command_line_is_refused(plan, tmp_path):
    plan()
    with pytest.raises(UserError, match="--output: expected no password in a URL"):
        make_plan(tmp_path / "spec.yaml", output="s3://me:password@host/out")


def test_model_that_cannot_be_read_is_told(plan, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "weights.bin"
    path.touch()

    def refuse(name):  # root may read everything
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("calib_harness.sweep.planning.plan.fingerprint_files", refuse)
    with pytest.raises(
        UserError, match=r"expected local models .*weights.bin' \(Permission denied"
    ):
        plan(models=[{"id": "./model"}])


@pytest.mark.parametrize(
    ("model", "revision", "name"),
    [
        ("./models/step-20", "step20", "step-20"),
        ("org/model", "step20", "model-step20"),
        ("org/model-120", "step20", "model-120-step20"),
        ("org/model-7b", "b", "model-7b-b"),
    ],
)
def test_name_of_a_run_does_not_tell_a_revision_twice(plan, model, revision, name):
    [run] = plan(models=[{"id": model, "revisions": [revision]}]).runs
    assert run.name == f"{name}-{run.identity[:12]}"


def test_missing_local_model_is_noted_and_left_to_its_run(plan):
    assert plan(models=[{"id": "./nowhere"}]).notes == (
        "model ./nowhere: no such folder here; its run will fail unless it is there by then",
    )


def test_same_run_twice_is_refused(plan):
    with pytest.raises(UserError, match="got 'org/model' twice"):
        plan(models=[BASE, BASE | {"stage": "aligned"}])


def test_unknown_task_is_told_with_the_nearest_name(plan):
    with pytest.raises(UserError) as caught:
        plan(tasks=["sciq", "arc_easi"], models=[BASE | {"tasks": ["no_such_task_at_all"]}])
    told = str(caught.value)
    assert (
        "tasks[1]: expected the name of a task, group or tag, got 'arc_easi'; did you mean" in told
    )
    assert "'arc_easy'" in told
    assert "models[0].tasks[0]: expected the name of a task" in told


def test_patterns_tags_and_groups_are_names_of_tasks(plan):
    assert plan(tasks=["mmlu_stem", "arc_*", "ai2_arc", "mmlu"]).runs


def test_folder_that_does_not_exist_is_named(plan):
    with pytest.raises(UserError, match="include_path: expected a folder that exists"):
        plan(include_path="nowhere")


def test_planning_loads_neither_torch_nor_lm_eval():
    code = (
        "import sys, calib_harness.sweep.commands, calib_harness.sweep.executors.local;"
        "print(sorted({'torch', 'lm_eval', 'ray', 'pandas'} & set(sys.modules)))"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": root},
        check=True,
    )
    assert done.stdout == "[]\n"


def test_task_files_are_read_once_however_many_runs_there_are(plan, monkeypatch):
    # How long a thousand runs take to plan is measured in benchmarks/sweep.py.
    calls = []
    fingerprint = planning.fingerprint_tasks
    monkeypatch.setattr(
        planning, "fingerprint_tasks", lambda *args: calls.append(args) or fingerprint(*args)
    )
    models = [
        {"id": f"org/model-{number}", "family": f"f{number}", "stage": "base", "dtype": "float16"}
        for number in range(100)
    ]
    assert len(plan(tasks=["arc_easy", "sciq", "mmlu_stem"], models=models).runs) == 100
    few = len(calls)
    assert few >= 1
    plan(tasks=["arc_easy", "sciq", "mmlu_stem"], models=models[:1])
    assert len(calls) == 2 * few
