"""A sweep carried out on this machine, with a stand-in for lm-eval."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from calib_harness.errors import UserError
from calib_harness.sweep.sweep import show_status

HERE = str(Path(__file__).parent)


def test_sweep_carries_out_every_run_and_keeps_what_led_to_it(sweep):
    status, told = sweep.run()
    assert status == 0
    assert sweep.finished() == {"first", "second", "third"}
    folder = next((sweep.output / "runs").glob("first-*"))
    facts = json.loads((folder / "run.json").read_text())
    assert facts["settings"]["model_args"] == {"pretrained": "first"}
    assert shlex.split((folder / "command.txt").read_text()) == facts["command"]
    assert {"python", "lm_eval", "torch"} <= json.loads(
        (folder / "versions.json").read_text()
    ).keys()
    assert "Building contexts for fake_mc" in (folder / "output.log").read_text()
    assert list(folder.glob("results/first/results_*.json"))
    assert "3 finished, 0 failed" in told
    assert not list((sweep.output / "unfinished").iterdir())


def test_second_invocation_has_nothing_to_do(sweep):
    sweep.run()
    before = sweep.scored()
    status, told = sweep.run()
    assert status == 0
    assert sweep.scored() == before
    assert "3 finished; output" in told


def test_dry_run_starts_and_writes_nothing(sweep):
    status, told = sweep.run(dry_run=True)
    assert status == 0
    assert "3 runs: 3 waiting" in told
    assert not sweep.output.exists()


def test_only_what_a_spec_adds_is_carried_out(sweep):
    sweep.run()
    sweep.spec["models"].append({"id": "fourth", "num_fewshot": [0, 5]})
    _, told = sweep.run()
    assert "5 runs: 3 finished, 2 waiting" in told
    assert "2 finished, 0 failed" in told


def test_changed_task_file_makes_new_runs(sweep):
    sweep.run()
    task = sweep.root / "tasks" / "fake_mc.yaml"
    task.write_text(task.read_text() + "description: changed\n")
    _, told = sweep.run(dry_run=True)
    assert "3 runs: 3 waiting" in told


def test_files_that_define_no_task_do_not_make_new_runs(sweep):
    sweep.run()
    (sweep.root / "tasks" / "notes").write_text("not a task")
    (sweep.root / "tasks" / "other_spec.yaml").write_text("tasks: [a]\n")
    _, told = sweep.run(dry_run=True)
    assert "3 runs: 3 finished" in told


def test_workers_carry_out_runs_at_the_same_time(sweep):
    for model in ("first", "second", "third"):
        sweep.order(model, "slow", at=0)
    began = time.monotonic()
    status, _ = sweep.run(workers=3)
    assert status == 0
    # 60 requests of 0.05 s each make 3 s a run; one after the other would be 9 s.
    assert time.monotonic() - began < 8


def test_variables_reach_the_run_and_secrets_reach_no_file(sweep, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    sweep.write(environment={"set": {"FAKE_THREADS": 2}, "pass": ["HF_TOKEN"]})
    sweep.order("second", "raise", text="a mistake with hf_abcdefghijklmnop in its traceback")
    status, told = sweep.run()
    assert status == 1
    assert "a mistake with [HF_TOKEN] in its traceback" in told
    log = next((sweep.output / "runs").glob("first-*/output.log")).read_text()
    assert "a secret slips out: [HF_TOKEN]" in log
    for path in sweep.output.rglob("*"):
        assert path.is_dir() or b"hf_abcdefghijklmnop" not in path.read_bytes(), path
    assert "hf_abcdefghijklmnop" not in told
    facts = json.loads(next((sweep.output / "runs").glob("first-*/run.json")).read_text())
    assert facts["environment"] == {"FAKE_THREADS": "2"}


def test_missing_variable_is_said_before_anything_starts(sweep, monkeypatch):
    monkeypatch.delenv("MY_TOKEN", raising=False)
    sweep.write(environment={"pass": ["MY_TOKEN"]})
    with pytest.raises(UserError, match="expected MY_TOKEN to be set"):
        sweep.run()
    assert not sweep.scored()


def test_remote_code_is_off_unless_the_spec_says_so_and_then_it_is_said(sweep):
    sweep.spec["models"][0]["trust_remote_code"] = True
    _, told = sweep.run()
    assert "trust_remote_code is on for first" in told
    commands = {
        path.parent.name.rsplit("-", 1)[0]: json.loads(path.read_text())["command"]
        for path in (sweep.output / "runs").glob("*/run.json")
    }
    assert "--trust_remote_code" in commands["first"]
    assert "--trust_remote_code" not in commands["second"]


def test_names_never_reach_a_shell(sweep):
    trap = sweep.root / "trap"
    sweep.spec["models"][0]["id"] = f"a; touch {trap}; $(touch {trap}) `touch {trap}`"
    sweep.run()
    assert not trap.exists()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no PYTHONSAFEPATH")
def test_modules_in_the_folder_where_runs_start_are_not_imported(sweep, monkeypatch):
    trap = sweep.root / "trap"
    (sweep.root / "sqlite3.py").write_text(f"open({str(trap)!r}, 'w')")
    monkeypatch.setenv("PYTHONPATH", HERE)
    sweep.write(working_dir=".")
    status, told = sweep.run(launcher=[sys.executable, "-m", "fake_run"])
    assert status == 0, told
    assert not trap.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "auto"}, "--address: expected --executor ray"),
        ({"executor": "ray", "address": "auto", "workers": 2}, "--workers: expected nothing"),
    ],
)
def test_option_that_would_have_no_effect_is_refused(sweep, options, message):
    with pytest.raises(UserError, match=message):
        sweep.run(**options)
    assert not sweep.scored()


def test_more_gpus_than_the_machine_has_is_said_before_anything_starts(sweep):
    sweep.spec["models"][0]["resources"] = {"gpus": 2}
    with pytest.raises(UserError, match="expected at most 0"):
        sweep.run()


def test_runs_made_with_other_versions_are_noted(sweep):
    sweep.run()
    [path] = (sweep.output / "runs").glob("first-*/versions.json")
    other = json.loads(path.read_text()) | {"torch": "0.0.0"}
    text = json.dumps(other, indent=1)
    manifest = path.with_name("manifest.json")
    listed = json.loads(manifest.read_text())
    listed["files"]["versions.json"][0] = len(text)
    path.write_text(text)
    manifest.write_text(json.dumps(listed))
    _, told = sweep.run()
    assert "note: these runs saw several versions of torch: ['0.0.0', " in told


def test_status_tells_from_elsewhere_what_is_running_and_what_failed(sweep):
    def status() -> str:
        with open(os.devnull, "w") as nowhere:
            console = Console(width=200, record=True, file=nowhere)
            show_status(sweep.path, console=console)
        return console.export_text()

    assert "3 runs: 3 waiting" in status()
    sweep.spec["execution"] = {"retries": 0}
    sweep.order("first", "kill", at=5)
    sweep.order("second", "slow", at=0)
    process = sweep.start()
    deadline = time.monotonic() + 20
    while "requests, about" not in (told := status()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.communicate()
    assert "failed: killed (SIGKILL" in told
    assert "5 requests scored so far" in told
    assert "running: " in told
    assert "2 finished, 1 failed" in status()
