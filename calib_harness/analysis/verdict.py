"""What a comparison found, in words that follow from its tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from calib_harness.analysis.multiplicity import SIGNIFICANT
from calib_harness.analysis.results import Comparison, better_is, settings_in
from calib_harness.core.loss import PRIMARY

_FEWEST_FAMILIES = 6  # with 5, the least p-value of flipped signs is 2 / 2**5
#: Metrics that say whether calibration got worse, the best test first.
_ABOUT_CALIBRATION = (PRIMARY, "calibration_loss_brier", "ece", "sce", "smece", "ece_rms", "ace")


@dataclass(frozen=True)
class Verdict:
    """The findings about one task, method and prompt setting.

    Attributes
    ----------
    task, method, metric : str
        What they are about, and the metric that was tested.
    settings : dict of str to object
        Prompt settings, and the two values compared where settings of one model are.
    n_pairs, n_worse, n_better : int
        Pairs, and how many of them are measurably worse or better.
    sentences : tuple of str
        The findings, each one sentence.
    """

    task: str
    method: str
    metric: str
    settings: dict[str, Any]
    n_pairs: int
    n_worse: int
    n_better: int
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentences as a paragraph that names its task."""
        return f"{self.task} ({self.method}): " + " ".join(self.sentences)


def verdict(found: Comparison, metric: str | None = None) -> list[Verdict]:
    """Say in words what the tests of a comparison found, task by task.

    Parameters
    ----------
    found : Comparison
        With `metric` among its changes: compare ``calibration_loss`` (`core.loss.PRIMARY`), for
        the primary test.
    metric : str, optional
        By default the first of calibration_loss, ece, sce … that was compared.

    Returns
    -------
    list of Verdict
        One per task × method × prompt settings; empty where no such metric was compared or
        there was no test (no resamples).

    Examples
    --------
    >>> import tempfile
    >>> from calib_harness.analysis import compare
    >>> from calib_harness.predictions import load_predictions
    >>> from calib_harness.predictions.samples import write_example_log
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_example_log(folder, model="m", task="toy", n=200)
    ...     write_example_log(folder, model="m-chat", task="toy", n=200, sharpness=3.0)
    ...     runs = load_predictions(folder, cache=False)
    >>> (found,) = verdict(compare(runs, base="m", aligned="m-chat"))
    >>> print(found.sentences[0])
    The pair is measurably worse calibrated (calibration_loss, p < .05).
    """
    changes = found.changes
    compared = set(changes.loc[changes["p_holm"].notna(), "metric"])
    if metric is None:
        metric = next((name for name in _ABOUT_CALIBRATION if name in compared), None)
    if metric is None or metric not in compared:
        return []
    of_metric = changes[changes["metric"] == metric]
    strata = [name for name in ("base", "aligned") if name in found.across_pairs.columns]
    keys = ["task", "method", *settings_in(of_metric), *strata]
    verdicts = []
    for key, group in of_metric.groupby(keys, sort=False, dropna=False):
        place = dict(zip(keys, key, strict=True))
        verdicts.append(_of_group(found, group, place, metric))
    return verdicts


def _of_group(
    found: Comparison, group: pd.DataFrame, place: dict[str, Any], metric: str
) -> Verdict:
    tested = group[group["p_holm"].notna()]
    worse, better = (tested[tested["clear"] & (tested["harm"] == sign)] for sign in (1, -1))
    sentences = [_counted(tested, len(worse), len(better), metric)]
    if len(worse) or len(better):
        sentences.append(_largest(found, worse if len(worse) else better, place, bool(len(worse))))
    across = _rows_at(found.across_pairs, place | {"metric": metric})
    if len(tested) > 1 and len(across):
        sentences += _on_average(across.iloc[0], metric)
    return Verdict(
        task=str(place["task"]),
        method=str(place["method"]),
        metric=metric,
        settings={name: place[name] for name in place if name not in ("task", "method")},
        n_pairs=len(tested),
        n_worse=len(worse),
        n_better=len(better),
        sentences=tuple(sentences),
    )


def _rows_at(frame: pd.DataFrame, place: dict[str, Any]) -> pd.DataFrame:
    """Return the rows with these values, where None stands for an unknown one."""
    for name, value in place.items():
        known = value is not None and value == value
        frame = frame[frame[name] == value] if known else frame[frame[name].isna()]
    return frame


