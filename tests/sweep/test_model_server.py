"""A server for the length of a run: awaited, ended whole, and its failures told in a sentence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request

import pytest

from calib_harness.errors import UserError
from calib_harness.sweep.planning.plan import make_plan
from calib_harness.sweep.planning.secrets import Redactor
from calib_harness.sweep.running.model_server import server_argv, serving
from calib_harness.sweep.running.process import OutputLog, Stop

# Starts a child that holds the group alive, tells its number, and serves.
SERVER = """
import http.server, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("pids", "w").write(f"{os.getpid()} {child.pid}")
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
"""


def serve(tmp_path, program=SERVER, **settings):
    (tmp_path / "server.py").write_text(program)
    return serving(
        f"{sys.executable} server.py {{port}}",
        log=OutputLog(tmp_path / "server.log", Redactor({}), lambda line: None),
        environment=os.environ,
        working_dir=tmp_path,
        stop=Stop(),
        **settings,
    )


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_server_is_asked_past_a_proxy(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serve(tmp_path, patience=20) as address:
        assert address.startswith("http://127.0.0.1:")


def test_a_port_that_speaks_no_http_is_not_ready(tmp_path):
    program = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        client, _ = server.accept()
        client.recv(65536)
        client.sendall(b"no HTTP at all\\r\\n")
        client.close()
"""
    with pytest.raises(UserError, match="did not answer"), serve(tmp_path, program, patience=2):
        raise AssertionError("it is not ready")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_server_is_ready_inside_the_block_and_gone_with_its_children_after_it(tmp_path):
    with serve(tmp_path) as address:
        assert urllib.request.urlopen(f"{address}/health").status == 200
        pids = (tmp_path / "pids").read_text().split()
        assert all(is_alive(pid) for pid in pids)
    await_end_of(pids)


# Starts a server as a sweep does, and goes on until it is killed.
SWEEP = """
import os, pathlib, sys, time
from tests.sweep.test_model_server import serve
with serve(pathlib.Path(sys.argv[1])):
    print("serving", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_server_is_gone_with_its_children_when_its_sweep_is_killed(tmp_path):
    sweep = subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert sweep.stdout is not None
    with sweep.stdout as said:
        assert said.readline() == "serving\n"
        pids = (tmp_path / "pids").read_text().split()
        sweep.kill()
        sweep.wait()
    await_end_of(pids)


def await_end_of(pids):
    deadline = time.monotonic() + 15
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_alive(pid) for pid in pids)


def test_a_server_that_ends_at_once_is_one_sentence_with_its_last_words(tmp_path):
    with (
        pytest.raises(UserError, match=r"ended with status 3 .* last words: no such model"),
        serve(tmp_path, "import sys\nprint('no such model')\nsys.exit(3)"),
    ):
        pass


def test_a_server_that_never_answers_is_given_up_and_ended(tmp_path):
    with (
        pytest.raises(UserError, match=r"did not answer at http://127.0.0.1:\d+ within 1 s"),
        serve(tmp_path, "import time\ntime.sleep(600)", patience=1),
    ):
        pass


@pytest.mark.parametrize("command", ["", "vllm serve m", "vllm 'serve --port {port}"])
def test_a_command_that_cannot_be_used_is_refused(command):
    with pytest.raises(UserError, match="server: "):
        server_argv(command, 1)


def served(sweep, program=SERVER):
    """Have the first model of a sweep asked through a server that its run starts."""
    (sweep.root / "server.py").write_text(program)
    sweep.spec["working_dir"] = "."
    sweep.spec["models"][0] |= {
        "backend": "local-completions",
        "server": f"{sys.executable} server.py {{port}}",
    }
    sweep.spec["execution"]["retries"] = 0


def test_a_run_starts_its_server_asks_it_and_ends_it(sweep):
    served(sweep)
    status, told = sweep.run()
    assert status == 0, told
    [folder] = (sweep.output / "runs").glob("first-*")
    asked = re.search(r"asked at (\S+)", (folder / "output.log").read_text())[1]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1/completions", asked)
    # The port is no part of what the run is.
    assert "{server}/v1/completions" in (folder / "command.txt").read_text()
    pids = (sweep.root / "pids").read_text().split()
    sweep.wait_for(lambda: not any(is_alive(pid) for pid in pids))
    assert not list((sweep.output / "runs").glob("second-*/server.log"))


def test_a_server_that_fails_fails_its_run_alone_in_a_sentence(sweep):
    served(sweep, "import sys\nprint('no such model')\nsys.exit(3)")
    status, told = sweep.run()
    assert status == 1
    assert "server: it ended with status 3 before it answered; its last words: no such" in told
    assert sweep.finished() == {"second", "third"}
    assert not sweep.unfinished("first").joinpath("results").exists()


def test_what_a_server_prints_holds_no_secret(sweep, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    served(sweep, "import os\nprint(os.environ['HF_TOKEN'], flush=True)\n" + SERVER)
    status, told = sweep.run()
    assert status == 0, told
    [log] = sweep.output.glob("runs/first-*/server.log")
    assert "hf_abcdefghijklmnop" not in log.read_text()
    assert "HF_TOKEN" in log.read_text()


def test_a_server_without_a_port_is_refused_before_anything_starts(sweep):
    sweep.spec["models"][0]["server"] = "vllm serve first"
    with pytest.raises(UserError, match=r"with \{port\} where its port belongs, got 'vllm serve"):
        sweep.run()


def test_a_server_is_part_of_what_a_run_is_and_runs_without_one_are_what_they_were(sweep):
    before = {run.model: run.identity for run in make_plan(sweep.write()).runs}
    served(sweep)
    after = {run.model: run.identity for run in make_plan(sweep.write()).runs}
    assert before["first"] != after["first"]
    assert before["second"] == after["second"]
