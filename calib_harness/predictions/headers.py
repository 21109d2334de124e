"""Find out what was run: from the results file beside a log, else from its name."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from calib_harness.predictions.files import DATE, HOW_TO_LOG, File, describe
from calib_harness.predictions.results_file import ResultsInfo, parse_results
from calib_harness.predictions.table import Header

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Log:
    """One sample log that was found but not yet read.

    Attributes
    ----------
    file : File
    header : Header
        With an empty ``method``.
    delimiter : str or None
        What lm-eval put before each choice; None if unknown.
    results_version : str or None
        Version of the results file that the header was made from.
    info : ResultsInfo
        All that the results file says.
    """

    file: File
    header: Header
    delimiter: str | None
    results_version: str | None
    info: ResultsInfo = field(default_factory=ResultsInfo)


def describe_logs(samples: list[File], results: list[File]) -> list[Log]:
    """Pair every sample log with its results file and make its header.

    Results files without a sample log and results files that cannot be read are named in one
    warning each.
    """
    book = _ResultsBook(results)
    logs = [_describe(sample, *book.of(sample)) for sample in samples]
    book.report_unused()
    return logs


def newest_runs(logs: Iterable[Log]) -> list[Log]:
    """Keep the newest log of each repeated run; say which were left out."""
    groups: dict[tuple[object, ...], list[Log]] = defaultdict(list)
    for log in logs:
        groups[log.header.run_key].append(log)
    kept = []
    for group in groups.values():
        group.sort(key=lambda log: (log.header.date, log.file.path))
        kept.append(group[-1])
        if len(group) > 1:
            logger.warning(
                "%s on %s was run %d times: the newest, %s, is used (--all-runs reads all)",
                group[-1].header.label,
                group[-1].header.task,
                len(group),
                group[-1].file.url,
            )
    return sorted(kept, key=lambda log: log.file.path.split("/"))


class _ResultsBook:
    """The results files of a tree, read when first asked for."""

    def __init__(self, files: list[File]) -> None:
        self._by_folder: dict[tuple[str, str], list[File]] = defaultdict(list)
        for file in files:
            self._by_folder[file.folder, file.date].append(file)
        self._read: dict[str, ResultsInfo | None] = {}
        self._files = files

    def of(self, sample: File) -> tuple[ResultsInfo, str | None]:
        """Results of the run that wrote `sample`: same folder, same date or none in the name."""
        same_date = self._by_folder.get((sample.folder, sample.date), [])
        undated = self._by_folder.get((sample.folder, ""), [])
        for file in sorted((*same_date, *undated), key=lambda f: not f.name.startswith("results")):
            info = self._info(file)
            if info is not None:
                return info, file.version
        return ResultsInfo(), "none"

    def _info(self, file: File) -> ResultsInfo | None:
        if file.url not in self._read:
            try:
                self._read[file.url] = parse_results(file.read())
            except (OSError, EOFError, ValueError, RecursionError) as error:
                self._read[file.url] = None
                if file.name.startswith("results"):
                    why = describe(error) if isinstance(error, OSError) else error
                    logger.warning(
                        "%s was skipped: %s; what was run is told by the names of folder and "
                        "files alone",
                        file.url,
                        why,
                    )
        return self._read[file.url]

    def report_unused(self) -> None:
        """Name the results files that no sample log belongs to."""
        named = [f for f in self._files if f.name.startswith("results") and f.url not in self._read]
        if named:
            logger.warning(
                "%d results file(s) have no sample log (first: %s): %s",
                len(named),
                named[0].url,
                HOW_TO_LOG,
            )


def _describe(sample: File, info: ResultsInfo, version: str | None) -> Log:
    task = _task(sample, info)
    header = Header(
        model=info.model or _model_from_folder(sample),
        revision=info.revision,
        task=task,
        method="",
        n_shot=info.n_shot.get(task),
        chat_template=info.chat_template,
        lm_eval_version=info.lm_eval_version,
        date=sample.date or info.date,
        settings=info.settings,
        source=sample.url,
        task_version=info.task_versions.get(task),
    )
    return Log(sample, header, info.delimiters.get(task), version, info)


def _task(sample: File, info: ResultsInfo) -> str:
    """Task of a log: ``samples_TASK_DATE``, or in early logs ``MODELARGS_TASK``."""
    stem = DATE.sub("", sample.stem)
    if stem.startswith("samples_"):
        return stem.removeprefix("samples_")
    for task in info.tasks:
        if stem == task or stem.endswith(f"_{task}"):
            return task
    return stem


def _model_from_folder(sample: File) -> str:
    """lm-eval names a run's folder after the model, ``/`` written as ``__``."""
    folder = sample.folder.rstrip("/").rpartition("/")[2]
    return folder.replace("__", "/") if folder else "unknown"
