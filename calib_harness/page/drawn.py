"""Resamples of every metric of every run, for changes between runs that a reader chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from calib_harness.core.metrics import METRICS
from calib_harness.page.numbers import EntryNumbers
from calib_harness.page.packing import Columns, smallest_unsigned

#: Whether a page carries resamples, or why not: there are none, or too many runs.
Carried = Literal["all", "none", "many"]

_MOST_VALUES = 2_000_000  # of two bytes each
_STEPS = 65534  # between the least and the largest resample; one more stands for NaN


def resampled_metrics(metrics: Sequence[str], found: Sequence[EntryNumbers]) -> list[str]:
    """Return the metrics whose changes resamples can tell of, in the page's order.

    Of a metric without an interval (smece) resamples give a standard error only.
    """
    return [
        name
        for name in metrics
        if any(name in entry.side.draws and entry.side.draws[name].has_interval for entry in found)
    ]


def add_draws(columns: Columns, found: Sequence[EntryNumbers], metrics: Sequence[str]) -> Carried:
    """Add deviations of resamples, world after world, to within 1/65,534 of their range.

    ``draw_worlds`` says of every run and metric how many worlds there are, ``draw_low`` and
    ``draw_step`` how numbers are read back, ``draw_least`` and ``draw_most`` between what values
    the metric lies.
    """
    drawn = [entry.side.draws.get(name) for entry in found for name in metrics]
    sizes = [0 if draws is None else draws.deviations.size for draws in drawn]
    if not sum(sizes):
        return "none"
    if sum(sizes) > _MOST_VALUES:
        return "many"
    low, step, values = np.zeros(len(drawn)), np.zeros(len(drawn)), []
    for i, draws in enumerate(drawn):
        if draws is None:
            continue
        table = draws.deviations.T  # world after world
        known = table[np.isfinite(table)]
        if known.size:
            low[i], step[i] = known.min(), (known.max() - known.min()) / _STEPS
        steps = np.rint((table - low[i]) / (step[i] or 1.0))
        values.append(np.where(np.isfinite(table), steps, _STEPS + 1).astype("uint16").ravel())
    worlds = [0 if draws is None else draws.deviations.shape[1] for draws in drawn]
    bounds = [METRICS[name].bounds for _ in found for name in metrics]
    columns.add("draw_worlds", smallest_unsigned(worlds))
    columns.add("draw_low", low)
    columns.add("draw_step", step)
    columns.add("draw_least", np.array([b[0] for b in bounds]))
    columns.add("draw_most", np.array([b[1] for b in bounds]))
    columns.add("draw_values", np.concatenate(values))
    return "all"
