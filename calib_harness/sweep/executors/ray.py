"""Carry out jobs as tasks of a Ray cluster: Ray queues and places them.

Ray itself starts a job again only for what nobody else can see: a worker or node that died.

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
from calib_harness.sweep.running.attempts import read_attempts
from calib_harness.sweep.running.execute import Job, Outcome, execute
from calib_harness.sweep.running.failures import explain_os_error
from calib_harness.sweep.storing.layout import RUNS, scratch_folder
from calib_harness.sweep.storing.shelf import open_store

logger = logging.getLogger(__name__)


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
    restarts : int
        How often Ray starts a job again after the death of its worker or node.
    work : Path
        The sweep's folder for unfinished runs, by which a node tells whether it sees it.

    Raises
    ------
    UserError
        If Ray is not installed or the cluster does not answer.
    """

    queues = True

    def __init__(self, address: str | None, workers: int | None, restarts: int, work: Path) -> None:
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
        self._restarts = restarts
        self._pending: dict[Any, tuple[Job, float]] = {}
        self._stopping = False
        self._marker = work / f".sweep-{uuid.uuid4().hex}"
        self._marker.touch()

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
            name=job.run.name, max_retries=self._restarts, **self._options(job)
        )
        since = time.time()
        self._pending[task.remote(job, str(self._marker), since)] = (job, since)

    def wait(self, seconds: float) -> list[Outcome]:
        """See :class:`~calib_harness.sweep.executors.Executor`."""
        if not self._pending:
            time.sleep(seconds)
            return []
        done, _ = self._ray.wait(list(self._pending), timeout=seconds)
        return [self._collect(reference) for reference in done]

    def _collect(self, reference: Any) -> Outcome:
        job, since = self._pending.pop(reference)
        errors = self._ray.exceptions
        try:
            delivery: Delivery = self._ray.get(reference)
        except errors.TaskCancelledError:
            return _stopped(job, since)
        except errors.RayTaskError as error:
            tail = tuple(str(error).splitlines()[-20:])
            return Outcome(job.run.name, "failed", "the sweep itself failed", tail=tail)
        except errors.RayError as error:
            if self._stopping:
                return _stopped(job, since)
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

    def stop(self, *, at_once: bool = False) -> None:
        """See :class:`~calib_harness.sweep.executors.Executor`."""
        self._stopping = True
        for reference in self._pending:
            self._ray.cancel(reference, force=at_once)

    def close(self) -> None:
        """See :class:`~calib_harness.sweep.executors.Executor`."""
        self._marker.unlink(missing_ok=True)
        self._ray.shutdown()


def carry_out(job: Job, marker: str, since: float) -> Delivery:
    """Carry out a job on a node.

    Parameters
    ----------
    job : Job
    marker : str
        A file that exists if this node sees the sweep's folders.
    since : float
        When the job was submitted: attempts after that, whose worker died, count as part of this.
    """
    at_home = "://" in job.output or Path(marker).exists()
    if not at_home:
        away = job.work if job.work != job.output else str(scratch_folder(job.output))
        job = dataclasses.replace(job, output=away, work=away)
    outcome = _with_earlier_attempts(execute(job), _attempts(job, since))
    if outcome.status == "finished" and not at_home:
        return Delivery(outcome, pack(job))
    return Delivery(outcome)


def _stopped(job: Job, since: float) -> Outcome:
    return _with_earlier_attempts(Outcome(job.run.name, "stopped"), _attempts(job, since))


def _attempts(job: Job, since: float) -> list[dict[str, Any]]:
    """Return a run's attempts since it was submitted, wherever it stands by now."""
    records = read_attempts(job.folder)
    if not records and "://" not in job.output:
        records = read_attempts(Path(job.output) / RUNS / job.run.name)
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
