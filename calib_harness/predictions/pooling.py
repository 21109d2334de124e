"""Several tasks' questions as one: the mean of 57 subjects' ECEs is not the ECE of MMLU."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from calib_harness.errors import ArgumentError
from calib_harness.predictions.gold import joint_check
from calib_harness.predictions.headers import Log
from calib_harness.predictions.table import Header, Ints, LogContents, Predictions

logger = logging.getLogger(__name__)

_SUBJECTS = {
    "stem": """abstract_algebra anatomy astronomy college_biology college_chemistry
        college_computer_science college_mathematics college_physics computer_security
        conceptual_physics electrical_engineering elementary_mathematics high_school_biology
        high_school_chemistry high_school_computer_science high_school_mathematics
        high_school_physics high_school_statistics machine_learning""",
    "other": """business_ethics clinical_knowledge college_medicine global_facts human_aging
        management marketing medical_genetics miscellaneous nutrition professional_accounting
        professional_medicine virology""",
    "social_sciences": """econometrics high_school_geography high_school_government_and_politics
        high_school_macroeconomics high_school_microeconomics high_school_psychology
        human_sexuality professional_psychology public_relations security_studies sociology
        us_foreign_policy""",
    "humanities": """formal_logic high_school_european_history high_school_us_history
        high_school_world_history international_law jurisprudence logical_fallacies
        moral_disputes moral_scenarios philosophy prehistory professional_law world_religions""",
}

#: Groups that are known without a results file: MMLU, its four categories, and lm-eval's names
#: of their subjects (``mmlu_anatomy``, earlier ``hendrycksTest-anatomy``).
KNOWN_GROUPS: dict[str, tuple[str, ...]] = {
    f"mmlu_{category}": tuple(
        f"{prefix}{subject}"
        for subject in subjects.split()
        for prefix in ("mmlu_", "hendrycksTest-", "leaderboard_mmlu_")
    )
    for category, subjects in _SUBJECTS.items()
}
KNOWN_GROUPS["mmlu"] = tuple(task for tasks in KNOWN_GROUPS.values() for task in tasks)


@dataclass(frozen=True)
class Pools:
    """Which logs are read as one.

    Attributes
    ----------
    name_of : dict of str to str
        Name of the pool that a log belongs to, by the path or URL of the log.
    size : dict of tuple to int
        Number of logs of each pool and run.
    """

    name_of: Mapping[str, str]
    size: Mapping[tuple[Any, ...], int]

    @classmethod
    def of(cls, logs: Sequence[Log], pool: Iterable[str], *, all_runs: bool = False) -> Pools:
        """Find the members of each group or pattern among some logs.

        Parameters
        ----------
        logs : sequence of Log
        pool : iterable of str
            Each the name of a group (of lm-eval's results files, or known here), or a pattern of
            task names with ``*``, ``?`` or ``[…]``.
        all_runs : bool
            Repetitions of a run are told apart by their date.

        Raises
        ------
        ArgumentError
            If no log belongs to one of them, or one belongs to two.
        """
        groups = _groups(logs)
        tasks = {log.header.task for log in logs}
        name_of: dict[str, str] = {}
        for name in pool:
            members = _members(name, groups, tasks)
            if not members:
                known = ", ".join(sorted({*groups, *(() if groups else KNOWN_GROUPS)}))
                raise ArgumentError(
                    f"pool must be a group ({known}) or a pattern of tasks; {name!r} is none that "
                    f"has logs here, whose tasks are {_some(tasks)}."
                )
            for log in logs:
                if log.header.task in members and name_of.setdefault(log.file.url, name) != name:
                    raise ArgumentError(
                        f"pool names {name_of[log.file.url]} and {name}, and "
                        f"{log.header.task} belongs to both; ask for one at a time."
                    )
        size: dict[tuple[Any, ...], int] = defaultdict(int)
        for log in logs:
            if log.file.url in name_of:
                size[_key(log.header, name_of[log.file.url], all_runs)] += 1
        pools = cls(name_of, dict(size))
        pools._warn_of_unequal(logs, all_runs)
        return pools

    def _warn_of_unequal(self, logs: Sequence[Log], all_runs: bool) -> None:
        """Name the runs that lack tasks which others have: their pools are of other questions."""
        tasks: dict[str, set[str]] = defaultdict(set)
        of_run: dict[tuple[Any, ...], set[str]] = defaultdict(set)
        label: dict[tuple[Any, ...], str] = {}
        for log in logs:
            name = self.name_of.get(log.file.url)
            if name is not None:
                key = _key(log.header, name, all_runs)
                tasks[name].add(log.header.task)
                of_run[key].add(log.header.task)
                label[key] = log.header.label
        for key, own in of_run.items():
            absent = tasks[key[0]] - own
            if absent:
                logger.warning(
                    "%s has %d of the %d tasks pooled as %s (not %s): its numbers are of other "
                    "questions than those of runs that have all",
                    label[key],
                    len(own),
                    len(tasks[key[0]]),
                    key[0],
                    _some(absent),
                )


def pooled(
    read: Iterable[tuple[Log, LogContents | None]], pools: Pools, *, all_runs: bool = False
) -> Iterator[LogContents]:
    """Yield the contents of logs, those of one pool and run as one once all of it are read.

    Parameters
    ----------
    read : iterable of (Log, LogContents or None)
        Every log that `pools` was made of; None for one that cannot be used.
    pools : Pools
    all_runs : bool
    """
    waiting: dict[tuple[Any, ...], list[LogContents]] = defaultdict(list)
    left = dict(pools.size)
    for log, contents in read:
        name = pools.name_of.get(log.file.url)
        if name is None:
            if contents is not None:
                yield contents
            continue
        key = _key(log.header, name, all_runs)
        if contents is not None:
            waiting[key].append(contents)
        left[key] -= 1
        if left[key] == 0 and waiting[key]:
            for parts in _by_run(name, waiting.pop(key), all_runs):
                yield _as_one(name, parts)


def _by_run(name: str, parts: list[LogContents], all_runs: bool) -> Iterable[list[LogContents]]:
    """Split what was read by its run: tables and other harnesses tell it only inside the file."""
    runs: dict[tuple[Any, ...], list[LogContents]] = defaultdict(list)
    for part in parts:
        own: dict[tuple[Any, ...], list[Predictions]] = defaultdict(list)
        for predictions in part.predictions:
            own[_key(predictions.header, name, all_runs)].append(predictions)
        for key, of_run in own.items():
            header = replace(of_run[0].header, method="")
            runs[key].append(replace(part, header=header, predictions=tuple(of_run)))
    return runs.values()


def _key(header: Header, name: str, all_runs: bool) -> tuple[Any, ...]:
    """Return what the logs of one pool and run share."""
    _, *run = replace(header, task=name).run_key
    date = header.date[:10] if all_runs else ""
    return (name, header.model, *run, date)


def _groups(logs: Sequence[Log]) -> dict[str, set[str]]:
    """Return the groups of the results files, each with the tasks below it."""
    groups: dict[str, set[str]] = defaultdict(set)
    for log in logs:
        for name, members in log.info.groups.items():
            groups[name].update(members)

    def below(name: str, above: Collection[str]) -> set[str]:
        if name not in groups or name in above:
            return {name}
        return set().union(*(below(member, {*above, name}) for member in groups[name]))

    return {name: below(name, ()) for name in groups}


def _members(name: str, groups: Mapping[str, set[str]], tasks: set[str]) -> set[str]:
    if any(sign in name for sign in "*?["):
        return {task for task in tasks if fnmatchcase(task, name)}
    return (groups.get(name, set()) | set(KNOWN_GROUPS.get(name, ()))) & tasks


def _some(names: Collection[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:5]) + (f", … ({len(listed)})" if len(listed) > 5 else "")


def _as_one(name: str, parts: list[LogContents]) -> LogContents:
    """Join the logs of one pool and run, method by method; a method that one lacks is missing."""
    by_method: list[dict[str, list[Predictions]]] = []
    for part in parts:
        methods: dict[str, list[Predictions]] = defaultdict(list)
        for predictions in part.predictions:  # a table may hold several tasks
            methods[predictions.header.method].append(predictions)
        by_method.append(methods)
    missing = {method: reason for part in parts for method, reason in part.missing.items()}
    shared = [m for m in by_method[0] if all(m in methods for methods in by_method)]
    for methods in by_method:
        for method in methods:
            if method not in shared:
                missing.setdefault(method, f"not every log of the pool {name} holds it")
    header = _joint_header(name, [p.header for part in parts for p in part.predictions])
    joined = tuple(
        _join([p for methods in by_method for p in methods[method]], replace(header, method=method))
        for method in shared
    )
    return LogContents(header, joined, missing, ())


def _joint_header(name: str, headers: list[Header]) -> Header:
    versions = {h.task_version for h in headers}
    return replace(
        headers[0],
        task=name,
        gold=joint_check(h.gold for h in headers),
        date=max(h.date for h in headers),
        task_version=versions.pop() if len(versions) == 1 else None,
    )


def _join(parts: list[Predictions], header: Header) -> Predictions:
    width = max(p.scores.shape[1] for p in parts)
    scores = [
        np.pad(p.scores, ((0, 0), (0, width - p.scores.shape[1])), constant_values=np.nan)
        for p in parts
    ]
    subjects = [np.full(len(p), p.header.task, dtype=object) for p in parts]
    prompts = [p.prompt for p in parts if p.prompt is not None]
    truncated = [p.truncated for p in parts if p.truncated is not None]
    return Predictions(
        header,
        np.concatenate(scores),
        np.concatenate([p.gold for p in parts]),
        np.concatenate([p.doc_id for p in parts]),
        np.concatenate([p.doc_hash for p in parts]),
        subject=np.concatenate(subjects),
        prompt=_one_after_another(prompts) if len(prompts) == len(parts) else None,
        truncated=np.concatenate(truncated) if len(truncated) == len(parts) else None,
    )


def _one_after_another(prompts: list[Ints]) -> Ints:
    """Return the prompts of several logs, each of which counts its own from 0, numbered on."""
    firsts = np.cumsum([0, *(int(part.max(initial=-1)) + 1 for part in prompts)])
    return np.concatenate([part + first for part, first in zip(prompts, firsts, strict=False)])
