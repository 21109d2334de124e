"""A sweep of stand-in models in a temporary folder, and what came of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import shutil
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from calib_harness.sweep.commands import run_sweep

HERE = Path(__file__).parent
TASK = """
task: fake_mc
dataset_path: json
output_type: multiple_choice
doc_to_text: question
"""


@pytest.fixture
def note_fault(request):
    """Return a function that notes what a fault cost, for the summary."""

    def note(fault: str, requests: Counter) -> None:
        scored, twice = requests.total(), requests.total() - len(requests)
        test = f"{request.path.name}::{request.node.name}"
        # Reports carry these from pytest-xdist's processes, too.
        request.node.user_properties.append(("fault", [fault, test, scored, twice]))

    return note


def wait_for(condition, seconds: float = 60.0):
    """Wait until `condition` holds and return its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("what the test waits for did not happen")


class Terminal:
    """A process in the foreground of a terminal, whose keyboard and screen a test holds."""

    def __init__(self, process: subprocess.Popen, keyboard: int) -> None:
        self.process = process
        self._keyboard = keyboard
        self._screen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        # A terminal whose processes have all ended gives an error, not an end of file.
        with contextlib.suppress(OSError):
            while data := os.read(self._keyboard, 65536):
                self._screen += data

    def press_ctrl_c(self) -> None:
        os.write(self._keyboard, b"\x03")

    def hang_up(self) -> None:
        """Close the terminal, as closing its window does."""
        os.close(self._keyboard)

    def wait_for(self, text: str) -> None:
        """Wait until `text` has been on the screen."""
        wait_for(lambda: text.encode() in self._screen)

    def end(self) -> str:
        """Wait for the process and return all that was on the screen."""
        self.process.wait(timeout=60)
        self._reader.join(timeout=5)
        return self._screen.decode()


@dataclass
class Sweep:
    """A spec on disk with its output; every call carries it out as a user would."""

    root: Path
    spec: dict

    @property
    def path(self) -> Path:
        return self.root / "spec.yaml"

    @property
    def output(self) -> Path:
        return self.root / "out"

    def write(self, **changes) -> Path:
        self.spec.update(changes)
        self.path.write_text(yaml.safe_dump(self.spec))
        return self.path

    def run(self, **options) -> tuple[int, str]:
        """Carry the sweep out in this process; return its status and what it printed."""
        self.write()
        with open(os.devnull, "w") as nowhere:
            console = Console(width=200, record=True, file=nowhere)
            options.setdefault("launcher", [sys.executable, str(HERE / "fake_run.py")])
            status = run_sweep(self.path, console=console, **options)
        return status, console.export_text()

    def start(self, executor: str = "local") -> subprocess.Popen:
        """Start the sweep as a process of its own."""
        self.write()
        return subprocess.Popen(
            self._command(executor),
            env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def start_in_terminal(self, executor: str = "local") -> Terminal:
        """Start the sweep in the foreground of a terminal of its own."""
        self.write()
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self._command(executor),
            env=os.environ | {"PYTHONPATH": str(HERE.parents[1]), "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        return Terminal(process, ours)

    def _command(self, executor: str) -> list[str]:
        return [sys.executable, str(HERE / "start_sweep.py"), str(self.path), executor]

    def order(self, model: str, do: str, at: int = 10, **more) -> None:
        """Have the stand-in for `model` misbehave."""
        path = self.root / "control" / f"{model}.json"
        path.write_text(json.dumps({"do": do, "at": at, **more}))

    wait_for = staticmethod(wait_for)

    def go(self) -> None:
        """Let runs that stall go on."""
        (self.root / "control" / "go").touch()

    def wait_until_in_flight(self, requests: int) -> None:
        """Wait until this many requests have been scored, the last of them not yet cached."""
        wait_for(lambda: self.scored().total() == requests)

    def scored(self) -> Counter:
        """Return how often each request was scored so far."""
        path = self.root / "counter"
        return Counter(path.read_text().splitlines()) if path.exists() else Counter()

    def scored_twice(self) -> int:
        return self.scored().total() - len(self.scored())

    def tables(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.output.glob("tables/*.csv")}

    def unfinished(self, model: str) -> Path:
        """Return the folder of a run that is not finished."""
        [path] = (self.output / "unfinished").glob(f"{model}-*")
        return path

    def finished(self) -> set[str]:
        """Return the models whose runs are finished (names before the hash)."""
        return {path.name.rsplit("-", 1)[0] for path in (self.output / "runs").glob("*")}


@pytest.fixture
def sweep(tmp_path, monkeypatch) -> Sweep:
    """A sweep of three stand-in models on one stand-in task."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "fake_mc.yaml").write_text(TASK)
    (tmp_path / "control").mkdir()
    monkeypatch.setenv("FAKE_CONTROL", str(tmp_path / "control"))
    monkeypatch.setenv("FAKE_COUNTER", str(tmp_path / "counter"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("CALIB_HARNESS_CACHE", str(tmp_path / "cache"))
    spec = {
        "output": "out",
        "tasks": ["fake_mc"],
        "include_path": "tasks",
        "models": [
            {"id": "first", "family": "fake", "stage": "base"},
            {"id": "second", "family": "fake", "stage": "aligned"},
            {"id": "third", "family": "other", "stage": "base"},
        ],
        "execution": {"backoff": 0.05},
    }
    sweep = Sweep(tmp_path, spec)
    sweep.write()
    return sweep


@pytest.fixture(scope="session")
def known_tables() -> dict[str, dict[str, str]]:
    """Tables of undisturbed sweeps, by their spec."""
    return {}


@pytest.fixture
def undisturbed(sweep, known_tables, tmp_path_factory, monkeypatch):
    """Return a function that gives the tables of the same spec if nothing goes wrong."""

    def carry_out() -> dict[str, str]:
        key = json.dumps([sweep.spec["models"], sweep.spec["tasks"]])
        if key in known_tables:
            return known_tables[key]
        root = tmp_path_factory.mktemp("undisturbed")
        shutil.copytree(sweep.root / "tasks", root / "tasks")
        other = Sweep(root, sweep.spec | {"output": "out", "execution": {}})
        with monkeypatch.context() as patch:
            patch.setenv("FAKE_CONTROL", str(root))
            patch.setenv("FAKE_COUNTER", os.devnull)
            other.run()
        known_tables[key] = other.tables()
        assert known_tables[key]
        return known_tables[key]

    return carry_out


@pytest.fixture
def whole_at_last(sweep, undisturbed, note_fault):
    """Return a function that starts the sweep again and checks what came of it.

    `lost` is how many requests the fault may cost: were scored, but not yet in the cache.
    """

    def check(fault: str, *, lost: int) -> None:
        (sweep.root / "control" / "go").unlink(missing_ok=True)
        status, told = sweep.run()
        assert status == 0, told
        tables = sweep.tables()
        assert tables == undisturbed()
        assert {"metrics.csv", "changes.csv"} <= tables.keys()
        assert not list((sweep.output / "unfinished").iterdir())
        note_fault(fault, sweep.scored())
        assert sweep.scored_twice() <= lost

    return check
