"""`sweep run` and `sweep status`: a plan carried out, shown, and summed up."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from calib_harness.errors import UserError
from calib_harness.sweep.drive import Retries, Summary, drive
from calib_harness.sweep.executors import Executor
from calib_harness.sweep.planning.plan import Plan, make_plan
from calib_harness.sweep.running.execute import Job, Outcome
from calib_harness.sweep.showing.live import Display, duration, say
from calib_harness.sweep.showing.state import (
    RunState,
    counts,
    mixed_versions,
    run_states,
    time_left,
)
from calib_harness.sweep.storing.shelf import open_store
from calib_harness.text import visible

# The program that takes exactly `lm_eval run`'s arguments, with the plugin loaded.
LAUNCHER = (sys.executable, "-m", "calib_harness", "run")

_STYLES = {"finished": "green", "running": "cyan", "failed": "red", "damaged": "yellow"}


def run_sweep(
    spec: str | Path,
    *,
    dry_run: bool = False,
    executor: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    output: str | None = None,
    console: Console | None = None,
    launcher: Sequence[str] = LAUNCHER,
) -> int:
    """Carry out a sweep, or show what it would do, and return the exit status.

    Parameters
    ----------
    spec : str or Path
        The spec file.
    dry_run : bool
        Only print the runs and what is already done.
    executor, workers, address, output
        Take the place of what the spec says.
    console : Console, optional
        Where to write.
    launcher : sequence of str
        The program that takes `lm_eval run`'s arguments.

    Returns
    -------
    int
        0 if every run is finished, 1 if one failed, 130 if the sweep was interrupted.

    Raises
    ------
    UserError
        If the spec is wrong or the output cannot be written.
    """
    console = console or _console()
    plan = make_plan(spec, output=output)
    states = _states(plan)
    if dry_run:
        print_states(plan, states, console)
        return 0
    _refuse_unwritable(str(plan.work), plan.output)
    _refuse_missing_variables(plan)
    jobs = [_job(plan, state, launcher) for state in states if state.status != "finished"]
    for note in plan.notes:
        say(console, f"note: {note}")
    settings = plan.execution
    retries = Retries(settings.retries, settings.backoff, settings.max_backoff)
    say(console, f"{_number(len(states), 'run')}: {counts(states)}; output in {plan.output}")
    display = Display(console, total=len(plan.runs), finished=len(plan.runs) - len(jobs))
    summary = Summary()
    if jobs:
        name = executor or settings.executor
        with contextlib.closing(_executor(plan, name, workers, address, jobs)) as chosen:
            summary = drive(jobs, chosen, retries, display)
        _print_summary(summary, console)
    if summary.interrupted:
        return 130
    told = _write_tables(plan, console)
    _print_next(plan, summary, console)
    return 1 if summary.named("failed") or not told else 0


def show_status(
    spec: str | Path, *, output: str | None = None, console: Console | None = None
) -> int:
    """Print where every run of a sweep stands; return 0 if all are finished, else 1."""
    plan = make_plan(spec, output=output)
    states = _states(plan)
    console = console or _console()
    print_states(plan, states, console)
    return 0 if all(state.status == "finished" for state in states) else 1


def print_states(plan: Plan, states: Sequence[RunState], console: Console) -> None:
    """Print a table of runs and how many there are of each state."""
    # A sweep is usually one set of tasks for all models: then it is told once, below.
    common = len({run.tasks for run in plan.runs}) == 1
    headings = ("run", "family", "stage", "state") if common else ("run", "tasks", "state")
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading == "run")
    for state in states:
        told = f"{state.status}: {state.detail}" if state.detail else state.status
        cells = {
            "run": state.run.name,
            "family": state.run.family or "-",
            "stage": state.run.stage or "-",
            "tasks": " ".join(state.run.tasks),
            "state": told,
        }
        style = _STYLES.get(state.status, "default")
        told = visible(told)
        table.add_row(*(Text(cells[heading]) for heading in headings[:-1]), Text(told, style=style))
    console.print(table)
    if common:
        say(console, f"tasks of every run: {', '.join(plan.runs[0].tasks)}")
    for run in plan.runs:
        if run.trust_remote_code:
            say(console, f"note: trust_remote_code is on for {run.model}: its code will run")
    for note in plan.notes:
        say(console, f"note: {note}")
    number, left = _number(len(states), "run"), time_left(plan, states)
    say(console, f"{number}: {counts(states)}; output in {plan.output}{left}")


def _console() -> Console:
    """Return the terminal, or where there is none a page as wide as every run's line needs."""
    console = Console()
    return console if console.is_terminal else Console(width=10_000)


