"""Diagrams as columns: binned data, curves without bins, and risk at every coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib_harness.analysis.isotonic import IsotonicCurve
from calib_harness.analysis.reliability import Reliability
from calib_harness.core.smece import SmoothCurve
from calib_harness.page.numbers import EntryNumbers
from calib_harness.page.packing import Columns, printed_alike, smallest_unsigned

_FULL = 65535  # shares are kept in steps of 1 / 65,535


def diagram_columns(found: Sequence[EntryNumbers]) -> Columns:
    """Lay out the diagrams of all entries, one after the other."""
    columns = Columns()
    top = [one for entry in found for one in entry.top]
    classes = [one for entry in found for position in entry.classes for one in position]
    _add_bins(columns, "top", top)
    _add_bins(columns, "class", classes)
    _add_intervals(columns, [*top, *classes])
    _add_curves(columns, [entry.curve for entry in found])
    _add_smooth(columns, [entry.smooth for entry in found])
    risk = np.array([entry.risk for entry in found])
    steps = np.nan_to_num(np.round(risk * 65534), nan=65535).astype("uint16")
    # Differences, modulo 65,536, are small and compress better.
    columns.add("risk", np.diff(steps, axis=-1, prepend=np.zeros_like(steps[..., :1])))
    return columns


def _add_curves(columns: Columns, curves: Sequence[IsotonicCurve | None]) -> None:
    """Add the curves without bins; a run of which no question can be used has none."""
    known = [curve for curve in curves if curve is not None]
    columns.add(
        "curve_steps", smallest_unsigned([0 if c is None else c.confidence.size for c in curves])
    )
    for key, name in (
        ("at", "confidence"),
        ("value", "accuracy"),
        ("low", "low"),
        ("high", "high"),
    ):
        values = np.concatenate([np.zeros(0), *(getattr(c, name) for c in known)])
        columns.add(
            f"curve_{key}", np.nan_to_num(np.round(values * 65534), nan=65535).astype("uint16")
        )
    for key, name in (("mcb", "miscalibration"), ("dsc", "discrimination"), ("unc", "uncertainty")):
        parts = [np.nan if c is None else getattr(c, name) for c in curves]
        columns.add(f"curve_{key}", printed_alike(parts))


def _add_smooth(columns: Columns, curves: Sequence[SmoothCurve | None]) -> None:
    """Add the smooth curves, at equal steps from 0 to 1."""
    known = [curve for curve in curves if curve is not None]
    columns.add(
        "smooth_steps", smallest_unsigned([0 if c is None else c.accuracy.size for c in curves])
    )
    values = np.concatenate([np.zeros(0), *(curve.accuracy for curve in known)])
    columns.add("smooth_value", np.nan_to_num(np.round(values * 65534), nan=65535).astype("uint16"))
    columns.add("smooth_width", printed_alike([np.nan if c is None else c.width for c in curves]))


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
