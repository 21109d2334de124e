"""Which runs a figure shows: one task, one method, some models, put together in panels."""

from __future__ import annotations

from collections.abc import Sequence

from calib_harness.comparison.pairs import Models, PairsLike, match_runs, read_pairs
from calib_harness.errors import UserError
from calib_harness.predictions.files import LogsLike
from calib_harness.predictions.load import CacheLike, LogReader, find_logs
from calib_harness.predictions.table import Predictions
from calib_harness.report.style import only_value


def read_runs(
    logs: LogsLike,
    *,
    task: str | None = None,
    method: str | None = None,
    cache: CacheLike = None,
) -> list[Predictions]:
    """Read the runs of a task and a method; all of them where none is named.

    Parameters
    ----------
    logs, cache
        As for ``load_predictions``.
    task : str, optional
        A task, or a benchmark for its tasks under both prompts (``arc_easy``).
    method : str, optional

    Raises
    ------
    UserError
        If there is no such task or method; it names those that there are.
    """
    reader = find_logs(logs, cache=cache)
    if task is not None:
        chosen = [log for log in reader.logs if task in (log.header.task, log.header.benchmark)]
        if not chosen:
            there = sorted({log.header.task for log in reader.logs})
            raise UserError(f"--task must be one of {', '.join(there)}; got {task!r}.")
        reader = LogReader(chosen, reader.store)
    runs = [p for contents in reader for p in contents.predictions if p.usable.any()]
    if method is None:
        return runs
    only_value([run.header.method for run in runs], "method", method)
    return [run for run in runs if run.header.method == method]


def of_one_kind(runs: Sequence[Predictions], *, single_task: bool = True) -> list[Predictions]:
    """Return the runs, or raise a UserError if they are of several methods (or tasks)."""
    only_value([run.header.method for run in runs], "method", None)
    if single_task:
        only_value([run.header.task for run in runs], "task", None)
    return list(runs)


def panels(
    runs: Sequence[Predictions],
    *,
    models: Sequence[str] | None = None,
    pairs: PairsLike | None = None,
) -> list[tuple[Predictions, ...]]:
    """Put runs together that are overlaid: the models named, each pair, or each run alone.

    Parameters
    ----------
    runs : sequence of Predictions
        Of one task and method.
    models : sequence of str, optional
        Models to overlay in one panel.
    pairs : optional
        See ``read_pairs``; one panel per pair.

    Raises
    ------
    UserError
        If a model has no log, or no pair has comparable runs.
    """
    known = Models(runs)
    if models:
        return [tuple(run for name in models for run in known.of(_found(known, name)))]
    if pairs is None:
        return [(run,) for run in runs]
    table = read_pairs(pairs)
    found = []
    for base, aligned in table[["base", "aligned"]].to_numpy():
        labels = [known.find(base), known.find(aligned)]
        if None not in labels:
            found += match_runs([known.of(str(label)) for label in labels])
    if not found:
        first = next(
            name for name in (*table["base"], *table["aligned"]) if known.find(name) is None
        )
        raise UserError(f"--pairs: none of {len(table)} pair(s) has logs: {known.unknown(first)}.")
    return found


def _found(known: Models, name: str) -> str:
    label = known.find(name)
    if label is None:
        raise UserError(f"--model, --base or --aligned: {known.unknown(name)}.")
    return label