def _job(plan: Plan, state: RunState, launcher: Sequence[str]) -> Job:
    return Job(
        run=state.run,
        output=plan.output,
        work=str(plan.work),
        launcher=tuple(launcher),
        working_dir=str(plan.working_dir),
        variables=plan.environment.set,
        needed=tuple(plan.environment.passed),
    )


def _states(plan: Plan) -> list[RunState]:
    """Return the runs' states; UserError where the output cannot be read."""
    try:
        return run_states(plan)
    except OSError as error:
        raise UserError(
            f"output: expected a folder or URL that can be read, got {plan.output!r} "
            f"({error.strerror or error}); change the spec's output or give --output"
        ) from None


def _refuse_unwritable(*places: str) -> None:
    """Raise UserError for a folder or URL into which nothing can be written."""
    for place in dict.fromkeys(places):
        try:
            open_store(place).probe()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"output: the disk of {place!r} is full; make room") from None
            raise UserError(
                f"output: expected a folder or URL that can be written, got {place!r} "
                f"({error.strerror or error}); change the spec's output or give --output"
            ) from None


def _refuse_missing_variables(plan: Plan) -> None:
    missing = [name for name in plan.environment.passed if name not in os.environ]
    if missing:
        raise UserError(
            f"{plan.path}: environment.pass: expected {', '.join(missing)} to be set in the "
            "environment; export it and start again"
        )


def _executor(
    plan: Plan,
    name: str,
    workers: int | None,
    address: str | None,
    jobs: list[Job],
) -> Executor:
    settings = plan.execution
    workers = workers or settings.workers
    chosen: Executor
    if name == "local":
        from calib_harness.sweep.executors.local import LocalExecutor

        if address is not None:
            raise UserError(f"--address: expected --executor ray with it, got {address!r} alone")
        chosen = LocalExecutor(workers)
    elif name == "ray":
        from calib_harness.sweep.executors.ray import RayExecutor

        address = address or settings.address
        if address is not None and workers is not None:
            raise UserError(
                f"--workers: expected no number of workers beside an address, since the cluster "
                f"at {address!r} decides how many runs go on at once, got {workers}"
            )
        chosen = RayExecutor(address, workers, settings.retries, plan.work)
    else:
        raise UserError(f"--executor must be local or ray; got {name!r}")
    try:
        chosen.check(jobs)
    except BaseException:
        chosen.close()
        raise
    return chosen


def _print_summary(summary: Summary, console: Console) -> None:
    for outcome in summary.named("failed"):
        _print_failure(outcome, console)
    finished, failed = len(summary.named("finished")), len(summary.named("failed"))
    stopped = len(summary.named("stopped"))
    parts = [f"{finished} finished", f"{failed} failed"] + (
        [f"{stopped} stopped"] if stopped else []
    )
    say(
        console,
        f"this time: {', '.join(parts)}; {_number(summary.attempts, 'process', 'es')}, "
        f"{duration(summary.seconds)} inside them, {duration(summary.wall)} in all; "
        f"{summary.scored:,} requests scored, {summary.reused:,} taken from earlier attempts",
    )


def _print_failure(outcome: Outcome, console: Console) -> None:
    say(console, f"\nFAILED {outcome.name}: {outcome.reason}")
    for line in outcome.tail:
        say(console, f"    {line}")


def _write_tables(plan: Plan, console: Console) -> bool:
    """Write the tables of what is finished now and say where; return False if that failed."""
    from calib_harness.sweep.showing.tables import write_tables

    try:
        states = run_states(plan)
        finished = sum(state.status == "finished" for state in states)
        if finished:
            say(console, f"making the tables of {_number(finished, 'finished run')}")
        files = write_tables(plan, states, console) if finished else []
    except UserError as error:
        say(console, f"no tables: {error}")
        return True
    except OSError as error:
        say(console, f"FAILED to write the tables: {error}; start the same command again")
        return False
    if files:
        where = files[0].rpartition("/")[0]
        names = ", ".join(file.rpartition("/")[2] for file in files)
        for package, versions in mixed_versions(plan, states).items():
            say(console, f"note: these runs saw several versions of {package}: {versions}")
        every = _number(len(states), "run")
        say(console, f"tables of {finished} of {every} in {where}: {names}")
    return True


def _print_next(plan: Plan, summary: Summary, console: Console) -> None:
    if summary.named("failed"):
        say(console, "next: mend what failed and start the same command again; the rest is kept")
    else:
        say(console, f"next: calib-harness report {shlex.quote(plan.output)} -o report.html")


def _number(count: int, noun: str, plural: str = "s") -> str:
    return f"{count:,} {noun}{'' if count == 1 else plural}"
