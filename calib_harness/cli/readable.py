"""Frames of metrics and comparisons as people read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from calib_harness.analysis.multiplicity import SIGNIFICANT
from calib_harness.analysis.results import is_harmed
from calib_harness.cli.render import number, p_value, with_error
from calib_harness.predictions.gold import NOT_VERIFIED
from calib_harness.predictions.table import DEFAULT_REVISIONS


def metrics_for_reading(wide: pd.DataFrame) -> pd.DataFrame:
    """Format a wide metrics frame: one cell per metric, columns that say nothing left out."""
    named = ~wide["revision"].isin([r for r in DEFAULT_REVISIONS if r]) & wide["revision"].notna()
    model = wide["model"].where(~named, wide["model"] + "@" + wide["revision"].astype(str))
    shown = pd.DataFrame({"model": model, "task": wide["task"], "method": wide["method"]})
    for column, title in (
        ("n_shot", "shots"),
        ("chat_template", "chat template"),
        ("settings", "settings"),
        ("date", "date"),
    ):
        varies = wide.groupby(["model", "revision", "task", "method"], dropna=False)[column]
        if column == "n_shot" or (varies.nunique(dropna=False) > 1).any():
            shown[title] = [cell_text(value) for value in wide[column]]
    shown["n"] = wide["n"].astype(str)
    if wide["n_unusable"].any():
        shown["unusable"] = wide["n_unusable"].astype(str)
    for column, title in (
        ("n_tied", "tied"),
        ("n_distinct", "distinct prompts"),
        ("n_truncated", "truncated"),
        ("n_subjects", "subjects resampled"),
    ):
        usual = wide["n"] if column == "n_distinct" else 0
        if (wide[column].notna() & (wide[column] != usual)).any():
            shown[title] = [cell_text(value) for value in wide[column]]
    if (wide["gold"] == NOT_VERIFIED).any():
        shown["gold"] = wide["gold"]
    shown["M"] = wide["M"].astype(str)
    names = [c for c in wide.columns if f"{c}_stderr" in wide.columns]
    for name in names:
        pairs = zip(wide[name], wide[f"{name}_stderr"], strict=True)
        shown[name] = [with_error(value, stderr) for value, stderr in pairs]
        if name == "ece_null":  # a metric of its own
            shown["p ece"] = _p_calibrated(wide, "ece")
        elif name != "ece" and f"{name}_p_calibrated" in wide.columns:
            shown[f"{name}_null"] = [number(value) for value in wide[f"{name}_null"]]
            shown[f"p {name}"] = _p_calibrated(wide, name)
    return shown


def _p_calibrated(wide: pd.DataFrame, name: str) -> list[str]:
    """Text of how often a calibrated model shows as much, and whether a large p tells anything."""
    found = zip(wide[f"{name}_p_calibrated"], wide[f"{name}_too_few"], strict=True)
    return [
        f"{p_value(p)} (n too small)" if few is True and p >= SIGNIFICANT else p_value(p)
        for p, few in found
    ]


def for_reading(frame: pd.DataFrame) -> pd.DataFrame:
    """Format a comparison frame: change with its error, three decimals, empty for missing."""
    shown = frame.copy()
    if {"change", "stderr"} <= set(frame.columns):
        changes = zip(frame["change"], frame["stderr"], strict=True)
        shown["change"] = [with_error(change, stderr) for change, stderr in changes]
        shown = shown.drop(columns="stderr")
    if {"base_null", "aligned_null"} <= set(frame.columns):
        for side in ("base", "aligned"):
            null = shown.pop(f"{side}_null")
            if null.notna().any():
                shown.insert(list(shown.columns).index(f"{side}_value") + 1, f"{side}_null", null)
    if "chat_template" in shown.columns:  # last among the numbers, first where it tells rows apart
        chat = shown.pop("chat_template")
        if chat.nunique(dropna=False) > 1:
            shown.insert(list(shown.columns).index("n_shot") + 1, "chat_template", chat)
    if "settings" in shown.columns and shown["settings"].nunique(dropna=False) == 1:
        shown = shown.drop(columns="settings")
    if "gold" in shown.columns and not (shown["gold"] == NOT_VERIFIED).any():
        shown = shown.drop(columns="gold")
    # Counts of left-out questions appear where there are any.
    for column in ("n_base_only", "n_aligned_only", "n_unusable", "n_changed", "n_dropped"):
        if column in shown.columns and not frame[column].any():
            shown = shown.drop(columns=column)
    for column in shown.columns:
        values = shown[column]
        if column in ("p_value", "p_holm"):
            shown[column] = [p_value(value) for value in values]
        elif column == "clear":
            shown[column] = ["yes" if value else "" for value in values]
        elif column in ("rank", "n_shot", "position", "harm", "n_tests"):
            shown[column] = [cell_text(value) for value in values]
        elif values.dtype.kind == "f":
            shown[column] = [number(value) for value in values]
        else:
            shown[column] = [cell_text(value) for value in values]
    return shown


def harm_first(changes: pd.DataFrame) -> pd.DataFrame:
    """Order changes for a reader: clear harm first, the largest on top; improvements last."""
    harm = pd.Series(0.0, index=changes.index)
    for metric, group in changes.groupby("metric", sort=False):
        if "harm" in group:
            sign = group["harm"]
        else:
            sign = is_harmed(group["base_value"], group["aligned_value"], str(metric))
        size = (group["aligned_value"].abs() - group["base_value"].abs()).abs()
        harm.loc[group.index] = (sign * size).fillna(0.0)
    certain = changes["clear"].to_numpy(dtype=float) if "clear" in changes else 0.0
    order = pd.DataFrame({"clear": certain * np.sign(harm), "harm": harm})
    return changes.loc[order.sort_values(["clear", "harm"], ascending=False, kind="stable").index]


def cell_text(value: Any) -> str:
    """Text of a value; whole numbers without a point."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def recalibration_for_reading(frame: pd.DataFrame) -> pd.DataFrame:
    """Format a recalibration frame: what changes as before → after."""
    shown = frame[["model", "task", "method", "recalibration", "fitted_on"]].copy()
    shown = shown.rename(columns={"fitted_on": "fitted on"})
    shown["n"] = frame["n"].astype(str)
    for name in ("acc", "nll", "ece", "ece_excess"):
        both = zip(frame[name], frame[f"{name}_after"], strict=True)
        shown[name.replace("_", " ")] = [f"{number(b)} → {number(a)}" for b, a in both]
    shown["Brier saved"] = [number(value) for value in frame["saved"]]
    ends = zip(frame["low"], frame["high"], strict=True)
    shown["95 %"] = [f"{number(low)} to {number(high)}" for low, high in ends]
    shown["p"] = [p_value(value) for value in frame["p_value"]]
    shown["verdict"] = frame["verdict"]
    return shown
