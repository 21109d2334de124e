"""Read the logs that were found, each when its turn comes; say what is wrong with them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from calib_harness.errors import ArgumentError, UserError
from calib_harness.predictions.columns import (
    Columns,
    NoSampleLogError,
    NotMultipleChoiceLogError,
    UnusableLogError,
    method_scores,
)
from calib_harness.predictions.files import describe
from calib_harness.predictions.foreign.harness_logs import harness_of
from calib_harness.predictions.foreign.table_runs import TableOptions, read_table
from calib_harness.predictions.headers import Log
from calib_harness.predictions.kept import Store
from calib_harness.predictions.records import read_records
from calib_harness.predictions.table import UNDECIDED, LogContents, Predictions

logger = logging.getLogger(__name__)

_NAMED = 5  # problems of one file that are named one by one
_LEFT_OUT = (
    "those with a known gold, or none, count as wrong in acc, and every other metric leaves them "
    "all out"
)
_NO_METRIC = "so no metric can be computed"


class LogReader:
    """The logs that were found, each read when its turn comes.

    Iterating yields one :class:`LogContents` per readable log. A log that cannot be used is
    named in a warning and left out; if that leaves nothing, the end raises a UserError.
    Indexing-free and picklable, so that processes can share the work.
    """

    def __init__(self, logs: list[Log], store: Store, tables: TableOptions | None = None) -> None:
        self.logs = logs
        self.store = store
        self.tables = tables or TableOptions()

    def __len__(self) -> int:
        return len(self.logs)

    def __iter__(self) -> Iterator[LogContents]:
        return (contents for _, contents in self.read_all() if contents is not None)

    def read_all(self) -> Iterator[tuple[Log, LogContents | None]]:
        """Read every log in turn; None for one that cannot be used."""
        unreadable: list[str] = []
        for log in self.logs:
            contents = self.read(log)
            if isinstance(contents, LogContents):
                yield log, contents
            else:
                unreadable.append(contents)
                yield log, None
        if len(unreadable) == len(self.logs):
            raise UserError(f"none of {len(self.logs)} log(s) can be used: {unreadable[0]}")

    def read(self, log: Log) -> LogContents | str:
        """Read one log; its problems are logged. A sentence if it cannot be used."""
        try:
            contents = self._contents(log)
        except NotMultipleChoiceLogError as error:
            return self._unusable(
                f"{log.file.url} is not of a multiple-choice task ({error}); "
                "calibration needs a choice among scored answers, so give logs of such tasks"
            )
        except UnusableLogError as error:
            return self._unusable(f"{log.file.url} {error}")
        except ArgumentError:
            raise
        except UserError as error:  # of a table whose columns do not say enough
            return self._unusable(str(error).rstrip("."))
        except Exception as error:
            if not (isinstance(error, OSError) or log.file.is_remote):
                raise
            return self._unusable(f"{log.file.url} cannot be read ({describe(error)})")
        wanted = self.tables.tasks
        if wanted is not None and log.header.task not in wanted and contents.predictions:
            chosen = tuple(p for p in contents.predictions if p.header.task in wanted)
            if not chosen:
                there = sorted({p.header.task for p in contents.predictions})
                return self._unusable(
                    f"{log.file.url} holds none of the wanted tasks, but {', '.join(there)}"
                )
            contents = replace(contents, predictions=chosen)
        _report(contents, log)
        if not contents.predictions:
            why = "".join(f" ({problem})" for problem in contents.problems[:1])
            what = f"holds no usable question{why}" if why else "is empty"
            return self._unusable(f"{log.file.url} {what}")
        return contents

    def _contents(self, log: Log) -> LogContents:
        harness = harness_of(log.file)
        if harness is not None:
            try:
                return harness.read(log)
            except NoSampleLogError:  # only called as its logs are
                pass
        if log.file.is_table:
            return read_table(log, self.tables)
        try:
            return self.store.get(log, read_log)
        except NoSampleLogError as no_log:
            try:
                return read_table(log, self.tables)
            except ArgumentError:
                raise
            except UserError as no_table:
                raise UserError(f"{str(no_table).rstrip('.')}; as a log, {no_log}.") from None

    def _unusable(self, sentence: str) -> str:
        logger.warning("%s; it is left out", sentence)
        return sentence


def read_log(log: Log) -> LogContents:
    """Parse one log.

    Raises
    ------
    NotMultipleChoiceLogError
        If its task has no choices.
    UnusableLogError
        If its scores are no log-probabilities, or another program wrote it.
    OSError
        If the file cannot be opened.
    """
    columns = Columns(log.delimiter)
    with log.file.open() as stream:
        for record in read_records(stream):
            columns.add(record)
    columns.finish()
    if not len(columns):
        return LogContents(log.header, (), {}, tuple(columns.problems))
    settled = columns.settle_gold()
    header = replace(log.header, gold=settled.check)
    scores, missing = method_scores(columns)
    doc_id, doc_hash = columns.column("doc_id", np.int64), columns.column("doc_hash", object)
    truncated = columns.column("truncated", np.int64)
    _, prompt = np.unique(columns.column("prompt", np.int64), return_inverse=True)
    predictions = tuple(
        Predictions(
            replace(header, method=method),
            table,
            settled.gold,
            doc_id,
            doc_hash,
            prompt=prompt,
            truncated=truncated if (truncated >= 0).all() else None,
        )
        for method, table in scores.items()
    )
    problems = (*columns.problems, *settled.problems)
    return LogContents(header, predictions, missing, problems)


def _report(contents: LogContents, log: Log) -> None:
    """Name what was skipped and count what no metric can use, once per log."""
    problems = contents.problems
    if problems:
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        logger.warning("%s: %s%s", log.file.url, "; ".join(problems[:_NAMED]), more)
    for predictions in contents.predictions[:1]:
        unusable = int((~predictions.usable).sum())
        if unusable:
            no_gold = int((predictions.gold == -1).sum())
            undecided = int((predictions.gold == UNDECIDED).sum())
            logger.warning(
                "%s: %d of %d questions cannot be used (%d without a gold choice, %d of which it "
                "is not known which choice is right, the others without finite scores); %s",
                log.file.url,
                unusable,
                len(predictions),
                no_gold,
                undecided,
                _LEFT_OUT if (predictions.gold >= 0).any() else _NO_METRIC,
            )
