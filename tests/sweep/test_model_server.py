"""A server for the length of a run: awaited, ended whole, and its failures told in a sentence."""

from __future__ import annotations

import os
import sys
import time
import urllib.request

import pytest

from calib_harness.errors import UserError
from calib_harness.sweep.running.model_server import server_argv, serving

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
        log=tmp_path / "server.log",
        environment=os.environ,
        working_dir=tmp_path,
        **settings,
    )


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_server_is_ready_inside_the_block_and_gone_with_its_children_after_it(tmp_path):
    with serve(tmp_path) as address:
        assert urllib.request.urlopen(f"{address}/health").status == 200
        pids = (tmp_path / "pids").read_text().split()
        assert all(is_alive(pid) for pid in pids)
    deadline = time.monotonic() + 5
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
