"""Executors: what carries out jobs, on this machine or on many.

Another one, for a cluster's queue, needs the five methods of :class:`Executor`. With submitit:
``submit`` keeps ``AutoExecutor(...).submit(execute, job)``, ``wait`` asks these jobs for ``done()``
and collects ``result()``, ``stop`` calls ``cancel()`` on them, ``has_room`` is always true, and
``close`` has nothing to do.
"""

from __future__ import annotations

from typing import Protocol

from calib_harness.sweep.execute import Job, Outcome


class Executor(Protocol):
    """Carries out jobs by calling :func:`~calib_harness.sweep.execute.execute` somewhere.

    `manages` tells whether it queues jobs and retries transient failures by itself; if not, the
    sweep does.
    """

    manages: bool

    def has_room(self, job: Job) -> bool:
        """Return whether a job can be taken now; others wait in the sweep's queue."""

    def submit(self, job: Job) -> None:
        """Take a job and return at once."""

    def wait(self, seconds: float) -> list[Outcome]:
        """Return the outcomes of jobs that have ended, waiting at most `seconds` for one."""

    def stop(self) -> None:
        """End everything that runs; the outcomes come from `wait` as usual."""

    def close(self) -> None:
        """Let go of what the executor has taken hold of; called once, at the end."""
