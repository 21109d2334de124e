"""What the page carries: one JSON document of names, and two blobs of numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from calib_harness.analysis import compare
from calib_harness.analysis.matching import Models
from calib_harness.analysis.metrics_frame import SummaryOptions
from calib_harness.analysis.reliability import Reliability
from calib_harness.analysis.results import is_harmed
from calib_harness.core.accuracy import choice_mass
from calib_harness.core.metrics import METRICS
from calib_harness.core.nulls import calibrated_null
from calib_harness.core.resampling import Draws
from calib_harness.page.numbers import (
    BINNINGS,
    COVERAGES,
    Binning,
    EntryNumbers,
    all_numbers,
    diagram_options,
)
from calib_harness.page.packing import Columns, printed_alike, smallest_unsigned
from calib_harness.page.sources import Place, Sources
from calib_harness.predictions.table import Predictions

_FULL = 65535  # shares are kept in steps of 1 / 65,535

# Diagrams per choice position are kept for all binnings up to this many bins in all.
_CLASS_BINS = 300_000
# Answers times diagrams up to which there is a diagram of each binning: half a minute.
_DIAGRAM_WORK = 20_000_000


@dataclass(frozen=True)
class Payload:
    """Everything that is put into the page.

    Attributes
    ----------
    document : dict
        Names, options and who belongs to whom; JSON-ready.
    numbers : str
        Metrics and changes, packed columns; needed at once.
    diagrams : str
        Binned data and curves, packed columns; unpacked when a diagram is opened.
    """

    document: dict[str, Any]
    numbers: str
    diagrams: str


class _Names:
    """Numbers things in the order in which they first come."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def of(self, thing: Any) -> int:
        return self.known.setdefault(thing, len(self.known))


def make_payload(
    sources: Sources,
    options: SummaryOptions,
    *,
    n_change_resamples: int | None = None,
    n_jobs: int = 1,
    made: dict[str, Any],
) -> Payload:
    """Compute everything and pack it.

    Parameters
    ----------
    sources : Sources
    options : SummaryOptions
        Metrics, bins and resamples, as for ``metrics_frame``.
    n_change_resamples : int, optional
        Resamples of the changes from base to aligned; by default as many as ``compare`` takes.
    n_jobs : int
        Processes.
    made : dict
        When and how the page was made: ``date``, ``command``, ``packages``.
    """
    predictions = sources.predictions
    main: Binning = (options.n_bins, options.binning)
    binnings = _binnings(sources, main)
    class_binnings = _class_binnings(sources, binnings, options)
    shown = diagram_options(predictions, options, binnings, class_binnings)
    found = list(all_numbers(predictions, options, shown, n_jobs))
    numbers, diagrams = Columns(), Columns()
    names = list(dict.fromkeys(row["metric"] for entry in found for row in entry.rows))
    models, settings, tasks, methods = _Names(), _Names(), _Names(), _Names()
    entries: dict[str, list[Any]] = {
        key: [] for key in ("model", "task", "method", "setting", "n", "unusable")
    }
    for p in predictions:
        h = p.header
        entries["model"].append(models.of(h.label))
        entries["task"].append(tasks.of(h.task))
        entries["method"].append(methods.of(h.method))
        entries["setting"].append(settings.of((h.n_shot, h.chat_template, h.settings)))
        entries["n"].append(len(p))
        entries["unusable"].append(int((~p.usable).sum()))
    _add_metrics(numbers, found, names)
    top = [one for entry in found for one in entry.top]
    classes = [one for entry in found for position in entry.classes for one in position]
    _add_bins(diagrams, "top", top)
    _add_bins(diagrams, "class", classes)
    _add_intervals(diagrams, [*top, *classes])
    risk = np.array([entry.risk for entry in found])
    steps = np.nan_to_num(np.round(risk * 65534), nan=65535).astype("uint16")
    # Differences, modulo 65,536, are small and compress better.
    diagrams.add("risk", np.diff(steps, axis=-1, prepend=np.zeros_like(steps[..., :1])))
    labels = [str(label) for label in models.known]
    document = {
        "made": made,
        "options": {
            "n_bins": options.n_bins,
            "binning": options.binning,
            "n_resamples": options.n_resamples,
            "seed": options.seed,
        },
        "metrics": [_metric(name) for name in names],
        "models": [_model(label, sources) for label in labels],
        "tasks": list(tasks.known),
        "methods": list(methods.known),
        "settings": [
            {"n_shot": n_shot, "chat_template": chat, "settings": text}
            for n_shot, chat, text in settings.known
        ],
        "entries": entries,
        "n_classes": [len(entry.classes) for entry in found],
        "binnings": binnings,
        "class_binnings": class_binnings,
        "coverages": COVERAGES.tolist(),
        "runs": _runs(sources),
        "chains": _chains(sources, models),
    }
    compared = replace(options, n_resamples=n_change_resamples or 0)
    draws = None
    if n_change_resamples == options.n_resamples:
        draws = {p: entry.draws for p, entry in zip(predictions, found, strict=True)}
    document.update(_comparison(sources, compared, names, draws, models, tasks, methods, numbers))
    document["columns"] = {"numbers": numbers.index, "diagrams": diagrams.index}
    return Payload(document, numbers.packed(), diagrams.packed())


