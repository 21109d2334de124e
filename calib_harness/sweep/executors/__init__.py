"""Executors: what carries out jobs, on this machine or on many.

Another one, for a cluster's queue, needs the four methods of :class:`Executor`. With submitit:
``submit`` is ``AutoExecutor.submit(execute, job)``, ``wait`` looks at ``done()`` of the jobs it
handed out and collects ``result()``, ``stop`` cancels them, and ``has_room`` is always true.
"""

from __future__ import annotations

from typing import Protocol

from calib_harness.sweep.execute import Job, Outcome


class Executor(Protocol):
    """Carries out jobs by calling :func:`~calib_harness.sweep.execute.execute` somewhere.

    `retries` says whether the executor itself tries transient failures again; if not, the sweep
    hands the job in again after a while.
    """

    retries: bool

    def has_room(self, job: Job) -> bool:
        """Return whether a job can start now; jobs that cannot wait in the sweep's queue."""

    def submit(self, job: Job) -> None:
        """Start a job and return at once."""

    def wait(self, seconds: float) -> list[Outcome]:
        """Return the outcomes of jobs that have ended, waiting at most `seconds` for one."""

    def stop(self) -> None:
        """End everything that runs; the outcomes come from `wait` as usual."""