def _quality(metric: str) -> str:
    return " calibrated" if metric in _ABOUT_CALIBRATION else ""


def _counted(tested: pd.DataFrame, n_worse: int, n_better: int, metric: str) -> str:
    n, n_tests = len(tested), int(tested["n_tests"].max())
    corrected = f"Holm p < .05 over {n_tests} tests" if n_tests > 1 else "p < .05"
    named = f"({metric}, {corrected})"
    if n == 1:
        if not n_worse + n_better:
            return (
                f"Whether the pair is worse or better{_quality(metric)} cannot be told "
                f"({metric}, p = {_p(tested['p_holm'].item())})."
            )
        word = "worse" if n_worse else "better"
        return f"The pair is measurably {word}{_quality(metric)} {named}."
    left = n - n_worse - n_better
    parts = [f"Of {n} pairs, {_number(n_worse)} measurably worse{_quality(metric)} {named}"]
    parts.append(f"{n_better or 'none'} better")
    if left:
        parts.append(f"and of {left} it cannot be told")
    return ", ".join(parts) + "."


def _number(n: int) -> str:
    return {0: "none is", 1: "1 is"}.get(n, f"{n} are")


def _largest(found: Comparison, rows: pd.DataFrame, place: dict[str, Any], for_worse: bool) -> str:
    row = rows.iloc[int(np.argmax(rows["excess_change"].abs()))]
    which = "worse" if for_worse else "better"
    names = f"{row['base']} → {row['aligned']}"
    if "base" in place:  # settings of one model
        names = str(row["family"])
    chance = " beyond chance" if pd.notna(row["base_null"]) else ""
    text = f"The largest change for the {which} is {row['excess_change']:+.3f}{chance} ({names}"
    parts = found.decomposition
    if len(parts):
        ids = {name: row[name] for name in ("family", "base", "aligned")}
        here = _rows_at(parts, place | ids)
        if len(here) == 1:
            over = float((here["aligned_over"] - here["aligned_under"]).iloc[0])
            text += f", {'over' if over > 0 else 'under'}confident by {abs(over):.3f}"
    return text + ")."


def _on_average(row: pd.Series, metric: str) -> list[str]:
    """Say what the random effects and the flipped signs of families say."""
    sign = -1 if better_is(metric) == "higher" else 1
    mean = f"{row['mean']:+.3f}"
    if pd.notna(row["low"]):
        mean += f" [{row['low']:.3f}, {row['high']:.3f}]"
    n_families = int(row["n_families"])
    if n_families < _FEWEST_FAMILIES:
        too_few = "one family is" if n_families == 1 else f"{n_families} families are"
        return [
            f"The mean change is {mean}; {too_few} too few to test it "
            f"over families (p < .05 takes {_FEWEST_FAMILIES})."
        ]
    word = "worse" if row["mean"] * sign > 0 else "better"
    p_value = f"p = {_p(row['p_holm'])}, signs of whole families flipped"
    if row["p_holm"] >= SIGNIFICANT:
        first = f"No change can be shown on average over {n_families} families: {mean} ({p_value})."
    elif row["low"] <= 0 <= row["high"]:
        first = (
            f"Over {n_families} families the change is for the {word} more often than chance "
            f"would have it ({p_value}), by amounts so different that the mean may be 0: {mean}."
        )
    else:
        first = f"On average over {n_families} families it is {word}: {mean} ({p_value})."
    sentences = [first]
    if pd.notna(row["next_low"]):
        ends = f"[{row['next_low']:.3f}, {row['next_high']:.3f}]"
        either = row["next_low"] <= 0 <= row["next_high"]
        what = "may go either way" if either else "goes the same way"
        sentences.append(f"A pair of a further family {what}: 95 % lie in {ends}.")
    return sentences


def _p(value: float) -> str:
    return f"{value:.3f}".lstrip("0") if value >= 0.001 else "< .001"


def verdict_text(verdicts: Sequence[Verdict]) -> str:
    """Return verdicts as paragraphs."""
    return "\n\n".join(each.text for each in verdicts)
