"""What is done, running, interrupted or failed, read from the files of a sweep alone."""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calib_harness.sweep.planning.plan import Plan, Run
from calib_harness.sweep.running.attempts import cached_requests, read_attempts
from calib_harness.sweep.running.lock import is_held
from calib_harness.sweep.running.progress import read_progress
from calib_harness.sweep.showing.live import describe, duration
from calib_harness.sweep.storing.layout import MANIFEST, VERSIONS, lock_file, unfinished
from calib_harness.sweep.storing.shelf import open_store


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    `status` is finished, damaged, running, failed, interrupted or waiting; `detail` says more.
    """

    run: Run
    status: str
    detail: str = ""


def run_states(plan: Plan) -> list[RunState]:
    """Return the state of every run of a plan, in the plan's order."""
    store, work = open_store(plan.output), plan.work
    started = _names(unfinished(work))
    states = []
    for run in plan.runs:
        damage = store.damage(run.name)
        if damage is None:
            states.append(RunState(run, "finished"))
        elif damage:
            states.append(RunState(run, "damaged", f"{damage}; it will be completed"))
        elif run.name in started:
            states.append(_unfinished(run, work))
        else:
            states.append(RunState(run, "waiting"))
    return states


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def _unfinished(run: Run, work: Path) -> RunState:
    folder = unfinished(work, run.name)
    if is_held(lock_file(work, run.name)):
        progress = read_progress(folder)
        return RunState(run, "running", describe(progress) if progress else "starting")
    cached = f"{cached_requests(folder):,} requests scored so far"
    attempts = read_attempts(folder)
    if attempts and attempts[-1].get("status") == "failed":
        return RunState(run, "failed", f"{attempts[-1].get('reason', 'unknown')}; {cached}")
    return RunState(run, "interrupted", cached)


def mixed_versions(plan: Plan, states: Sequence[RunState]) -> dict[str, list[str]]:
    """Return the packages of which finished runs saw more than one version, with the versions."""
    store = open_store(plan.output)
    seen: dict[str, set[str]] = defaultdict(set)
    for state in states:
        if state.status == "finished":
            with contextlib.suppress(OSError, ValueError, AttributeError):
                for package, version in json.loads(store.read(state.run.name, VERSIONS)).items():
                    seen[package].add(str(version))
    return {package: sorted(found) for package, found in sorted(seen.items()) if len(found) > 1}


def time_left(plan: Plan, states: Sequence[RunState]) -> str:
    """Return how long what is left may take, from how long finished runs took; '' if unknown."""
    store, took = open_store(plan.output), []
    for state in states:
        if state.status == "finished":
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                took.append(float(json.loads(store.read(state.run.name, MANIFEST))["seconds"]))
    left = len(states) - sum(state.status == "finished" for state in states)
    if not took or not left:
        return ""
    mean = sum(took) / len(took)
    at_once = max(1, sum(state.status == "running" for state in states))
    rest = duration(mean * left / at_once)
    return (
        f"; a finished run took {duration(mean)} on average: about {rest} for the "
        f"{left} that are left, {at_once} at once"
    )


def counts(states: Sequence[RunState]) -> str:
    """Return how many runs are in which state, as a few words.

    >>> counts([])
    'no runs'
    """
    order = ("finished", "running", "damaged", "failed", "interrupted", "waiting")
    numbers = {status: sum(state.status == status for state in states) for status in order}
    words = [f"{number} {status}" for status, number in numbers.items() if number]
    return ", ".join(words) or "no runs"
