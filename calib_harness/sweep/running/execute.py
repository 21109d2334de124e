"""Carry out one run: the one function that an executor calls, on whatever machine.

A run's folder while it is being worked on holds what `storing.layout` names. Once the results are
complete it gets a manifest and is moved in among the finished ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calib_harness.errors import UserError
from calib_harness.output import write_whole
from calib_harness.sweep.planning.plan import Run
from calib_harness.sweep.planning.schema import SERVER_ADDRESS
from calib_harness.sweep.planning.secrets import Redactor
from calib_harness.sweep.running.attempts import append_attempt, cached_requests, mend_cache
from calib_harness.sweep.running.completeness import check_results
from calib_harness.sweep.running.failures import Failure, explain_end, explain_log, explain_os_error
from calib_harness.sweep.running.lock import HeldError, RunLock
from calib_harness.sweep.running.model_server import serving
from calib_harness.sweep.running.process import Ended, OutputLog, Stop, run_process
from calib_harness.sweep.running.progress import ProgressReader, write_progress
from calib_harness.sweep.running.versions import versions
from calib_harness.sweep.storing.layout import (
    CACHE_ARGUMENT,
    COMMAND,
    FACTS,
    OUTPUT,
    PROGRESS,
    RESULTS,
    SERVER_OUTPUT,
    VERSIONS,
    lock_file,
    unfinished,
)
from calib_harness.sweep.storing.shelf import open_store, write_manifest

_NEWS_EVERY = 1.0
_RENEW_EVERY = 10.0


@dataclass(frozen=True)
class Job:
    """A run with all that is needed to carry it out elsewhere. Picklable.

    Attributes
    ----------
    run : Run
        What to compute.
    output : str
        The sweep's output folder or URL.
    work : str
        A local folder for unfinished runs and locks.
    launcher : tuple of str
        The program that takes `lm_eval run`'s arguments.
    working_dir : str
        Where the process starts.
    variables : mapping of str to str
        Environment variables to set (no secrets).
    needed : tuple of str
        Variables that must be in the environment; only their names travel.
    """

    run: Run
    output: str
    work: str
    launcher: tuple[str, ...]
    working_dir: str
    variables: Mapping[str, str]
    needed: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The run's folder while it is unfinished."""
        return unfinished(self.work, self.run.name)

    @property
    def lock(self) -> Path:
        """The run's lock file."""
        return lock_file(self.work, self.run.name)


@dataclass(frozen=True)
class Outcome:
    """How carrying out a run ended.

    `status` is finished, failed, stopped (by the sweep) or held (somebody else is at it).
    `scored` different requests were scored now, `reused` came from earlier attempts.
    """

    name: str
    status: str
    reason: str = ""
    transient: bool = False
    tail: tuple[str, ...] = ()
    seconds: float = 0.0
    scored: int = 0
    reused: int = 0


def execute(job: Job, *, devices: str | None = None, stop: Stop | None = None) -> Outcome:
    """Carry out a run from its current state to its end; never raises for what a run may do.

    Parameters
    ----------
    job : Job
        The run.
    devices : str, optional
        Value for CUDA_VISIBLE_DEVICES; None leaves the variable as it is.
    stop : Stop, optional
        When asked for, the run is ended and can be taken up again later.
    """
    try:
        with RunLock(job.lock) as lock:
            store = open_store(job.output)
            damage = store.damage(job.run.name)
            if damage is None:
                return Outcome(job.run.name, "finished")
            if damage:
                store.withdraw(job.run.name, job.folder)
            return _Attempt(job, lock, devices, stop or Stop()).carry_out()
    except HeldError as held:
        return Outcome(job.run.name, "held", reason=str(held))
    except OSError as error:
        failure = explain_os_error(error)
        return Outcome(job.run.name, "failed", failure.reason, failure.transient)


