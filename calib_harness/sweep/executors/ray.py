"""Carry out jobs as tasks of a Ray cluster: Ray queues, places and retries them.

Every node needs calib-harness installed, and the models, task folders and secrets that the spec
names. Where a node sees the output folder it works in it; where it does not, the finished run
travels home through Ray. An output behind a URL is written from the node itself.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import shutil
import tarfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib_harness.errors import UserError
from calib_harness.sweep.drive import Retries
from calib_harness.sweep.running.attempts import read_attempts
from calib_harness.sweep.running.execute import Job, Outcome, execute
from calib_harness.sweep.running.failures import explain_os_error
from calib_harness.sweep.showing.state import scratch_folder
from calib_harness.sweep.storing.shelf import open_store

logger = logging.getLogger(__name__)


class TransientError(Exception):
    """A failure that Ray should try again; holds the outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        return self.outcome.reason


@dataclass(frozen=True)
class Delivery:
    """An outcome, with the finished run's files where they could not be put in place."""

    outcome: Outcome
    archive: bytes | None = None


class RayExecutor:
    """Hands jobs to a Ray cluster.

    Parameters
    ----------
    address : str, optional
        The cluster; by default one is started on this machine for as long as the sweep lasts.
    workers : int, optional
        CPU cores of a cluster started here; by default all.
    retries : Retries
        How often Ray tries a job again after a transient failure or the death of its worker.
    work : Path
        The sweep's folder for unfinished runs, by which a node tells whether it sees it.

    Raises
    ------
    UserError
        If Ray is not installed or the cluster does not answer.
    """

    manages = True

    def __init__(
        self, address: str | None, workers: int | None, retries: Retries, work: Path
    ) -> None:
        try:
            import ray
        except ImportError:
            raise UserError(
                "--executor ray: Ray is not installed; pip install 'calib-harness[ray]'"
            ) from None
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            options |= {"num_cpus": workers, "include_dashboard": False, "address": "local"}
        else:
            options["address"] = address
        try:
            ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"--address: no Ray cluster at {address!r}: {error}") from None
        self._ray = ray
        self._own = address is None
        self._retries = retries
        self._pending: dict[Any, Job] = {}
        self._stopping = False
        self._marker = work / f".sweep-{uuid.uuid4().hex}"
        self._marker.touch()
        self._since = time.time()

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise UserError (own cluster) or warn for a job that no node can carry out."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        for job in jobs:
            asked = self._options(job)
            wanted = {
                "GPU": asked["num_gpus"],
                "CPU": asked["num_cpus"],
                "memory": asked.get("memory", 0),
            }
            if any(all(node.get(k, 0) >= v for k, v in wanted.items()) for node in nodes):
                continue
            text = (
                f"resources of {job.run.model}: expected what a node of the Ray cluster has, got "
                + ", ".join(f"{value:g} {name}" for name, value in wanted.items())
            )
            if self._own:
                raise UserError(f"{text}; lower them or give --address of a larger cluster")
            logger.warning("%s; its run waits until such a node joins", text)

    def _options(self, job: Job) -> dict[str, Any]:
        said = job.run.resources
        gpus = said.gpus
        if gpus is None:
            has_some = self._ray.cluster_resources().get("GPU", 0) >= 1
            gpus = 1 if has_some and job.run.device in (None, "cuda") else 0
        options: dict[str, Any] = {"num_gpus": gpus, "num_cpus": said.cpus or 1}
        if said.memory is not None:
            options["memory"] = said.memory
        return options

    def has_room(self, job: Job) -> bool:
        """See :class:`~calib_harness.sweep.executors.Executor`."""
        return True

    def submit(self, job: Job) -> None:
        """See :class:`~calib_harness.sweep.executors.Executor`."""
        task = self._ray.remote(carry_out).options(
            name=job.run.name,
            max_retries=self._retries.limit,
            retry_exceptions=[TransientError],
            **self._options(job),
        )
        self._pending[task.remote(job, str(self._marker), self._since, self._retries)] = job

    def wait(self, seconds: float) -> list[Outcome]:
        """See :class:`~calib_harness.sweep.executors.Executor`."""
        if not self._pending:
            time.sleep(seconds)
            return []
        done, _ = self._ray.wait(list(self._pending), timeout=seconds)
        return [self._collect(reference) for reference in done]

    def _collect(self, reference: Any) -> Outcome:
        job = self._pending.pop(reference)
        errors = self._ray.exceptions
        try:
            delivery: Delivery = self._ray.get(reference)
        except errors.TaskCancelledError:
            return self._stopped(job)
        except errors.RayTaskError as error:
            if isinstance(error.cause, TransientError):
                return error.cause.outcome
            tail = tuple(str(error).splitlines()[-20:])
            return Outcome(job.run.name, "failed", "the sweep itself failed", tail=tail)
        except errors.RayError as error:
            if self._stopping:
                return self._stopped(job)
            # The worker or its node died more often than it may.
            reason = f"Ray gave it up: {type(error).__name__}"
            tail = tuple(str(error).splitlines()[:20])
            return Outcome(job.run.name, "failed", reason, True, tail)
        if delivery.archive is not None:
            try:
                unpack(delivery.archive, job)
            except OSError as error:
                failure = explain_os_error(error)
                return Outcome(job.run.name, "failed", failure.reason)
        return delivery.outcome

    def _stopped(self, job: Job) -> Outcome:
        stopped = Outcome(job.run.name, "stopped")
        return _with_earlier_attempts(stopped, _attempts(job, self._since))

    def stop(self, *, at_once: bool = False) -> None:
        """See :class:`~calib_harness.sweep.executors.Executor`."""
        self._stopping = True
        for reference in self._pending:
            self._ray.cancel(reference, force=at_once)

    def close(self) -> None:
        """See :class:`~calib_harness.sweep.executors.Executor`."""
        self._marker.unlink(missing_ok=True)
        self._ray.shutdown()


