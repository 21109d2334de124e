"""Carry out jobs on this machine: one at a time on CPU, one per GPU where there are GPUs."""

from __future__ import annotations

import math
import os
import queue
import shutil
import subprocess
import threading
import traceback
from collections.abc import Sequence

from calib_harness.errors import UserError
from calib_harness.sweep.running.execute import Job, Outcome, execute
from calib_harness.sweep.running.process import Stop


def visible_gpus() -> list[str]:
    """Return the GPUs that runs may use, as CUDA_VISIBLE_DEVICES names them."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [name.strip() for name in said.split(",") if name.strip() not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listed = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(number) for number in range(count)]


class LocalExecutor:
    """Runs jobs as processes of this machine, each followed by a thread.

    Parameters
    ----------
    workers : int, optional
        How many at once; by default one per GPU, or one where there is none.
    gpus : list of str, optional
        Names of the GPUs to use; by default all that are visible.
    """

    queues = False

    def __init__(self, workers: int | None = None, gpus: list[str] | None = None) -> None:
        self._free = visible_gpus() if gpus is None else list(gpus)
        self._gpus = len(self._free)
        self._workers = workers or max(1, self._gpus)
        self._running = 0
        self._stop = Stop()
        self._ended: queue.Queue[tuple[Outcome, list[str]]] = queue.Queue()

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise UserError for a job that this machine can never carry out."""
        for job in jobs:
            if (needed := self._needs(job)) > self._gpus:
                raise UserError(
                    f"resources.gpus of {job.run.model}: expected at most {self._gpus} (the GPUs "
                    f"of this machine), got {needed}; lower it or use another executor"
                )

    def _needs(self, job: Job) -> int:
        said = job.run.resources.gpus
        if said is not None:
            return math.ceil(said)
        return 1 if self._gpus and job.run.device in (None, "cuda") else 0

    def has_room(self, job: Job) -> bool:
        """See :class:`~calib_harness.sweep.executors.Executor`."""
        return self._running < self._workers and self._needs(job) <= len(self._free)

    def submit(self, job: Job) -> None:
        """See :class:`~calib_harness.sweep.executors.Executor`."""
        taken = [self._free.pop(0) for _ in range(self._needs(job))]
        self._running += 1
        threading.Thread(target=self._follow, args=(job, taken), name=job.run.name).start()

    def _follow(self, job: Job, taken: list[str]) -> None:
        devices = ",".join(taken) if self._gpus else None
        try:
            outcome = execute(job, devices=devices, stop=self._stop)
        except Exception:  # a mistake of ours must end this run only
            tail = tuple(traceback.format_exc().splitlines())
            outcome = Outcome(job.run.name, "failed", "the sweep itself failed", tail=tail)
        self._ended.put((outcome, taken))

    def wait(self, seconds: float) -> list[Outcome]:
        """See :class:`~calib_harness.sweep.executors.Executor`."""
        outcomes = []
        try:
            entry = self._ended.get(timeout=seconds)
            while True:
                outcome, taken = entry
                self._free += taken
                self._running -= 1
                outcomes.append(outcome)
                entry = self._ended.get_nowait()
        except queue.Empty:
            return outcomes

    def stop(self, *, at_once: bool = False) -> None:
        """See :class:`~calib_harness.sweep.executors.Executor`."""
        self._stop.ask(at_once=at_once)

    def close(self) -> None:
        """See :class:`~calib_harness.sweep.executors.Executor`."""
        self._stop.ask()
