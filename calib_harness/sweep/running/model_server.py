"""A model's server for the length of a run: started in a group of its own, awaited, ended whole."""

from __future__ import annotations

import contextlib
import http.client
import os
import shlex
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from calib_harness.errors import UserError
from calib_harness.sweep.running.process import OutputLog, Stop, signal_group, start_leashed

#: Paths that servers answer with 200 once they can be asked: vLLM, SGLang and llama.cpp have the
#: first, llama-cpp-python and other OpenAI-compatible ones the second.
HEALTH_PATHS = ("/health", "/v1/models")

_TICK = 0.5
_GRACE = 10.0


def server_argv(command: str, port: int) -> list[str]:
    """Cut a command into its arguments, its ``{port}`` filled in; no shell sees them.

    Raises
    ------
    UserError
        If the command is empty, has a quotation without end, or names no ``{port}``.

    Examples
    --------
    >>> server_argv("vllm serve gpt2 --port {port}", 8123)
    ['vllm', 'serve', 'gpt2', '--port', '8123']
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"server: {command!r} cannot be read as a command ({error})") from None
    if not words or not any("{port}" in word for word in words):
        raise UserError(
            f"server: {command!r} must name the port it listens on as {{port}}, which is chosen "
            "for each run; for example: vllm serve MODEL --port {port}"
        )
    return [word.replace("{port}", str(port)) for word in words]


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    command: str,
    *,
    log: OutputLog,
    environment: Mapping[str, str],
    working_dir: Path,
    stop: Stop,
    patience: float = 1800.0,
    health_paths: Sequence[str] = HEALTH_PATHS,
) -> Iterator[str]:
    """Serve a model for as long as the block lasts.

    Parameters
    ----------
    command : str
        Starts the server; ``{port}`` in it stands for the port that is chosen.
    log : OutputLog
        Takes what the server prints, and keeps secrets out of the file.
    environment, working_dir
        The server's own.
    stop : Stop
        When asked for, it is not awaited any longer.
    patience : float
        Seconds until it has to answer: large models load for minutes.
    health_paths : sequence of str
        It is ready when it answers one of these with 200.

    Yields
    ------
    str
        Its address, ``http://127.0.0.1:PORT``.

    Raises
    ------
    UserError
        If the command cannot be started, ends before it answers, does not answer in time, or is
        to be stopped before it does.
    """
    port = free_port()
    argv = server_argv(command, port)
    process = start_leashed(argv, environment, working_dir, starts_others=True)
    listener = threading.Thread(target=_listen, args=(process, log), daemon=True)
    listener.start()
    address = f"http://127.0.0.1:{port}"
    try:
        _await(process, address, health_paths, patience, listener, log, stop)
        yield address
    finally:
        _end(process)
        listener.join(_GRACE)
        log.close()


def _listen(process: subprocess.Popen[bytes], log: OutputLog) -> None:
    """Hand all that the server prints to the log, so that it never waits for a reader."""
    assert process.stdout is not None
    with process.stdout as output:
        while data := os.read(output.fileno(), 65536):
            log.feed(data)


def _await(
    process: subprocess.Popen[bytes],
    address: str,
    health_paths: Sequence[str],
    patience: float,
    listener: threading.Thread,
    log: OutputLog,
    stop: Stop,
) -> None:
    deadline = time.monotonic() + patience
    while not any(_answers(address + path) for path in health_paths):
        if process.poll() is not None:
            listener.join(_GRACE)
            raise UserError(
                f"server: it ended with status {process.returncode} before it answered; its last "
                f"words: {_last_words(log)}"
            )
        if time.monotonic() > deadline:
            raise UserError(
                f"server: it did not answer at {address} within {patience:g} s; its last words: "
                f"{_last_words(log)}"
            )
        if stop.asked:
            raise UserError("server: stopped before it answered")
        time.sleep(_TICK)


def _answers(url: str) -> bool:
    # Past any proxy that the environment names: it does not know this machine's ports.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, http.client.HTTPException):  # not there yet, or it speaks no HTTP
        return False


def _last_words(log: OutputLog) -> str:
    return " · ".join(line.strip() for line in log.tail)[-400:] or "none"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the whole group to end, and insist after a while."""
    signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    signal_group(process.pid, signal.SIGKILL)  # also ends what the server itself has started
    process.wait()