def carry_out(job: Job, marker: str, since: float, retries: Retries) -> Delivery:
    """Carry out a job on a node; raise TransientError where Ray should try again.

    Parameters
    ----------
    job : Job
    marker : str
        A file that exists if this node sees the sweep's folders.
    since : float
        When the sweep began; earlier attempts' failures do not count.
    retries : Retries
        How long to wait after a failure.
    """
    at_home = "://" in job.output or Path(marker).exists()
    if not at_home:
        away = job.work if job.work != job.output else str(scratch_folder(job.output))
        job = dataclasses.replace(job, output=away, work=away)
    failures = [a for a in _attempts(job, since) if a.get("status") == "failed"]
    if failures:
        time.sleep(retries.delay(min(len(failures), max(1, retries.limit))) or 0)
    outcome = _with_earlier_attempts(execute(job), _attempts(job, since))
    if outcome.status == "failed" and outcome.transient:
        raise TransientError(outcome)
    if outcome.status == "finished" and not at_home:
        return Delivery(outcome, pack(job))
    return Delivery(outcome)


def _attempts(job: Job, since: float) -> list[dict[str, Any]]:
    """Return a run's attempts in this sweep, wherever it stands by now."""
    records = read_attempts(job.folder)
    if not records and "://" not in job.output:
        records = read_attempts(Path(job.output) / "runs" / job.run.name)
    return [record for record in records if record.get("began", 0) >= since]


def _with_earlier_attempts(outcome: Outcome, records: list[dict[str, Any]]) -> Outcome:
    """Return an outcome whose counts include the attempts that Ray has made before."""
    if not records:
        return outcome
    return dataclasses.replace(
        outcome,
        seconds=sum(float(record["seconds"]) for record in records),
        scored=sum(int(record["scored"]) for record in records),
    )


def pack(job: Job) -> bytes:
    """Return a finished run's folder as an archive, and remove the folder."""
    folder = Path(open_store(job.output).location) / job.run.name
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        archive.add(folder, arcname=".")
    shutil.rmtree(folder)
    return stream.getvalue()


def unpack(archive: bytes, job: Job) -> None:
    """Put a finished run's archive in its place under the sweep's output."""
    folder = job.folder.with_name(f".arrived-{job.run.name}-{os.getpid()}")
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as stream:
        if hasattr(tarfile, "data_filter"):
            stream.extractall(folder, filter="data")
        else:  # Python before 3.10.12 and 3.11.4; the archive is our own worker's
            stream.extractall(folder)
    open_store(job.output).publish(folder, job.run.name)
