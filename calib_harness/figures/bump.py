"""Ranks across tasks: whether the models keep their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from calib_harness.analysis import rank_agreement
from calib_harness.analysis.results import settings_in
from calib_harness.core.checks import FloatArray
from calib_harness.core.metrics import METRICS
from calib_harness.core.ranks import min_ranks
from calib_harness.errors import UserError
from calib_harness.figures.display import DataDisplay
from calib_harness.figures.selection import only_value, short_labels
from calib_harness.figures.style import (
    GREY,
    PAGE,
    axes_for,
    letters_beside,
    look,
    metric_label,
    plain,
    signed,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Self

_ROW = 0.17  # inches


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of models (or of pairs) on each task, and how well the tasks agree.

    Attributes
    ----------
    metric, method, value : str
        What is ranked; `value` is the column of the frame.
    first : str
        What rank 1 means: ``"largest"`` or ``"best"``.
    tasks : tuple of str
    labels, short_labels : tuple of str
        What is ranked, by mean rank, and what is drawn of it.
    ranks : ndarray, shape (labels, tasks)
        Ties share the smaller rank.
    kendalls_w, mean_tau, p_value : float
        See :func:`calib_harness.rank_agreement`.
    n_dropped : int
        Units left out because some task has no value of them.
    """

    metric: str
    method: str
    value: str
    first: str
    tasks: tuple[str, ...]
    labels: tuple[str, ...]
    short_labels: tuple[str, ...]
    ranks: FloatArray
    kendalls_w: float
    mean_tau: float
    p_value: float
    n_dropped: int


def ranks(
    frame: pd.DataFrame,
    *,
    metric: str,
    method: str | None = None,
    unit: str | Sequence[str] = ("base", "aligned"),
    value: str = "excess_change",
    seed: int = 0,
) -> Ranks:
    """Rank units within each task and measure the agreement of the tasks.

    Parameters
    ----------
    frame : DataFrame
        One row per unit × task × method × metric: ``Comparison.changes``, a metrics frame (with
        ``unit="model", value="value"``) or published changes.
    metric : str
    method : str, optional
        Needed if there are several.
    unit : str or sequence of str
        Columns that name what is ranked.
    value : str
        Column that ranks: 1 is the largest, but of ``"value"`` (the metric itself) the best. By
        default the change of the excess over the calibrated null; the paper ranks by
        ``"change_ratio"``, of plug-in errors whose biases differ.
    seed : int
        Of the permutation test.

    Returns
    -------
    Ranks

    Raises
    ------
    UserError
        If there is no such metric or method, several methods and none was named, or fewer than
        two tasks or two units with a value in every task.

    Examples
    --------
    >>> frame = pd.DataFrame({"method": "choice", "metric": "ece", "model": ["a", "b", "c"] * 2,
    ...     "task": ["t"] * 3 + ["u"] * 3, "excess_change": [.1, .2, .3, .2, .3, .5]})
    >>> found = ranks(frame, metric="ece", unit="model")
    >>> found.labels, found.ranks.tolist(), found.kendalls_w
    (('c', 'b', 'a'), [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], 1.0)
    """
    metric = only_value(frame["metric"], "metric", metric)
    chosen = frame[frame["metric"] == metric]
    method = only_value(chosen["method"], "method", method)
    chosen = chosen[chosen["method"] == method]
    units = [unit] if isinstance(unit, str) else list(unit)
    chosen = _with_settings_that_matter(chosen, units)
    by = ["task", *settings_in(chosen)]
    table = chosen.pivot_table(index=by, columns=units, values=value, sort=False)
    complete = table.dropna(axis=1)
    if len(table) < 2 or complete.shape[1] < 2:
        raise UserError(
            "ranks need at least two tasks, and two models (or pairs) with a value in each; "
            f"{metric}, {method} has {len(table)} task(s) "
            f"({', '.join(map(str, dict.fromkeys(chosen['task'])))}) and {complete.shape[1]} of "
            f"{table.shape[1]} complete."
        )
    best = value == "value"
    numbers = complete.to_numpy(dtype=float)
    order = np.stack([min_ranks(_ascending(row, metric, best)) for row in numbers], axis=1)
    agreement = rank_agreement(chosen, unit=units, value=value, seed=seed).iloc[0]
    keys = [tuple(map(str, key)) for key in complete.columns.to_frame().to_numpy()]
    short = short_labels(keys)
    by_mean = np.argsort(order.mean(axis=1), kind="stable")
    return Ranks(
        metric=metric,
        method=method,
        value=value,
        first="best" if best else "largest",
        tasks=tuple(_task_names(complete.index)),
        labels=tuple(" → ".join(keys[i]) for i in by_mean),
        short_labels=tuple(short[i] for i in by_mean),
        ranks=order[by_mean],
        kendalls_w=float(agreement["kendalls_w"]),
        mean_tau=float(agreement["mean_tau"]),
        p_value=float(agreement["p_value"]),
        n_dropped=int(table.shape[1] - complete.shape[1]),
    )