class _Attempt:
    """One attempt at one run, under its lock."""

    def __init__(self, job: Job, lock: RunLock, devices: str | None, stop: Stop) -> None:
        self._job = job
        self._lock = lock
        self._devices = devices
        self._stop = stop
        self._began = time.time()
        self._environment = _environment(job, devices)

    def carry_out(self) -> Outcome:
        """Prepare, run, check, publish."""
        job = self._job
        if missing := [name for name in job.needed if name not in os.environ]:
            names = ", ".join(missing)
            reason = f"the environment lacks {names}; export it where the run is carried out"
            return Outcome(job.run.name, "failed", reason)
        self._prepare()
        self._mended = mend_cache(job.folder)
        self._cached = cached_requests(job.folder)
        self._reader = ProgressReader(self._cached)
        ended = self._run()
        failure = self._judge(ended)
        self._scored = max(0, cached_requests(job.folder) - self._cached)
        status = "failed" if failure else "finished"
        if ended.cause == "stopped":
            status, failure = "stopped", None
        with contextlib.suppress(OSError):
            append_attempt(job.folder, self._record(status, failure, ended))
        tail = ended.tail if failure else ()
        if status == "finished" and (failure := self._publish(ended)):
            status = "failed"
        return Outcome(
            name=job.run.name,
            status=status,
            reason=failure.reason if failure else "",
            transient=bool(failure and failure.transient),
            tail=tail,
            seconds=ended.seconds,
            scored=self._scored,
            reused=self._cached,
        )

    def _prepare(self) -> None:
        job = self._job
        job.folder.mkdir(parents=True, exist_ok=True)
        # What an interrupted attempt has begun to write; everything in it is in the cache, too.
        shutil.rmtree(job.folder / RESULTS, ignore_errors=True)
        (job.folder / PROGRESS).unlink(missing_ok=True)
        argv = self._argv()
        facts = {
            "name": job.run.name,
            "identity": job.run.identity,
            "settings": job.run.settings,
            "command": argv,
            "working_dir": job.working_dir,
            "environment": dict(job.variables),
            "environment_needed": list(job.needed),
            "host": socket.gethostname(),
            "began": self._began,
        }
        write_whole(job.folder / FACTS, json.dumps(facts, indent=1, ensure_ascii=False))
        write_whole(job.folder / COMMAND, shlex.join(argv) + "\n")
        write_whole(job.folder / VERSIONS, json.dumps(versions(), indent=1))

    def _argv(self) -> list[str]:
        job = self._job
        return [
            *job.launcher,
            *job.run.arguments,
            f"--output_path={job.folder / RESULTS}",
            f"--use_cache={job.folder / CACHE_ARGUMENT}",
            "--log_samples",
        ]

    def _run(self) -> Ended:
        """Run the process, with the model's server beside it where the spec names one."""
        job = self._job
        if job.run.server is None:
            return self._run_process(self._argv())
        began = time.monotonic()
        self._log = log = OutputLog(
            job.folder / SERVER_OUTPUT, Redactor(self._environment, job.needed), lambda line: None
        )
        try:
            with serving(
                job.run.server,
                log=log,
                environment=self._environment,
                working_dir=Path(job.working_dir),
                stop=self._stop,
            ) as address:
                argv = [word.replace(SERVER_ADDRESS, address) for word in self._argv()]
                return self._run_process(argv)
        except UserError as error:
            cause = "stopped" if self._stop.asked else str(error)
            return Ended(1, cause, time.monotonic() - began, tuple(log.tail))

    def _run_process(self, argv: list[str]) -> Ended:
        job = self._job
        environment = self._environment
        log = OutputLog(job.folder / OUTPUT, Redactor(environment, job.needed), self._reader.feed)
        if job.run.trust_remote_code:
            log.feed(b"trust_remote_code is on: this run may execute code from the model's repo\n")
        if self._mended is not None:
            log.feed(f"the cache was damaged: {self._mended} requests of it are kept\n".encode())
        self._log = log
        return run_process(
            argv,
            log=log,
            environment=environment,
            working_dir=Path(job.working_dir),
            keep_open=self._lock.descriptor,
            time_limit=job.run.time_limit,
            stop=self._stop,
            on_tick=self._on_tick(),
        )

    def _on_tick(self) -> Callable[[], None]:
        last = {"news": 0.0, "renewed": time.monotonic()}

        def tick() -> None:
            now = time.monotonic()
            if now - last["news"] > _NEWS_EVERY:
                last["news"] = now
                with contextlib.suppress(OSError):
                    write_progress(self._reader.progress, self._job.folder)
            if now - last["renewed"] > _RENEW_EVERY:
                last["renewed"] = now
                with contextlib.suppress(OSError):
                    self._lock.renew()

        return tick

    def _judge(self, ended: Ended) -> Failure | None:
        folder = self._job.folder
        offline = self._environment.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE")
        failure = explain_end(ended, self._job.run.time_limit, offline=offline)
        if failure is None and (problem := check_results(folder / RESULTS)):
            failure = explain_log(ended.tail) or Failure(problem, transient=False)
        if failure and self._log.complaint:
            return Failure(f"{failure.reason}; {self._log.complaint}", failure.transient)
        return failure

    def _record(self, status: str, failure: Failure | None, ended: Ended) -> dict[str, Any]:
        return {
            "began": self._began,
            "seconds": round(ended.seconds, 3),
            "host": socket.gethostname(),
            "status": status,
            "exit": ended.status,
            **(asdict(failure) if failure else {}),
            "tail": list(ended.tail) if failure else [],
            "scored": self._scored,
            "reused": self._cached,
        }

    def _publish(self, ended: Ended) -> Failure | None:
        """Move the finished run in; return why that failed, if it did."""
        try:
            self._move_in(ended)
        except OSError as error:
            cause = explain_os_error(error)
            failure = Failure(
                f"it ended well but cannot be stored: {cause.reason}", cause.transient
            )
            # What it took stands in the line before.
            record = self._record("failed", failure, ended) | {"seconds": 0.0, "scored": 0}
            with contextlib.suppress(OSError):
                append_attempt(self._job.folder, record | {"tail": []})
            return failure
        return None

    def _move_in(self, ended: Ended) -> None:
        folder = self._job.folder
        (folder / PROGRESS).unlink(missing_ok=True)
        facts = {
            "name": self._job.run.name,
            "identity": self._job.run.identity,
            "finished": time.time(),
            "seconds": round(ended.seconds, 3),
        }
        write_manifest(folder, facts)
        open_store(self._job.output).publish(folder, self._job.run.name)


def _environment(job: Job, devices: str | None) -> dict[str, str]:
    """Return the environment of a run's process."""
    # SAFEPATH (from Python 3.11 on): modules in the folder where a run starts are never imported.
    always = {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
    environment = os.environ | dict(job.variables) | always
    if devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = devices
    root = Path(__file__).parents[2]
    if root.name not in ("site-packages", "dist-packages"):
        # A checkout that is not installed must be found from the run's working directory, too.
        paths = [str(root), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment
