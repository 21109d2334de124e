"""A sweep carried out on this machine, with a stand-in for lm-eval."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

from calib_harness.errors import UserError
from calib_harness.sweep.commands import show_status

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
        sweep.order(model, "stall", at=0)
    sweep.spec["execution"]["workers"] = 3
    process = sweep.start()
    sweep.wait_until_in_flight(3)  # none of them can end, so all three are at work
    sweep.go()
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 0, told


SECRETS = {
    "HF_TOKEN": "hf_abcdefghijklmnop",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
    "OPENAI_API_KEY": "key-of-somebody",
    "PGPASSWORD": "correct horse battery",
    "SSH_KEY": "-----BEGIN-----\nline one of it\nline two of it",
    "LOGIN": "what the spec passes",
    "PROXY": "http://me:password-of-mine@proxy",
}


def test_variables_reach_the_run_and_secrets_reach_no_file(sweep, monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    sweep.write(environment={"set": {"FAKE_THREADS": 2}, "pass": ["LOGIN"]})
    sweep.order("second", "raise", text="a mistake with hf_abcdefghijklmnop in its traceback")
    sweep.order("third", "kill")
    status, told = sweep.run()
    assert status == 1
    assert "a mistake with [HF_TOKEN] in its traceback" in told
    log = next((sweep.output / "runs").glob("first-*/output.log")).read_text()
    assert all(f"'{name}': '[{name}]" in log for name in SECRETS)
    assert "'FAKE_THREADS': '2'" in log
    files = [path for path in sweep.output.rglob("*") if path.is_file()]
    assert {"output.log", "run.json", "attempts.jsonl", "metrics.csv"} <= {p.name for p in files}
    for secret in (line for value in SECRETS.values() for line in value.splitlines()):
        assert secret not in told
        for path in files:
            assert secret.encode() not in path.read_bytes(), path
    facts = json.loads(next((sweep.output / "runs").glob("first-*/run.json")).read_text())
    assert facts["environment"] == {"FAKE_THREADS": "2"}
    assert facts["environment_needed"] == ["LOGIN"]


def test_status_in_a_pipe_has_a_line_for_every_run(sweep, capsys):
    sweep.spec["execution"] = {"retries": 0}
    sweep.order("second", "refuse", text="a mistake " + "of many words " * 20)
    sweep.run()
    assert show_status(sweep.path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert "OSError: a mistake of many words" in lines[2]
    assert lines[2].rstrip().endswith("0 requests scored so far")
    assert lines[-1].startswith("3 runs: 2 finished, 1 failed; output in ")


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


def test_nothing_in_a_spec_reaches_a_shell(sweep):
    trap = sweep.root / "trap"
    hostile = f"x; touch {trap} && $(touch {trap}) `touch {trap}` | '\" \\ #"
    folder = f"own $(touch {trap.name}); touch {trap.name}"
    shutil.move(sweep.root / "tasks", sweep.root / folder)
    task = sweep.root / folder / "a; touch trap; $(touch trap).yaml"
    task.write_text("task: fake_more\ndataset_path: $(touch trap)\n")
    sweep.spec["models"][0] |= {
        "id": hostile,
        "family": hostile,
        "revisions": [hostile],
        "dtype": hostile,
        "model_args": {"peft": hostile},
        "metadata": {"note": f"{hostile}\n{hostile}"},
        "system_instruction": f"{hostile}\n{hostile}",
        "apply_chat_template": hostile,
        "tasks": ["fake_mc", f"{folder}/{task.name}"],
    }
    sweep.write(
        include_path=folder,
        working_dir=folder,
        environment={"set": {"NOTE": hostile}},
    )
    status, told = sweep.run()
    assert status == 0, told
    assert "3 finished, 0 failed" in told
    assert not list(sweep.root.rglob("trap"))
    [path] = [
        path
        for path in (sweep.output / "runs").glob("*/run.json")
        if json.loads(path.read_text())["settings"]["model_args"]["pretrained"] == hostile
    ]
    command = json.loads(path.read_text())["command"]
    assert f"--system_instruction={hostile}\n{hostile}" in command
    # A person may paste the command: it means the same words to a shell.
    assert shlex.split(path.with_name("command.txt").read_text()) == command


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
        ({"executor": "ray", "address": "auto", "workers": 2}, "--workers: expected no number"),
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
    sweep.order("second", "stall", at=15)
    process = sweep.start()
    sweep.wait_for(lambda: "running: 15/60 requests, about 5/20 questions" in status())
    told = status()
    sweep.go()
    process.communicate(timeout=60)
    assert "failed: killed (SIGKILL" in told
    assert "5 requests scored so far" in told
    assert "1 running, 1 failed, 1 waiting" in told
    assert "2 finished, 1 failed" in status()


def test_end_of_a_sweep_says_what_to_type_next(sweep):
    _, told = sweep.run()
    last = told.strip().splitlines()[-1]
    assert last == f"next: calib-harness report {sweep.output} -o report.html"
    sweep.order("late", "raise", text="no such model")
    sweep.spec["models"].append({"id": "late", "family": "other"})
    sweep.spec["execution"]["retries"] = 0
    status, told = sweep.run()
    assert status == 1
    assert "next: mend what failed and start the same command again" in told


def test_status_says_how_long_what_is_left_may_take(sweep, capsys):
    sweep.run()
    sweep.spec["models"].append({"id": "late", "family": "other"})
    show_status(sweep.write(), console=Console(width=200))
    told = capsys.readouterr().out
    assert "a finished run took" in told
    assert "for the 1 that are left, 1 at once" in told


def test_an_executor_that_does_not_exist_is_refused_before_anything_starts(sweep):
    with pytest.raises(UserError, match="--executor must be local or ray; got 'slurm'"):
        sweep.run(executor="slurm")
    assert not sweep.scored()