def _binnings(sources: Sources, main: Binning) -> list[Binning]:
    """Binnings to switch between: all, or those with the chosen M if there are many answers."""
    binnings = [*BINNINGS, *([] if main in BINNINGS else [main])]
    if len(binnings) * sum(map(len, sources.predictions)) <= _DIAGRAM_WORK:
        return binnings
    return [(n_bins, rule) for n_bins, rule in binnings if n_bins == main[0]]


def _class_binnings(
    sources: Sources, binnings: Sequence[Binning], options: SummaryOptions
) -> list[Binning]:
    """Binnings kept for choice positions: all, those with the chosen M, or the chosen one."""
    if sum(p.scores.size for p in sources.predictions) > _DIAGRAM_WORK:
        # Uniform ones always: the histogram is theirs.
        return list(dict.fromkeys([(options.n_bins, options.binning), (options.n_bins, "uniform")]))
    positions = sum(p.scores.shape[1] for p in sources.predictions)
    if positions * sum(n_bins for n_bins, _ in binnings) <= _CLASS_BINS:
        return list(binnings)
    return [(n_bins, rule) for n_bins, rule in binnings if n_bins == options.n_bins]


def _add_metrics(columns: Columns, found: Sequence[EntryNumbers], names: Sequence[str]) -> None:
    place = {name: i for i, name in enumerate(names)}
    for key in ("value", "stderr", "low", "high"):
        table = np.full((len(found), len(names)), np.nan)
        for i, entry in enumerate(found):
            for row in entry.rows:
                table[i, place[row["metric"]]] = row[key]
        columns.add(key, printed_alike(table.T))


def _add_bins(columns: Columns, name: str, diagrams: Sequence[Reliability]) -> None:
    """Add the bins that have entries, diagram after diagram."""
    columns.add(f"{name}_bins", smallest_unsigned([d.n.size for d in diagrams]))
    size = np.concatenate([np.zeros(0, int), *(d.n for d in diagrams)])
    columns.add(f"{name}_size", smallest_unsigned(size))
    share = np.concatenate([np.zeros(0), *(d.accuracy for d in diagrams)])
    columns.add(f"{name}_hits", smallest_unsigned(np.rint(share * size)))
    for key in ("null_low", "null_high"):
        share = np.concatenate([np.zeros(0), *(getattr(d, key) for d in diagrams)])
        columns.add(f"{name}_{key}", smallest_unsigned(np.rint(share * size)))
    for key in ("confidence", "low"):
        values = np.concatenate([np.zeros(0), *(getattr(d, key) for d in diagrams)])
        columns.add(f"{name}_{key}", np.rint(values * _FULL).astype("uint16"))
    for key in ("value", "stderr", "low", "high"):
        columns.add(f"{name}_ece_{key}", printed_alike([getattr(d.ece, key) for d in diagrams]))
    for key in ("mean", "low", "high"):
        of_null = [getattr(d.ece_null, key) for d in diagrams]
        columns.add(f"{name}_ece_null_{key}", printed_alike(of_null))


def _add_intervals(columns: Columns, diagrams: Sequence[Reliability]) -> None:
    """Add the exact interval of each (n, hits) that occurs, sorted: of many bins it is the same."""
    size = np.concatenate([np.zeros(0, int), *(d.n for d in diagrams)])
    share = np.concatenate([np.zeros(0), *(d.accuracy for d in diagrams)])
    key = size * (int(size.max(initial=0)) + 1) + np.rint(share * size).astype(int)
    first = np.unique(key, return_index=True)[1]
    for end in ("low", "high"):
        values = np.concatenate([np.zeros(0), *(getattr(d, f"accuracy_{end}") for d in diagrams)])
        columns.add(f"interval_{end}", np.rint(values[first] * _FULL).astype("uint16"))


def _metric(name: str) -> dict[str, Any]:
    """Describe a metric, from the package's own table and docstrings."""
    if name in METRICS:
        metric = METRICS[name]
        function: Callable[..., Any] = metric.function
        return {
            "name": name,
            "direction": metric.direction,
            "formula": metric.formula,
            "source": metric.source,
            "about": _first_paragraphs(function),
        }
    known: dict[str, tuple[Callable[..., Any], str]] = {
        "ece_null": (calibrated_null, "ece with each gold drawn from the model's own p_i"),
        "choice_mass": (choice_mass, "mean of Σ_k exp(s_ik), before normalising"),
    }
    function, formula = known.get(name, (calibrated_null, ""))
    about = _first_paragraphs(function) if name in known else ""
    return {"name": name, "direction": "", "formula": formula, "source": "", "about": about}


