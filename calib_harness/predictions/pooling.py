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
from calib_harness.predictions.foreign.harness_logs import may_be_table
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
    names : tuple of str
        Groups or patterns, as asked for.
    groups : dict of str to set of str
        Tasks of each group that the results files know.
    tables : frozenset of str
        Paths or URLs of tables, whose tasks are known only once they are read.
    name_of : dict of str to str
        Name of the pool that a log belongs to, by the path or URL of the log.
    size : dict of tuple to int
        Number of logs of each pool and run.
    """

    names: tuple[str, ...]
    groups: Mapping[str, set[str]]
    tables: frozenset[str]
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
        tables = frozenset(log.file.url for log in logs if _may_hold_tasks(log))
        pools = cls(tuple(pool), groups, tables, {}, {})
        name_of: dict[str, str] = {}
        size: dict[tuple[Any, ...], int] = defaultdict(int)
        for log in logs:
            name = None if log.file.url in tables else pools.of_task(log.header.task)
            if name is not None:
                name_of[log.file.url] = name
                size[_key(log.header, name, all_runs)] += 1
        if not tables:
            pools.check_found(name_of.values(), {log.header.task for log in logs})
        members = [(name_of[log.file.url], log.header) for log in logs if log.file.url in name_of]
        _warn_of_unequal(members, all_runs)
        return replace(pools, name_of=name_of, size=dict(size))

    def of_task(self, task: str) -> str | None:
        """Return the pool that a task belongs to; an ArgumentError if there are two."""
        found = [name for name in self.names if _is_member(task, name, self.groups)]
        if len(found) > 1:
            raise ArgumentError(
                f"pool names {found[0]} and {found[1]}, and {task} belongs to both; ask for one at "
                "a time."
            )
        return found[0] if found else None

    def check_found(self, found: Iterable[str], tasks: Collection[str]) -> None:
        """Raise an ArgumentError if a pool has no task among those there are."""
        absent = [name for name in self.names if name not in set(found)]
        if absent:
            known = ", ".join(sorted({*self.groups, *(() if self.groups else KNOWN_GROUPS)}))
            raise ArgumentError(
                f"pool must be a group ({known}) or a pattern of tasks; {absent[0]!r} is none that "
                f"has logs here, whose tasks are {_some(tasks)}."
            )


def _may_hold_tasks(log: Log) -> bool:
    """Whether a log may be a table that names its tasks in a column."""
    return may_be_table(log.file) and not log.info.tasks


def _warn_of_unequal(members: Iterable[tuple[str, Header]], all_runs: bool) -> None:
    """Name the runs that lack tasks which others have: their pools are of other questions.

    `members` are the name of the pool and the header of each of its parts.
    """
    tasks: dict[str, set[str]] = defaultdict(set)
    of_run: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    label: dict[tuple[Any, ...], str] = {}
    for name, header in members:
        key = _key(header, name, all_runs)
        tasks[name].add(header.task)
        of_run[key].add(header.task)
        label[key] = header.label
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

    Raises
    ------
    ArgumentError
        If tables were read, and no task of anything that was read belongs to one of the pools.
    """
    each = _pooled_at_the_end if pools.tables else _pooled_when_complete
    return each(read, pools, all_runs)


def _pooled_at_the_end(
    read: Iterable[tuple[Log, LogContents | None]], pools: Pools, all_runs: bool
) -> Iterator[LogContents]:
    """Pool by the tasks of what was read: a table tells its own only inside."""
    members: dict[str, list[LogContents]] = defaultdict(list)
    tasks: set[str] = set()
    for _, contents in read:
        if contents is None:
            continue
        own: dict[str | None, list[Predictions]] = defaultdict(list)
        for predictions in contents.predictions:
            tasks.add(predictions.header.task)
            own[pools.of_task(predictions.header.task)].append(predictions)
        for name, found in own.items():
            part = replace(contents, predictions=tuple(found))
            if name is None:
                yield part
            else:
                members[name].append(part)
    pools.check_found(members, tasks)
    _warn_of_unequal(
        [
            (name, predictions.header)
            for name, parts in members.items()
            for part in parts
            for predictions in part.predictions
        ],
        all_runs,
    )
    for name, parts in members.items():
        for of_run in _by_run(name, parts, all_runs):
            yield _as_one(name, of_run)


def _pooled_when_complete(
    read: Iterable[tuple[Log, LogContents | None]], pools: Pools, all_runs: bool
) -> Iterator[LogContents]:
    """Pool what the names of logs tell: no more than the runs that are incomplete is held."""
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


def _is_member(task: str, name: str, groups: Mapping[str, set[str]]) -> bool:
    if any(sign in name for sign in "*?["):
        return fnmatchcase(task, name)
    return task in groups.get(name, ()) or task in KNOWN_GROUPS.get(name, ())


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
