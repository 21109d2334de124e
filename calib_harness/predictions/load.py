"""Read sample logs of lm-eval: a file, a run's folder, a tree of hundreds, or a URL."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import wraps
from inspect import get_annotations, signature
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

from calib_harness.core.confidence import METHODS
from calib_harness.errors import ArgumentError, UserError
from calib_harness.predictions.files import LogsLike, find_files
from calib_harness.predictions.foreign.harness_logs import may_be_table, with_header
from calib_harness.predictions.foreign.table_form import TABLE_METHODS
from calib_harness.predictions.foreign.table_runs import TableOptions
from calib_harness.predictions.headers import Log, describe_logs, newest_runs
from calib_harness.predictions.kept import Store, default_cache
from calib_harness.predictions.log_reader import LogReader
from calib_harness.predictions.pooling import Pools, pooled
from calib_harness.predictions.table import LogContents, Predictions

logger = logging.getLogger(__name__)

CacheLike: TypeAlias = str | Path | bool | None
_NAMED = 5  # tasks that lack a method, named one by one


@dataclass(frozen=True)
class PredictionStream:
    """Predictions that can be gone through again and again, one log in memory at a time.

    Parameters
    ----------
    logs : str, Path or iterable of them
        A sample log (``.jsonl``, ``.json``, either with ``.gz``), a folder of any depth, or an
        fsspec URL of either (``hf://datasets/…``, ``s3://…``, ``https://…``). Logs of our tasks
        and of stock lm-eval 0.4 tasks are read.
    methods : iterable of str, optional
        Names from ``METHODS``; all that a log holds by default.
    tasks : iterable of str, optional
        lm-eval's task names; all by default.
    all_runs : bool
        Keep repetitions of a run (same model, task, shots, chat template and settings);
        otherwise only the newest is kept.
    cache : str, Path, bool or None
        Folder in which read logs are kept as Parquet; by default ``$CALIB_HARNESS_CACHE`` or
        the user's cache folder. False keeps nothing.
    storage_options : mapping, optional
        Passed to fsspec.
    columns : mapping of str to str
        Of tables: columns by what they hold (``gold``, ``scores``, ``id``, ``choice``, ``score``,
        ``is_gold``, ``confidence``, ``correct``, ``model``, ``task``, ``subject``), where their
        names do not tell; ``scores`` may be several columns, ``lp_a|lp_b``.
    scores : str, optional
        What a table's scores are: ``sum``, ``min``, ``mean``, ``bytes`` (of log-probabilities of
        a choice's tokens), ``letter`` (log-probability of its letter), ``logit`` or ``prob``.
    about : mapping of str to str
        What a table does not say itself: ``model``, ``task``, ``method``, ``n_shot``, …
    pool : iterable of str
        Groups of tasks (``mmlu``, any group of lm-eval's) or patterns (``mmlu_*``): the questions
        of all tasks of one are read as one task's, under its name.

    Raises
    ------
    UserError
        If a method is unknown; while iterating, if there are no logs, no log can be used or none
        holds one of `methods`. Anything less is a warning that names file and line.
    """

    logs: LogsLike
    _: KW_ONLY
    methods: Iterable[str] | None = None
    tasks: Iterable[str] | None = None
    all_runs: bool = False
    cache: CacheLike = None
    storage_options: Mapping[str, Any] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    scores: str | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    pool: Iterable[str] = ()

    def __post_init__(self) -> None:
        """Check the methods now, and make lists that can be gone through again."""
        logs = self.logs if isinstance(self.logs, (str, Path)) else list(self.logs)
        tasks = {self.tasks} if isinstance(self.tasks, str) else self.tasks
        object.__setattr__(self, "logs", logs)
        object.__setattr__(self, "methods", check_methods(self.methods))
        pool = (self.pool,) if isinstance(self.pool, str) else tuple(self.pool)
        object.__setattr__(self, "pool", pool)
        object.__setattr__(self, "tasks", None if tasks is None else frozenset(tasks))

    def find(self) -> LogReader:
        """Find the logs and what was run, without reading predictions."""
        samples, results = find_files(self.logs, self.storage_options)
        found = [with_header(log) for log in describe_logs(samples, results)]
        self._check_tables(found)
        tasks = None if self.tasks is None else frozenset(self.tasks)
        if tasks is not None:
            found = _of_tasks(found, tasks)
        if not self.all_runs:
            found = newest_runs(found)
        if self.cache is False:
            folder = None
        else:
            is_default = self.cache is None or self.cache is True
            folder = default_cache() if is_default else Path(str(self.cache))
        tables = TableOptions(self.columns, self.scores, self.about, tasks)
        return LogReader(found, Store(folder), tables)

    def _check_tables(self, found: list[Log]) -> None:
        """Refuse what is said of tables where there are none."""
        given = [name for name in ("columns", "scores", "about") if getattr(self, name)]
        if given and not any(may_be_table(log.file) for log in found):
            raise ArgumentError(
                f"{given[0]} tells how tables are read, but LOGS holds no table (first: "
                f"{found[0].file.url}); leave it out."
            )

    def read(self, reader: LogReader) -> Iterator[Predictions]:
        """Yield what found logs hold of the wanted methods; say what is missing."""
        wanted = None if self.methods is None else tuple(self.methods)
        missing = _Missing(wanted)
        found = False
        absent = set() if self.tasks is None or self.pool else set(self.tasks)
        for contents in self._contents(reader):
            missing.note(contents)
            absent -= {p.header.task for p in contents.predictions} | {contents.header.task}
            for predictions in contents.predictions:
                if wanted is None or predictions.header.method in wanted:
                    found = True
                    yield predictions
        missing.report()
        if absent:
            logger.warning(
                "--tasks %s: no log or table that can be used holds it", ", ".join(sorted(absent))
            )
        if not found and wanted is not None:
            raise UserError(f"no log holds --methods {', '.join(wanted)}: {missing.reasons()}.")

    def _contents(self, reader: LogReader) -> Iterator[LogContents]:
        if not self.pool:
            return iter(reader)
        pools = Pools.of(reader.logs, self.pool, all_runs=self.all_runs)
        return pooled(reader.read_all(), pools, all_runs=self.all_runs)

    def __iter__(self) -> Iterator[Predictions]:
        return self.read(self.find())


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _as(
    stream: Callable[_P, PredictionStream],
) -> Callable[[Callable[[PredictionStream], _T]], Callable[_P, _T]]:
    """Make a function of a stream one that takes the stream's parameters."""

    def decorate(function: Callable[[PredictionStream], _T]) -> Callable[_P, _T]:
        @wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            return function(stream(*args, **kwargs))

        returned = get_annotations(function)["return"]
        call.__signature__ = signature(stream).replace(  # type: ignore[attr-defined]
            return_annotation=returned
        )
        return call

    return decorate


@_as(PredictionStream)
def load_predictions(stream: PredictionStream) -> list[Predictions]:
    """Read every run × task × method that lies in some logs.

    Parameters and errors are those of :class:`PredictionStream`.

    Returns
    -------
    list of Predictions
        Sorted by path of the log, then in the order of ``METHODS``.

    Examples
    --------
    >>> from calib_harness.predictions.samples import write_example_log
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_example_log(folder, model="org/model", task="toy", n=3)
    ...     load_predictions(folder, cache=False)
    [Predictions('org/model', 'toy', 'choice', n=3)]
    """
    return list(stream)


@_as(PredictionStream)
def iter_predictions(stream: PredictionStream) -> Iterator[Predictions]:
    """Like :func:`load_predictions`, one log in memory at a time."""
    return iter(stream)


@_as(PredictionStream)
def find_logs(stream: PredictionStream) -> LogReader:
    """Find logs and what was run, without reading predictions; parameters as for loading."""
    return stream.find()


class _Missing:
    """Counts the methods that logs do not hold, by reason."""

    def __init__(self, wanted: tuple[str, ...] | None) -> None:
        self._wanted = wanted
        self._logs: dict[str, list[str]] = defaultdict(list)
        self._methods: dict[str, list[str]] = defaultdict(list)

    def note(self, contents: LogContents) -> None:
        of_this_log = {
            reason
            for name, reason in contents.missing.items()
            if self._wanted is None or name in self._wanted
        }
        for name, reason in contents.missing.items():
            if reason in of_this_log and name not in self._methods[reason]:
                self._methods[reason].append(name)
        for reason in of_this_log:
            self._logs[reason].append(contents.header.task)

    def report(self) -> None:
        # What nobody has asked for is no news.
        level = logging.DEBUG if self._wanted is None else logging.INFO
        for reason, tasks in self._logs.items():
            named = sorted(set(tasks))
            logger.log(
                level,
                "%s: not in %d log(s) of %s%s: %s",
                ", ".join(self._methods[reason]),
                len(tasks),
                ", ".join(named[:_NAMED]),
                ", …" if len(named) > _NAMED else "",
                reason,
            )

    def reasons(self) -> str:
        return "; ".join(self._logs) or "see the warnings"


def check_methods(methods: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the named methods, or raise a UserError that lists the known ones."""
    if methods is None:
        return None
    names = (methods,) if isinstance(methods, str) else tuple(methods)
    unknown = [name for name in names if name not in (*METHODS, *TABLE_METHODS)]
    if unknown or not names:
        raise UserError(
            f"--methods must be among {', '.join((*METHODS, *TABLE_METHODS))}; got "
            f"{', '.join(unknown) or 'none'}."
        )
    return names


def _of_tasks(logs: list[Log], wanted: frozenset[str]) -> list[Log]:
    """Keep the logs of some tasks, each of which must be there; a table may hold any."""

    def may_hold_others(log: Log) -> bool:
        return may_be_table(log.file) and not log.info.tasks  # no results file: no log of lm-eval's

    present = {log.header.task for log in logs}
    absent = wanted - present
    if absent and not any(map(may_hold_others, logs)):
        raise UserError(
            f"--tasks {', '.join(sorted(absent))}: no such logs; there are "
            f"{', '.join(sorted(present))}."
        )
    return [log for log in logs if log.header.task in wanted or may_hold_others(log)]