def _first_paragraphs(function: Callable[..., Any]) -> str:
    """Return what a docstring says before its list of parameters, as a sentence about a metric."""
    text = inspect.getdoc(function) or ""
    text = text.partition("\nParameters\n")[0].strip().removeprefix("Return ")
    return text[:1].upper() + text[1:]


def _model(label: str, sources: Sources) -> dict[str, Any]:
    place = sources.places.get(label, Place())
    return {"label": label, "family": place.family, "stage": place.stage, "step": place.step}


def _runs(sources: Sources) -> list[dict[str, Any]]:
    """Tell what was measured, one row per sample log."""
    runs: dict[str, dict[str, Any]] = {}
    for p in sources.predictions:
        h = p.header
        if h.source in runs:
            runs[h.source]["methods"].append(h.method)
            continue
        log = sources.logs[h.source]
        runs[h.source] = {
            "model": h.model,
            "revision": h.revision or "",
            "task": h.task,
            "task_version": log.info.task_versions.get(h.task, ""),
            "prompt": log.info.prompts.get(h.task, {}),
            "n_shot": h.n_shot,
            "chat_template": h.chat_template,
            "settings": h.settings,
            "n": len(p),
            "unusable": int((~p.usable).sum()),
            "methods": [h.method],
            "packages": {"lm_eval": h.lm_eval_version or "", **log.info.packages},
            "date": h.date,
            "source": h.source,
        }
    return list(runs.values())


def _chains(sources: Sources, models: _Names) -> list[dict[str, Any]]:
    """Chains of stages or steps, as lists of models."""
    if sources.chains is None:
        return []
    finder = Models(sources.predictions)
    chains = []
    for family, stages in sources.chains.groupby("family", sort=False):
        steps = []
        for row in stages.itertuples(index=False):
            label = finder.find(str(row.model))
            if label is not None:
                steps.append(
                    {"model": models.of(label), "stage": row.stage, "position": row.position}
                )
        if len(steps) >= 2:
            chains.append({"family": str(family), "steps": steps})
    return chains


def _comparison(
    sources: Sources,
    options: SummaryOptions,
    names: Sequence[str],
    draws: dict[Predictions, dict[str, Draws]] | None,
    models: _Names,
    tasks: _Names,
    methods: _Names,
    numbers: Columns,
) -> dict[str, Any]:
    """Compare base with aligned models, and tasks by their order of them."""
    empty: dict[str, Any] = {"pairs": [], "changes": {}, "agreement": [], "harmed": []}
    if sources.pairs is None:
        return empty
    metrics = [name for name in names if name in METRICS]
    found = compare(
        sources.predictions,
        sources.pairs,
        metrics=metrics,
        n_bins=options.n_bins,
        binning=options.binning,
        n_resamples=options.n_resamples or None,
        seed=options.seed,
        detail="tests",
        draws=draws,
    )
    frame = found.changes
    pairs = _Names()
    place = {name: i for i, name in enumerate(names)}
    keys = [pairs.of(key) for key in frame[["family", "base", "aligned"]].itertuples(index=False)]
    changes = {key: _plain(frame[key]) for key in ("n_shot", "chat_template", "rank")}
    numbers.add("change_pair", smallest_unsigned(keys))
    numbers.add("change_task", smallest_unsigned([tasks.of(task) for task in frame["task"]]))
    numbers.add("change_method", smallest_unsigned([methods.of(each) for each in frame["method"]]))
    numbers.add("change_metric", smallest_unsigned([place[name] for name in frame["metric"]]))
    numbers.add("change_n", smallest_unsigned(frame["n"]))
    for key in ("base_value", "aligned_value", "change", "stderr", "low", "high"):
        numbers.add(f"change_{key}", printed_alike(frame[key].to_numpy(dtype=float)))
    for key in ("p_value", "p_holm"):
        numbers.add(f"change_{key}", frame[key].to_numpy(dtype="float32"))
    harm = pd.concat(
        [
            is_harmed(group["base_value"], group["aligned_value"], str(metric))
            for metric, group in frame.groupby("metric", sort=False)
        ]
    ).reindex(frame.index)
    changes["harm"] = [int(h) if h == h else 0 for h in harm]
    changes["clear"] = [int(clear) for clear in frame["clear"]]
    return {
        "n_change_resamples": found.options.n_resamples,
        "pairs": [
            {"family": family, "base": models.of(base), "aligned": models.of(aligned)}
            for family, base, aligned in pairs.known
        ],
        "changes": changes,
        "agreement": _records(found.over_tasks),
        "harmed": _records(found.over_families),
    }


def _plain(values: Iterable[Any]) -> list[Any]:
    return [None if value is None or value != value else int(value) for value in values]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            str(key): None if isinstance(value, float) and not np.isfinite(value) else value
            for key, value in row.items()
        }
        for row in frame.to_dict("records")
    ]
