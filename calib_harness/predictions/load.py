"""Read sample logs of lm-eval: a file, a run's folder, a tree of hundreds, or a URL."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from calib_harness.core.confidence import METHODS
from calib_harness.errors import UserError
from calib_harness.predictions.columns import Columns, NotMultipleChoiceLogError, method_scores
from calib_harness.predictions.files import LogsLike, describe, find_files
from calib_harness.predictions.headers import Log, describe_logs, newest_runs
from calib_harness.predictions.kept import Store, default_cache
from calib_harness.predictions.records import read_records
from calib_harness.predictions.table import LogContents, Predictions

logger = logging.getLogger(__name__)

CacheLike: TypeAlias = str | Path | bool | None
_NAMED = 5  # problems of one file that are named one by one


def load_predictions(
    logs: LogsLike,
    *,
    methods: Iterable[str] | None = None,
    tasks: Iterable[str] | None = None,
    all_runs: bool = False,
    cache: CacheLike = None,
    storage_options: Mapping[str, Any] | None = None,
) -> list[Predictions]:
    """Read every run × task × method that lies in `logs`.

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

    Returns
    -------
    list of Predictions
        Sorted by path of the log, then in the order of ``METHODS``.

    Raises
    ------
    UserError
        If there are no logs, no log can be used, a method is unknown or none of the logs holds
        one of `methods`. Anything less is a warning that names file and line.

    Examples
    --------
    >>> from calib_harness.predictions.samples import write_example_log
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_example_log(folder, model="org/model", task="toy", n=3)
    ...     load_predictions(folder, cache=False)
    [Predictions('org/model', 'toy', 'choice', n=3)]
    """
    return list(
        iter_predictions(
            logs,
            methods=methods,
            tasks=tasks,
            all_runs=all_runs,
            cache=cache,
            storage_options=storage_options,
        )
    )


def iter_predictions(
    logs: LogsLike,
    *,
    methods: Iterable[str] | None = None,
    tasks: Iterable[str] | None = None,
    all_runs: bool = False,
    cache: CacheLike = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Iterator[Predictions]:
    """Like :func:`load_predictions`, one log in memory at a time."""
    return iter(
        PredictionStream(
            logs,
            methods=methods,
            tasks=tasks,
            all_runs=all_runs,
            cache=cache,
            storage_options=storage_options,
        )
    )


class PredictionStream:
    """Predictions that can be gone through again and again, one log in memory at a time.

    Parameters as for :func:`load_predictions`; so are the errors, raised while iterating.
    """

    def __init__(
        self,
        logs: LogsLike,
        *,
        methods: Iterable[str] | None = None,
        tasks: Iterable[str] | None = None,
        all_runs: bool = False,
        cache: CacheLike = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._wanted = check_methods(methods)
        self._find = partial(
            find_logs,
            logs,
            tasks=tasks,
            all_runs=all_runs,
            cache=cache,
            storage_options=storage_options,
        )

    def __iter__(self) -> Iterator[Predictions]:
        yield from predictions_of(self._find(), self._wanted)


def predictions_of(reader: LogReader, wanted: tuple[str, ...] | None) -> Iterator[Predictions]:
    """Yield what found logs hold of the wanted methods (None: all); say what is missing."""
    missing = _Missing(wanted)
    found = False
    for contents in reader:
        missing.note(contents)
        for predictions in contents.predictions:
            if wanted is None or predictions.header.method in wanted:
                found = True
                yield predictions
    missing.report()
    if not found and wanted is not None:
        raise UserError(f"no log holds --methods {', '.join(wanted)}: {missing.reasons()}.")


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
        for reason, tasks in self._logs.items():
            named = sorted(set(tasks))
            logger.info(
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
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise UserError(
            f"--methods must be among {', '.join(METHODS)}; got {', '.join(unknown) or 'none'}."
        )
    return names


class LogReader:
    """The logs that were found, each read when its turn comes.

    Iterating yields one :class:`LogContents` per readable log. A log that cannot be used is
    named in a warning and left out; if that leaves nothing, the end raises a UserError.
    Indexing-free and picklable, so that processes can share the work.
    """

    def __init__(self, logs: list[Log], store: Store) -> None:
        self.logs = logs
        self.store = store

    def __len__(self) -> int:
        return len(self.logs)

    def __iter__(self) -> Iterator[LogContents]:
        unreadable: list[str] = []
        for log in self.logs:
            contents = self.read(log)
            if isinstance(contents, LogContents):
                yield contents
            else:
                unreadable.append(contents)
        if len(unreadable) == len(self.logs):
            raise UserError(f"none of {len(self.logs)} log(s) can be used: {unreadable[0]}")

    def read(self, log: Log) -> LogContents | str:
        """Read one log; its problems are logged. A sentence if it cannot be used."""
        try:
            contents = self.store.get(log, read_log)
        except NotMultipleChoiceLogError as error:
            return self._unusable(
                f"{log.file.url} is not of a multiple-choice task ({error}); "
                "calibration needs a choice among scored answers, so give logs of such tasks"
            )
        except Exception as error:
            if not (isinstance(error, OSError) or log.file.is_remote):
                raise
            return self._unusable(f"{log.file.url} cannot be read ({describe(error)})")
        _report(contents, log)
        if not contents.predictions:
            what = "holds no usable question" if contents.problems else "is empty"
            return self._unusable(f"{log.file.url} {what}")
        return contents

    def _unusable(self, sentence: str) -> str:
        logger.warning("%s; it is left out", sentence)
        return sentence


def find_logs(
    logs: LogsLike,
    *,
    tasks: Iterable[str] | None = None,
    all_runs: bool = False,
    cache: CacheLike = None,
    storage_options: Mapping[str, Any] | None = None,
) -> LogReader:
    """Find logs and what was run, without reading predictions; parameters as for loading."""
    samples, results = find_files(logs, storage_options)
    found = describe_logs(samples, results)
    if tasks is not None:
        wanted = {tasks} if isinstance(tasks, str) else set(tasks)
        present = {log.header.task for log in found}
        absent = wanted - present
        if absent:
            raise UserError(
                f"--tasks {', '.join(sorted(absent))}: no such logs; there are "
                f"{', '.join(sorted(present))}."
            )
        found = [log for log in found if log.header.task in wanted]
    if not all_runs:
        found = newest_runs(found)
    if cache is False:
        folder = None
    else:
        folder = default_cache() if cache is None or cache is True else Path(cache)
    return LogReader(found, Store(folder))


def read_log(log: Log) -> LogContents:
    """Parse one log.

    Raises
    ------
    NotMultipleChoiceLogError
        If its task has no choices.
    OSError
        If the file cannot be opened.
    """
    columns = Columns(log.delimiter)
    with log.file.open() as stream:
        for record in read_records(stream):
            columns.add(record)
    columns.finish()
    if not columns.gold:
        return LogContents(log.header, (), {}, tuple(columns.problems))
    scores, missing = method_scores(columns)
    gold = np.asarray(columns.gold, dtype=np.int64)
    doc_id = np.asarray(columns.doc_id, dtype=np.int64)
    doc_hash = np.asarray(columns.doc_hash, dtype=object)
    predictions = tuple(
        Predictions(replace(log.header, method=method), table, gold, doc_id, doc_hash)
        for method, table in scores.items()
    )
    return LogContents(log.header, predictions, missing, tuple(columns.problems))


def _report(contents: LogContents, log: Log) -> None:
    """Name what was skipped and count what no metric can use, once per log."""
    problems = contents.problems
    if problems:
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        logger.warning("%s: %s%s", log.file.url, "; ".join(problems[:_NAMED]), more)
    for predictions in contents.predictions[:1]:
        unusable = int((~predictions.usable).sum())
        if unusable:
            no_gold = int((predictions.gold < 0).sum())
            logger.warning(
                "%s: %d of %d questions cannot be used (%d without a single gold choice, the "
                "others without finite scores); they count as wrong in acc and are left out of "
                "every other metric",
                log.file.url,
                unusable,
                len(predictions),
                no_gold,
            )
