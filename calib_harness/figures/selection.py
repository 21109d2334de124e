"""Which runs a figure shows and what it calls them: one task, one method, some models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from calib_harness.analysis.matching import Models, match_runs
from calib_harness.analysis.pairs_file import PairsLike, read_pairs
from calib_harness.errors import UserError
from calib_harness.predictions.files import LogsLike
from calib_harness.predictions.load import CacheLike, find_logs
from calib_harness.predictions.log_reader import LogReader
from calib_harness.predictions.table import Predictions


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


def run_labels(runs: Sequence[Predictions], given: Sequence[str] | None = None) -> list[str]:
    """Return the labels given, or the models' names and whatever else tells the runs apart.

    Of names such as ``org/model`` the last part is enough where no two models share it.

    Raises
    ------
    ValueError
        If the labels given do not name each run differently.
    """
    if given is not None:
        if len(set(given)) != len(runs) or len(given) != len(runs):
            raise ValueError(
                f"labels must name each of {len(runs)} run(s) differently; got {list(given)}."
            )
        return list(given)
    labels = short_labels([(run.header.label,) for run in runs])
    for name, write in (
        ("method", str),
        ("task", str),
        ("n_shot", lambda value: f"{value}-shot"),
        ("chat_template", lambda value: "chat template" if value else "no chat template"),
        ("settings", str),
        ("date", str),
    ):
        if len(set(labels)) == len(labels):
            break
        values = [getattr(run.header, name) for run in runs]
        if len(set(values)) > 1:
            labels = [f"{label}, {write(v)}" for label, v in zip(labels, values, strict=True)]
    return labels


def short_labels(units: Sequence[Sequence[str]]) -> list[str]:
    """Return how a figure calls models, or tuples of models such as base and aligned.

    Of names such as ``org/model`` the last part is enough where no two models share it, and of a
    name that goes on from the one before only what comes new.

    Examples
    --------
    >>> short_labels([("org/m-7b", "org/m-7b-chat"), ("org/n", "lab/zephyr")])
    ['m-7b → …-chat', 'n → zephyr']
    """
    names = {name for unit in units for name in unit}
    short = {name: name.rstrip("/").rpartition("/")[2] for name in names}
    if len(set(short.values())) < len(names):
        short = {name: name for name in names}
    labels = []
    for unit in units:
        parts = [short[name] for name in unit]
        for i in range(len(parts) - 1, 0, -1):
            new = parts[i].removeprefix(parts[i - 1])
            if new != parts[i] and new[:1] in {"-", "_", ".", "@"}:
                parts[i] = f"…{new}"
        labels.append(" → ".join(parts))
    return labels


def common_parts(runs: Sequence[Predictions]) -> list[str]:
    """Return the task and the method of runs, where all have the same."""
    found = [{run.header.task for run in runs}, {run.header.method for run in runs}]
    return [names.pop() for names in found if len(names) == 1]


def only_value(column: Iterable[Any], name: str, wanted: str | None) -> str:
    """Return `wanted`, or the only value of a column.

    Raises
    ------
    UserError
        If the column does not hold `wanted`, or has several values and none is wanted.
    """
    there = list(dict.fromkeys(map(str, column)))
    if wanted is None and len(there) == 1:
        return there[0]
    if wanted in there:
        return wanted
    if wanted is None:
        raise UserError(
            f"there are several {name}s: choose with --{name} one of {', '.join(there)}."
        )
    raise UserError(f"--{name} must be one of {', '.join(there)}; got {wanted!r}.")
