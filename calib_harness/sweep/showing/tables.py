"""The tables at the end of a sweep: metrics of every run, changes within every family.

Written from the sample logs of finished runs alone, so they can be made again at any time.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from calib_harness.errors import UserError
from calib_harness.output import csv_text, write_whole
from calib_harness.sweep.planning.plan import Plan, Run
from calib_harness.sweep.showing.live import counted, say
from calib_harness.sweep.showing.state import RunState
from calib_harness.sweep.storing.layout import RESULTS, RUNS, TABLES
from calib_harness.sweep.storing.shelf import open_store, remote_errors

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from calib_harness.predictions import Predictions

logger = logging.getLogger(__name__)

# The stage that all others of a family are compared with.
BASE = "base"


def write_tables(
    plan: Plan, states: Sequence[RunState], console: Console | None = None
) -> list[str]:
    """Write the tables of a sweep's finished runs into ``tables`` under its output.

    Parameters
    ----------
    plan : Plan
    states : sequence of RunState
        Where every run stands; only finished ones are read.
    console : Console, optional
        Where to show how far it is.

    Returns
    -------
    list of str
        The files written: ``metrics.csv`` (run × task × method); with families that have a
        base and other stages ``pairs.csv``, ``changes.csv``, ``over_families.csv``,
        ``across_pairs.csv``, ``equal_accuracy.csv``, ``over_tasks.csv`` and
        ``decomposition.csv``; with families of three stages or with steps ``chain.csv``,
        ``chain_values.csv``, ``chain_changes.csv`` and ``chain_trends.csv``.

    Raises
    ------
    UserError
        If no finished run has a log of a multiple-choice task.
    """
    finished = [state.run for state in states if state.status == "finished"]
    logs = dict(counted(_logs(plan, finished), "reading logs", console, total=len(finished)))
    if not logs:
        raise UserError("no finished run has a sample log of a multiple-choice task")
    tables = {"metrics": _metrics(logs, console)}
    if console:
        say(console, "comparing the models of each family")
    tables |= _changes(logs)
    tables |= _chains(logs)
    return [_write(plan.output, f"{name}.csv", frame) for name, frame in tables.items()]


def _logs(plan: Plan, runs: Sequence[Run]) -> Iterator[tuple[Run, list[Predictions]]]:
    from calib_harness.predictions import load_predictions

    location = open_store(plan.output).location
    for run in runs:
        try:
            yield run, load_predictions(f"{location}/{run.name}/{RESULTS}")
        except UserError as error:
            logger.warning("%s is in no table: %s", run.name, error)


def _metrics(logs: Mapping[Run, list[Predictions]], console: Console | None) -> pd.DataFrame:
    import pandas as pd

    from calib_harness.analysis.metrics_frame import metrics_frame, wide_frame

    frames = []
    for run, predictions in counted(logs.items(), "metrics", console, total=len(logs)):
        frame = wide_frame(metrics_frame(predictions))
        # From the output folder on, so that tables do not tell where it lies.
        at = f"{RUNS}/{run.name}/"
        frame["source"] = [at + source.partition(at)[2] for source in frame["source"]]
        labels = (("run", run.name), ("family", run.family), ("stage", run.stage))
        for place, (column, value) in enumerate((*labels, ("step", run.step))):
            frame.insert(place, column, pd.Series([value] * len(frame), dtype=object))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _changes(logs: Mapping[Run, list[Predictions]]) -> dict[str, pd.DataFrame]:
    import pandas as pd

    from calib_harness.analysis import compare

    rows = []
    for family, members in _families(logs).items():
        bases = [label for label, run in members.items() if run.stage == BASE]
        if len(bases) > 1:
            logger.warning("family %s has %d bases; no changes are told", family, len(bases))
            continue
        others = [label for label, run in members.items() if run.stage != BASE and run.stage]
        rows += [(family, base, other) for base in bases for other in others]
    if not rows:
        return {}
    pairs = pd.DataFrame(rows, columns=["family", "base", "aligned"])
    try:
        found = compare([p for part in logs.values() for p in part], pairs)
    except UserError as error:
        logger.warning("no changes from base to aligned: %s", error)
        return {}
    return {
        "pairs": pairs,
        "changes": found.changes,
        "over_families": found.over_families,
        "across_pairs": found.across_pairs,
        "equal_accuracy": found.equal_accuracy,
        "over_tasks": found.over_tasks,
        "decomposition": found.decomposition,
    }


def _chains(logs: Mapping[Run, list[Predictions]]) -> dict[str, pd.DataFrame]:
    import pandas as pd

    from calib_harness.analysis import compare_chain

    tables: dict[str, list[pd.DataFrame]] = defaultdict(list)
    predictions = [p for part in logs.values() for p in part]
    # All families at once, so that Holm's correction counts all their tests; families of steps
    # apart from families of stages, whose places along the chain are no numbers.
    for chain in _chains_by_kind(logs):
        try:
            found = compare_chain(predictions, chain)
        except UserError as error:
            logger.warning("no chains of stages: %s", error)
            continue
        tables["chain"].append(chain)
        tables["chain_values"].append(found.values)
        tables["chain_changes"].append(found.changes)
        tables["chain_trends"].append(found.trends)
    return {name: pd.concat(frames, ignore_index=True) for name, frames in tables.items()}


def _chains_by_kind(logs: Mapping[Run, list[Predictions]]) -> list[pd.DataFrame]:
    """Return what compare_chain reads: families with two steps, then those with three stages."""
    import pandas as pd

    rows: dict[str, list[tuple[str, str, object]]] = {"step": [], "stage": []}
    for family, members in _families(logs).items():
        steps = {label: run.step for label, run in members.items() if run.step is not None}
        stages = {label: run.stage for label, run in members.items() if run.stage}
        if len(steps) >= 2:
            rows["step"] += [(family, label, step) for label, step in steps.items()]
        elif not steps and len(stages) >= 3:
            rows["stage"] += [(family, label, stage) for label, stage in stages.items()]
    return [
        pd.DataFrame(found, columns=["family", "model", kind])
        for kind, found in rows.items()
        if found
    ]


def _families(logs: Mapping[Run, list[Predictions]]) -> dict[str, dict[str, Run]]:
    """Return every family's models, by the label that their logs bear, in the plan's order."""
    families: dict[str, dict[str, Run]] = defaultdict(dict)
    for run, predictions in logs.items():
        if run.family is not None:
            families[run.family].setdefault(predictions[0].header.label, run)
    return families


def _write(output: str, name: str, frame: pd.DataFrame) -> str:
    target = f"{output.rstrip('/')}/{TABLES}/{name}"
    text = csv_text(frame)
    if "://" in output:
        import fsspec

        with remote_errors(target), fsspec.open(target, "w", encoding="utf-8") as stream:
            stream.write(text)
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(target), text)
    return target
