"""What was tested: changes from base to aligned models, how, and the verdict on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from calib_harness.analysis import Comparison, compare, verdict
from calib_harness.analysis.matching import Models, match_runs, shared_settings
from calib_harness.analysis.metrics_frame import SummaryOptions
from calib_harness.analysis.multiplicity import FAMILY_OF_TESTS, SIGNIFICANT
from calib_harness.analysis.sides import Side
from calib_harness.core.loss import LOSSES, PRIMARY
from calib_harness.core.metrics import METRICS
from calib_harness.page.packing import Columns, Numbering, printed_alike, smallest_unsigned
from calib_harness.page.sources import Sources
from calib_harness.predictions.table import Predictions

# Answers up to which the parts of every change are computed too, for the words of the verdict.
_FEW_ANSWERS = 100_000


def comparable(metrics: Sequence[str]) -> list[str]:
    """Return those of the names that `compare` knows."""
    return [name for name in metrics if name in METRICS or name in LOSSES]


def tested_changes(
    sources: Sources,
    options: SummaryOptions,
    metrics: Sequence[str],
    known: Mapping[Predictions, Side],
    names: Mapping[str, Numbering],
    numbers: Columns,
) -> dict[str, Any]:
    """Compare base with aligned models; numbers go to columns, the rest is returned.

    Parameters
    ----------
    sources : Sources
    options : SummaryOptions
        Bins, seed and resamples; 0 for as many as `compare` takes.
    metrics : sequence of str
        All metrics of the page, in its order.
    known : mapping of Predictions to Side
        What was computed before, see `compare`.
    names : mapping of str to Numbering
        Of ``models``, ``tasks`` and ``methods``.
    numbers : Columns
    """
    if sources.pairs is None:
        empty: dict[str, Any] = {"pairs": [], "changes": {}, "agreement": [], "harmed": []}
        return empty | {"tests": {"can_decide": [], "clear": ""}, "verdicts": [], "sides": []}
    few = sum(map(len, sources.predictions)) <= _FEW_ANSWERS
    found = compare(
        sources.predictions,
        sources.pairs,
        metrics=comparable(metrics),
        n_bins=options.n_bins,
        binning=options.binning,
        n_resamples=options.n_resamples or None,
        seed=options.seed,
        detail="all" if few else "tests",
        known=known,
    )
    frame = found.changes
    pairs = Numbering()
    place = {name: i for i, name in enumerate(metrics)}
    keys = [pairs.of(key) for key in frame[["family", "base", "aligned"]].itertuples(index=False)]
    base, aligned = _sides(sources.predictions, frame)
    _add_changes(numbers, frame, keys, place, names)
    numbers.add("change_base_entry", smallest_unsigned(base))
    numbers.add("change_aligned_entry", smallest_unsigned(aligned))
    changes = {key: _plain(frame[key]) for key in ("n_shot", "chat_template", "rank", "clear")}
    changes["harm"] = [0 if harm is None else harm for harm in _plain(frame["harm"])]
    models = names["models"]
    return {
        "tests": _tests(found, metrics),
        "pairs": [
            {"family": family, "base": models.of(first), "aligned": models.of(second)}
            for family, first, second in pairs.known
        ],
        "changes": changes,
        "agreement": _records(found.over_tasks),
        "harmed": _records(found.over_families),
        "verdicts": _verdicts(found),
        "sides": list(dict.fromkeys(zip(base, aligned, strict=True))),
    }


def _add_changes(
    numbers: Columns,
    frame: pd.DataFrame,
    pairs: Sequence[int],
    metrics: Mapping[str, int],
    names: Mapping[str, Numbering],
) -> None:
    numbers.add("change_pair", smallest_unsigned(pairs))
    for key, known in (("task", names["tasks"]), ("method", names["methods"])):
        numbers.add(f"change_{key}", smallest_unsigned([known.of(each) for each in frame[key]]))
    numbers.add("change_metric", smallest_unsigned([metrics[name] for name in frame["metric"]]))
    numbers.add("change_n", smallest_unsigned(frame["n"]))
    for key in ("base_value", "aligned_value", "change", "stderr", "low", "high"):
        numbers.add(f"change_{key}", printed_alike(frame[key].to_numpy(dtype=float)))
    for key in ("p_value", "p_holm"):
        numbers.add(f"change_{key}", frame[key].to_numpy(dtype="float32"))


def _sides(predictions: Sequence[Predictions], frame: pd.DataFrame) -> tuple[list[int], list[int]]:
    """Return which runs each row compares, as places among the predictions.

    `compare` goes through the pairs and their matching runs in order, all metrics of one match
    after each other; a match without shared questions has no rows.
    """
    place = {p: i for i, p in enumerate(predictions)}
    models = Models(predictions)
    matched: list[tuple[dict[str, object], tuple[Predictions, ...]]] = []
    both = frame[["base", "aligned"]].drop_duplicates()
    for first, second in both.itertuples(index=False, name=None):
        for runs in match_runs([models.of(first), models.of(second)]):
            matched.append(({"base": first, "aligned": second} | shared_settings(runs), runs))
    columns = ["base", "aligned", "task", "method", "n_shot", "chat_template"]
    base, aligned, at = [], [], -1
    before: tuple[Any, ...] | None = None
    seen: set[str] = set()
    for *row, metric in frame[[*columns, "metric"]].itertuples(index=False, name=None):
        key = tuple(None if value is None or value != value else value for value in row)
        if key != before or metric in seen:
            at += 1
            while tuple(matched[at][0][name] for name in columns) != key:
                at += 1
            before, seen = key, set()
        seen.add(metric)
        sides = matched[at][1]
        base.append(place[sides[0]])
        aligned.append(place[sides[1]])
    return base, aligned


def _tests(found: Comparison, metrics: Sequence[str]) -> dict[str, Any]:
    """Say how changes were tested, and what tests that cannot decide would cost."""
    resamples = found.options.n_resamples
    together = found.changes.groupby("metric")["n_tests"].max()
    least = {
        name: 0.0 if name in LOSSES else 2 * int(together.get(name, 0)) / (resamples + 1)
        for name in metrics
    }
    # Changes that too few resamples leave open were given more, unless their number was set.
    decided = found.changes.groupby("metric")["p_holm"].min() < SIGNIFICANT
    can_decide = [value <= SIGNIFICANT or bool(decided.get(n, False)) for n, value in least.items()]
    needed = int(2 * max(together, default=0) / SIGNIFICANT)
    cost = (
        f"With so few resamples no corrected p of the metrics other than {PRIMARY} can be below "
        f"{min(1.0, max(least.values())):.2g}, so none is shown: --resamples {needed} could decide "
        f"and takes about {max(2, round(needed / max(resamples, 1)))} times as long; or make a "
        "page of fewer tasks, methods or pairs."
    )
    return {
        "n_resamples": resamples,
        "correction": f"{FAMILY_OF_TESTS}; {PRIMARY} is tested by Student's t",
        "clear": f"its p, corrected by Holm, is below {SIGNIFICANT:g}",
        "can_decide": can_decide,
        "cost": "" if all(can_decide) else cost,
    }


def _verdicts(found: Comparison) -> list[dict[str, Any]]:
    """Return the words of `analysis` on each task and method, and the row of the largest change."""
    frame = found.changes.reset_index(drop=True)
    words = []
    for each in verdict(found):
        here = frame[
            (frame["task"] == each.task)
            & (frame["method"] == each.method)
            & (frame["metric"] == each.metric)
            & frame["clear"].astype(bool)
        ]
        worse = here[here["harm"] > 0] if each.n_worse else here
        sizes = worse["excess_change"].abs()
        words.append(
            {
                "task": each.task,
                "method": each.method,
                "sentences": list(each.sentences),
                "pairs": int(each.n_pairs),
                "worse": int(each.n_worse),
                "better": int(each.n_better),
                # The frame is numbered from 0: a label is the row, but one of numpy's integers.
                "change": int(cast(int, sizes.idxmax())) if len(sizes) else None,
            }
        )
    return words


def _plain(values: Iterable[Any]) -> list[Any]:
    return [None if value is None or value != value else int(value) for value in values]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            str(key): None if isinstance(value, float) and not np.isfinite(value) else value
            for key, each in row.items()
            # Columns of mixed kinds hold numpy's numbers, which JSON does not know.
            for value in [each.item() if isinstance(each, np.generic) else each]
        }
        for row in frame.to_dict("records")
    ]