def _with_settings_that_matter(rows: pd.DataFrame, units: list[str]) -> pd.DataFrame:
    """Leave out prompt settings but those under which some unit has several values of a task.

    A chat model with its template and its base model without are ranked together.
    """
    by_task = rows.groupby([*units, "task"], dropna=False)
    given = settings_in(rows)
    idle = [name for name in given if (by_task[name].nunique(dropna=False) <= 1).all()]
    rows = rows.drop(columns=idle)
    # Unknown settings are settings too: pandas' tables would leave them out.
    kept = settings_in(rows)
    texts = {name: rows[name].astype(object) for name in kept}
    return rows.assign(
        **{name: known.where(known.notna(), "unknown") for name, known in texts.items()}
    )


def _ascending(values: FloatArray, metric: str, best: bool) -> FloatArray:
    """Return numbers of which the smallest gets rank 1."""
    if not best:
        return -values
    direction = METRICS[metric].direction
    return {"lower": values, "higher": -values, "zero": np.abs(values)}[direction]


def _task_names(index: pd.Index) -> list[str]:
    """Name each row by its task and its prompt settings."""
    return [
        ", ".join(_setting_name(str(name), value) for name, value in row.items())
        for row in index.to_frame().to_dict("records")
    ]


def _setting_name(column: str, value: Any) -> str:
    if column == "chat_template":
        return {True: "chat", False: "no chat"}.get(value, "chat unknown")
    if column == "n_shot":
        return "shots unknown" if value == "unknown" else f"{value:.0f}-shot"
    return str(value)


class RanksDisplay(DataDisplay[Ranks]):
    """Bump chart: one line per model (or pair) over the tasks, rank 1 at the top.

    Parameters
    ----------
    data : Ranks

    Attributes
    ----------
    ax_, figure_
        What `plot` has drawn into.

    Examples
    --------
    See ``examples/figures.py``.
    """

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        metric: str,
        method: str | None = None,
        unit: str | Sequence[str] = ("base", "aligned"),
        value: str = "excess_change",
        seed: int = 0,
    ) -> Self:
        """Compute the chart of a frame; parameters and errors as for `ranks`."""
        return cls(ranks(frame, metric=metric, method=method, unit=unit, value=value, seed=seed))

    def size(self, width: float = PAGE) -> tuple[float, float]:
        """Return width and height in inches at which no label touches the next."""
        return width, max(2.2, 1.85 + _ROW * len(self.data.labels))

    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Self:
        """Draw into `ax`, or into a new figure that is as high as it needs to be."""
        self.figure_, ax = axes_for(ax, *self.size())
        self.ax_, data = ax, self.data
        at = np.arange(len(data.tasks))
        for number, (label, row) in enumerate(zip(data.short_labels, data.ranks, strict=True)):
            style = look(number)
            ax.plot(
                at,
                row,
                label=plain(label),
                color=style.colour,
                linestyle=style.line,
                marker=style.marker,
                linewidth=1.1,
                markersize=4,
                clip_on=False,
            )
        self._name_lines()
        count = len(data.labels)
        tasks = [
            task.replace("_calib_choice", "").replace("_calib_cloze", "") for task in data.tasks
        ]
        ax.set_xticks(
            at,
            [plain(task, 24) for task in tasks],
            rotation=45,
            ha="right",
            rotation_mode="anchor",
        )
        ax.set(xlim=(-0.1, at[-1] + 0.1), ylim=(count + 0.5, 0.5))
        step = max(1, round(count / 15))
        ax.set_yticks(np.arange(1, count + 1, step))
        ax.set_ylabel("Rank")
        ax.set_title(self.heading if title is None else plain(title, 120), loc="left")
        return self

    @property
    def heading(self) -> str:
        """What is ranked, and the agreement of the tasks."""
        data = self.data
        ranked = "" if data.value == "value" else f"{data.value.capitalize().replace('_', ' ')} of "
        dropped = f"; {data.n_dropped} incomplete left out" if data.n_dropped else ""
        return (
            f"{ranked}{metric_label(data.metric)}, {data.method} (rank 1 = {data.first})\n"
            f"Kendall's W = {data.kendalls_w:.2f} (p = {data.p_value:.2g})\n"
            f"Mean τ = {signed(data.mean_tau)} over {len(data.tasks)} tasks{dropped}"
        )

    def _name_lines(self) -> None:
        """Name each line at its right end; ties share a rank, so names go to the free ones."""
        from matplotlib.transforms import ScaledTranslation

        data = self.data
        last = len(data.tasks) - 1
        slots = np.empty(len(data.labels))
        slots[np.argsort(data.ranks[:, -1], kind="stable")] = np.arange(1, len(data.labels) + 1)
        most = letters_beside(self.ax_, 0.5, "small")
        beside = self.ax_.transData + ScaledTranslation(0.2, 0, self.figure_.dpi_scale_trans)
        for label, rank, slot in zip(data.short_labels, data.ranks[:, -1], slots, strict=True):
            self.ax_.annotate(
                plain(label, most),
                (last, rank),
                (last, slot),
                textcoords=beside,
                annotation_clip=False,
                va="center",
                fontsize="small",
                arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.4, "shrinkB": 3},
            )
