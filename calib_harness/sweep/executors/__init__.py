"""Executors: what carries out jobs, on this machine or on many.

Another one, for a cluster's queue, needs the six short methods of :class:`Executor`, its name in
``Execution.executor`` of the spec and in ``--executor``, and a branch in ``_executor`` of
``sweep/commands.py``. With submitit: ``submit`` keeps ``AutoExecutor(...).submit(execute, job)``,
``wait`` asks these jobs for ``done()`` and collects ``result()``, ``stop`` calls ``cancel()`` on
them; ``has_room`` is always true, ``check`` and ``close`` have nothing to do. Jobs and outcomes can
be pickled, what a run needs is in its job, and whatever happens to the job, its state is in the
sweep's folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from calib_harness.sweep.running.execute import Job, Outcome


class Executor(Protocol):
    """Carries out jobs by calling :func:`~calib_harness.sweep.running.execute.execute` somewhere.

    `queues` tells whether it takes more jobs than it carries out at once. Transient failures are
    tried again by the sweep, whatever the executor.
    """

    queues: bool

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise UserError for a job that can never be carried out; called once, at the start."""

    def has_room(self, job: Job) -> bool:
        """Return whether a job can be taken now; others wait in the sweep's queue."""

    def submit(self, job: Job) -> None:
        """Take a job and return at once."""

    def wait(self, seconds: float) -> list[Outcome]:
        """Return the outcomes of jobs that have ended, waiting at most `seconds` for one."""

    def stop(self, *, at_once: bool = False) -> None:
        """End everything that runs, with `at_once` by force; `wait` gives the outcomes as usual."""

    def close(self) -> None:
        """End what still runs and let go of everything; called once, at the end."""
