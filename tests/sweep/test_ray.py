"""The same sweep on a real Ray cluster of this machine."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from calib_harness.errors import UserError
from calib_harness.sweep.planning.plan import make_plan
from calib_harness.sweep.running.execute import Job

pytest.importorskip("ray", reason="Ray is an optional extra")
from calib_harness.sweep.executors.ray import Delivery, carry_out, unpack

pytestmark = [
    # Ray's own start leaves sockets and files for the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.mark.slow
def test_ray_gives_the_tables_of_the_local_executor_to_the_last_digit(
    sweep, undisturbed, monkeypatch
):
    secret = "hf_abcdefghijklmnop"
    monkeypatch.setenv("HF_TOKEN", secret)
    before = set(Path("/tmp/ray").glob("session_*"))
    sweep.order("second", "raise", text=f"Connection reset by peer {secret}")
    status, told = sweep.run(executor="ray", workers=2)
    assert status == 0, told
    assert "queue   first" in told
    assert "3 finished, 0 failed" in told
    assert sweep.tables() == undisturbed()
    assert sweep.scored_twice() == 1  # in flight when the connection broke
    [folder] = (sweep.output / "runs").glob("second-*")
    assert len((folder / "attempts.jsonl").read_text().splitlines()) == 2
    assert secret not in told
    for root in (sweep.output, *(set(Path("/tmp/ray").glob("session_*")) - before)):
        for path in root.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_killed_ray_worker_is_replaced_and_loses_one_request_at_most(sweep, whole_at_last):
    sweep.order("first", "stall", at=10)

    def kill_worker() -> None:
        sweep.wait_until_in_flight(11)
        for pid in workers_of(sweep.output):
            os.kill(pid, signal.SIGKILL)

    with ThreadPoolExecutor() as pool:
        killer = pool.submit(kill_worker)
        status, told = sweep.run(executor="ray", workers=1)
        killer.result()
    assert status == 0, told
    assert "3 finished, 0 failed" in told
    whole_at_last("kill -9 of a Ray worker", lost=1)


def workers_of(output: Path) -> list[int]:
    """Return the Ray workers that carry out runs of the sweep with this output."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(output) in word for word in process.info["cmdline"] or []):
            parent = process.parent()
            if parent is not None and "ray::" in " ".join(parent.cmdline()):
                found.append(parent.pid)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-C twice", "kill -9"])
def test_ended_ray_sweep_ends_its_runs_and_can_be_resumed(sweep, whole_at_last, how):
    sweep.order("first", "stubborn" if how == "Ctrl-C twice" else "stall", at=5)
    sweep.spec["execution"]["workers"] = 1
    terminal = sweep.start_in_terminal("ray")
    sweep.wait_until_in_flight(6)
    [worker] = workers_of(sweep.output)
    if how == "kill -9":
        os.kill(terminal.process.pid, signal.SIGKILL)
    else:
        terminal.press_ctrl_c()
    if how == "Ctrl-C twice":
        terminal.wait_for("interrupted (SIGINT): ending the runs")
        terminal.press_ctrl_c()
    told = terminal.end()
    if how != "kill -9":
        assert terminal.process.returncode == 130, told
        assert "Traceback" not in told
        assert "interrupted (SIGINT): ending the runs" in told
    if how == "Ctrl-C":
        assert "; 5 requests scored" in " ".join(told.split())  # what was scored until then is told
    sweep.wait_for(lambda: not workers_of(sweep.output) and not psutil.pid_exists(worker))
    whole_at_last(f"{how} of a sweep on Ray", lost=1)


@pytest.mark.slow
def test_job_that_no_node_can_carry_out_is_told_before_anything_starts(sweep):
    sweep.spec["models"][0]["resources"] = {"gpus": 3}
    with pytest.raises(UserError, match="expected what a node of the Ray cluster has, got 3 GPU"):
        sweep.run(executor="ray", workers=1)
    assert not sweep.scored()


def job_of(sweep, number: int) -> Job:
    import sys

    plan = make_plan(sweep.write())
    return Job(
        run=plan.runs[number],
        output=plan.output,
        work=plan.output,
        launcher=(sys.executable, str(Path(__file__).with_name("fake_run.py"))),
        working_dir=str(sweep.root),
        variables={},
    )


def test_run_from_a_node_that_does_not_see_the_output_travels_home(
    sweep, tmp_path_factory, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("node")))
    job = job_of(sweep, 0)
    delivery = carry_out(job, "/no/such/marker", time.time())
    assert isinstance(delivery, Delivery)
    assert delivery.archive is not None
    assert not (sweep.output / "runs").exists()
    unpack(delivery.archive, job)
    assert sweep.finished() == {"first"}
    status, told = sweep.run()
    assert status == 0
    assert "3 runs: 1 finished, 2 waiting" in told


def test_job_can_be_pickled_for_another_machine(sweep):
    import pickle

    job = job_of(sweep, 1)
    assert pickle.loads(pickle.dumps(job)) == dataclasses.replace(job)
