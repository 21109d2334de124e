"""What a spec may say, and what is said about one that is wrong."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml

from calib_harness.errors import UserError
from calib_harness.sweep.planning.reading import load_spec

GOOD = {"output": "out", "tasks": ["sciq"], "models": [{"id": "org/model"}]}


def complaint(tmp_path, spec) -> str:
    path = tmp_path / "spec.yaml"
    path.write_text(spec if isinstance(spec, str) else yaml.safe_dump(spec))
    with pytest.raises(UserError) as caught:
        load_spec(path)
    return str(caught.value).replace(f"{path}: ", "")


MISTAKES = {
    "unknown key": ({"taks": []}, "taks: unknown key; did you mean 'tasks'?"),
    "unknown key far from all": ({"zzzz": 1}, "zzzz: unknown key; expected one of output, tasks"),
    "no models": ({"models": []}, "models: expected a list of models, got []"),
    "model without id": ({"models": [{"stage": "base"}]}, "models[0].id: this key is needed"),
    "id like an option": (
        {"models": [{"id": "--help"}]},
        "models[0].id: expected a model's Hub id",
    ),
    "task like an option": (
        {"tasks": ["-x"]},
        "tasks[0]: expected an entry of a list of task names, got '-x'",
    ),
    "wrong type": (
        {"defaults": {"num_fewshot": "five"}},
        "defaults.num_fewshot: expected a whole number from 0 up, or a list of them, got 'five'",
    ),
    "truth for a number": ({"defaults": {"limit": True}}, "defaults.limit: expected a number"),
    "text for truth": (
        {"models": [{"id": "a", "trust_remote_code": "yes"}]},
        "models[0].trust_remote_code: expected true or false, got 'yes'",
    ),
    "three seeds": ({"defaults": {"seed": [1, 2, 3]}}, "defaults.seed: expected a whole number"),
    "unknown unit": (
        {"defaults": {"time_limit": "3 weeks"}},
        "defaults.time_limit: expected a positive number of seconds, or one with a unit such as "
        "90s, 30m or 2h, got '3 weeks'",
    ),
    "nested unknown key": (
        {"defaults": {"resources": {"gpu": 1}}},
        "defaults.resources.gpu: unknown key; did you mean 'gpus'?",
    ),
    "near executor": (
        {"execution": {"executor": "rya"}},
        "execution.executor: expected local or ray, got 'rya'; did you mean 'ray'?",
    ),
    "steps and revisions": (
        {"models": [{"id": "a", "steps": [1], "revisions": ["main"]}]},
        "models[0]: give either revisions or steps, not both",
    ),
    "steps backwards": (
        {"models": [{"id": "a", "steps": {"start": 5, "stop": 1, "by": 1}}]},
        "models[0].steps: stop (1) lies before start (5)",
    ),
    "secret in model_args": (
        {"models": [{"id": "a", "model_args": {"token": "hf_123"}}]},
        "models[0]: model_args holds a secret (token)",
    ),
    "secret deep in model_args": (
        {"defaults": {"model_args": {"peft": {"api_key": "123"}}}},
        "defaults: model_args holds a secret (api_key)",
    ),
    "secret by its value": (
        {"environment": {"set": {"LOGIN": "hf_abcdefghijklmnop"}}},
        "environment.set.LOGIN: expected no secret in a spec, got what looks like one",
    ),
    "password in a URL": (
        {"output": "ftp://me:secret@host/out"},
        "output: expected no secret in a spec",
    ),
    "id of two lines": ({"models": [{"id": "a\nb"}]}, "models[0].id: expected a model's Hub id"),
    "task of two lines": ({"tasks": ["sciq\nb"]}, "tasks[0]: expected an entry of a list of"),
    "two tasks in one": ({"tasks": ["sciq,piqa"]}, "tasks[0]: expected an entry of a list of"),
    "family that rewrites the terminal": (
        {"models": [{"id": "a", "family": "\x1b[2J"}]},
        "models[0].family: expected a text in one line",
    ),
    "stage that turns the direction of writing": (
        {"models": [{"id": "a", "stage": "base\u202eesab"}]},
        "models[0].stage: expected a text such as base",
    ),
    "limit without end": (
        {"defaults": {"limit": float("inf")}},
        "defaults.limit: expected a number of questions per task above 0, got inf",
    ),
    "memory without end": (
        {"defaults": {"resources": {"memory": float("inf")}}},
        "defaults.resources.memory: expected a size",
    ),
    "one and a half GPUs": (
        {"defaults": {"resources": {"gpus": 1.5}}},
        "defaults.resources: expected a whole number of GPUs above 1, got 1.5",
    ),
    "more steps than meant": (
        {"models": [{"id": "a", "steps": {"stop": 10**12, "by": 1}}]},
        "models[0].steps: expected at most 100,000 steps, got 1,000,000,000,001; raise `by` (1)",
    ),
    "date in model_args": (
        {"models": [{"id": "a", "model_args": {"list": [date(2024, 1, 1)]}}]},
        "models[0].model_args.list[0]: expected a text, a number, true, false, null, a list or a "
        "mapping, got datetime.date(2024, 1, 1); put it in quotes",
    ),
    "number for a key": (
        {"defaults": {"metadata": {"map": {0: "a", "b": "c"}}}},
        "defaults.metadata.map: expected texts for keys, got 0; put it in quotes",
    ),
    "revision of two lines": (
        {"models": [{"id": "a", "revisions": ["main\nb"]}]},
        "models[0].revisions[0]: expected an entry of a list of branches",
    ),
    "back door in model_args": (
        {"defaults": {"model_args": {"trust_remote_code": True}}},
        "defaults: write trust_remote_code as a key of its own",
    ),
    "secret in the environment": (
        {"environment": {"set": {"HF_TOKEN": "hf_123"}}},
        "environment: set holds a secret (HF_TOKEN); export it in the shell",
    ),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_told_with_place_expectation_and_what_came(tmp_path, change, message):
    assert message in complaint(tmp_path, GOOD | change)


def test_all_mistakes_are_told_at_once(tmp_path):
    told = complaint(tmp_path, {"taks": [], "tasks": [1], "models": [{"id": 3}]})
    assert len(told.splitlines()) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "output: [",
            "not YAML: while parsing a flow node did not find expected node content in line 2",
        ),
        ("- a", "expected a mapping"),
        ("output: a\noutput: b", "the key 'output' is given twice"),
        ("output: 2024-13-45", "not YAML: month must be in 1..12"),
        ("output: &a [*a]", "an anchor that holds its own alias"),
        ("output: " + 500 * "[" + 500 * "]", "expected lists and mappings a few levels deep"),
        ("output: !!python/object/apply:os.system [echo]", "not YAML"),
    ],
)
def test_what_is_no_spec_is_refused(tmp_path, text, message):
    assert message in complaint(tmp_path, text)


def test_file_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError, match=r"expected a YAML file, got '.*nowhere\.yaml'"):
        load_spec(tmp_path / "nowhere.yaml")


def test_units_are_read(tmp_path):
    path = tmp_path / "spec.yaml"
    defaults = {"time_limit": "2h", "resources": {"memory": "24GiB"}}
    path.write_text(yaml.safe_dump(GOOD | {"defaults": defaults}))
    spec = load_spec(path)
    assert spec.defaults.time_limit == 7200
    assert spec.defaults.resources.memory == 24 * 2**30


def test_command_line_tells_mistakes_without_a_traceback(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(GOOD | {"taks": []}))
    code = "from calib_harness.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "sweep", "run", str(path)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"calib-harness: {path}: taks: unknown key; did you mean 'tasks'?\n"


CODE = (
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "HOME", "PYTHONPATH", "PYTHONUSERBASE", "BASH_ENV"),
    *("PYTHONWARNINGS", "GIT_SSH_COMMAND", "HF_HUB_TRUST_REMOTE_CODE", "VLLM_PLUGINS", "CC"),
)


@pytest.mark.parametrize("name", CODE)
def test_variable_by_which_code_is_loaded_is_refused(tmp_path, name):
    told = complaint(tmp_path, GOOD | {"environment": {"set": {name: "x"}}})
    assert told.startswith(f"environment: set holds {name}, by which code can be loaded")


def test_ordinary_variables_can_be_set(tmp_path):
    chosen = {"HF_HOME": "a", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "0"}
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(GOOD | {"environment": {"set": chosen}}))
    assert load_spec(path).environment.set == chosen


def test_a_derived_name_is_known_where_its_stock_task_is(tmp_path):
    from calib_harness.errors import UserError
    from calib_harness.sweep.planning.tasknames import check_tasks

    spec = tmp_path / "sweep.yaml"
    check_tasks([("tasks[0]", "winogrande_calib"), ("tasks[1]", "race_calib_choice")], None, spec)
    with pytest.raises(UserError, match="got 'winogrand_calib'"):
        check_tasks([("tasks[0]", "winogrand_calib")], None, spec)
