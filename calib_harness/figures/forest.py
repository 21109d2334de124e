"""Forest plots: the change of each pair of models, with its interval, by family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from calib_harness.analysis.results import is_clear, is_harmed
from calib_harness.core.checks import FloatArray
from calib_harness.figures.display import DataDisplay
from calib_harness.figures.selection import only_value, short_labels
from calib_harness.figures.style import (
    BLUE,
    GREY,
    PAGE,
    VERMILION,
    axes_for,
    legend_above,
    letters_beside,
    metric_label,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Self

_ROW = 0.17  # inches
# What happened, how it is drawn: worse, better, and changes whose interval does not tell.
_NEITHER = {"color": GREY, "marker": "D"}
_KINDS: dict[str, dict[str, Any]] = {
    "worse": {"color": VERMILION, "marker": "s", "markerfacecolor": VERMILION},
    "better": {"color": BLUE, "marker": "o", "markerfacecolor": BLUE},
    "interval contains 0": {**_NEITHER, "markerfacecolor": "white"},
    "past 0, maybe as far": {**_NEITHER, "markerfacecolor": GREY},
}


@dataclass(frozen=True, eq=False)
class Forest:
    """Changes of one metric (aligned minus base), families together, one element per pair.

    Attributes
    ----------
    metric, task, method : str
    family, label, short_label : tuple of str
        The pair's family, ``base → aligned``, and what is drawn of it.
    change, low, high : ndarray, shape (pairs,)
        The change and its 95 % interval from the paired bootstrap.
    kind : tuple of str
        ``"worse"``, ``"better"``, ``"interval contains 0"``, or, of metrics whose best value is
        zero, ``"past 0, maybe as far"``: the interval does not tell which side is nearer to 0.
    """

    metric: str
    task: str
    method: str
    family: tuple[str, ...]
    label: tuple[str, ...]
    short_label: tuple[str, ...]
    change: FloatArray
    low: FloatArray
    high: FloatArray
    kind: tuple[str, ...]


def forest(
    changes: pd.DataFrame,
    *,
    metric: str,
    task: str | None = None,
    method: str | None = None,
) -> Forest:
    """Take the changes of one metric out of a comparison.

    Parameters
    ----------
    changes : DataFrame
        ``Comparison.changes``.
    metric : str
    task, method : str, optional
        Needed if there are several.

    Returns
    -------
    Forest
        Families in the order in which they appear; within one, the largest change first.

    Raises
    ------
    UserError
        If there is no such metric, task or method, or several and none was named.

    Examples
    --------
    >>> changes = pd.DataFrame({"family": ["f", "f"], "base": ["a", "b"], "aligned": ["A", "B"],
    ...     "task": "t", "method": "choice", "metric": "ece", "base_value": [.1, .2],
    ...     "aligned_value": [.1, .3], "change": [0.0, .1], "low": [-.1, .05], "high": [.1, .2]})
    >>> found = forest(changes, metric="ece")
    >>> found.label, found.kind
    (('b → B', 'a → A'), ('worse', 'interval contains 0'))
    """
    chosen = changes
    values = {}
    for name, wanted in (("metric", metric), ("task", task), ("method", method)):
        values[name] = only_value(chosen[name], name, wanted)
        chosen = chosen[chosen[name] == values[name]]
    order = {family: i for i, family in enumerate(dict.fromkeys(chosen["family"]))}
    chosen = (
        chosen.assign(_family=chosen["family"].map(order))
        .sort_values(["_family", "change"], ascending=[True, False], kind="stable")
        .reset_index(drop=True)
    )
    harm = is_harmed(chosen["base_value"], chosen["aligned_value"], values["metric"])
    clear = is_clear(chosen["base_value"], chosen["low"], chosen["high"], values["metric"])
    kinds = np.select(
        [~((chosen["low"] > 0) | (chosen["high"] < 0)), ~clear, harm > 0],
        ["interval contains 0", "past 0, maybe as far", "worse"],
        "better",
    )
    shots = chosen["n_shot"] if "n_shot" in chosen and chosen["n_shot"].nunique() > 1 else None
    ends = [""] * len(chosen) if shots is None else [f", {n:.0f}-shot" for n in shots]
    pairs = list(zip(chosen["base"].map(str), chosen["aligned"].map(str), strict=True))
    return Forest(
        **values,
        family=tuple(chosen["family"].map(str)),
        label=tuple(" → ".join(pair) + end for pair, end in zip(pairs, ends, strict=True)),
        short_label=tuple(
            label + end for label, end in zip(short_labels(pairs), ends, strict=True)
        ),
        change=chosen["change"].to_numpy(dtype=float),
        low=chosen["low"].to_numpy(dtype=float),
        high=chosen["high"].to_numpy(dtype=float),
        kind=tuple(kinds.tolist()),
    )


class ForestDisplay(DataDisplay[Forest]):
    """Forest plot: one row per pair, families apart, worse and better told by colour and mark.

    Parameters
    ----------
    data : Forest

    Attributes
    ----------
    ax_, figure_
        What `plot` has drawn into.

    Examples
    --------
    See ``examples/figures.py``.
    """

    @classmethod
    def from_changes(
        cls,
        changes: pd.DataFrame,
        *,
        metric: str,
        task: str | None = None,
        method: str | None = None,
    ) -> Self:
        """Compute the plot of a comparison; parameters and errors as for `forest`."""
        return cls(forest(changes, metric=metric, task=task, method=method))

    def size(self, width: float = PAGE * 0.75) -> tuple[float, float]:
        """Return width and height in inches at which no label touches the next."""
        return width, 1.5 + _ROW * self._rows()[-1]

    def _rows(self) -> list[float]:
        """Return the place of each pair from the top; families stand half a row apart."""
        rows, last = [], None
        at = 0.0
        for family in self.data.family:
            at += 1.0 if family == last or last is None else 1.6
            rows.append(at)
            last = family
        return rows

    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Self:
        """Draw into `ax`, or into a new figure that is as high as it needs to be."""
        self.figure_, ax = axes_for(ax, *self.size())
        self.ax_, data, rows = ax, self.data, np.array(self._rows())
        ax.axvline(0, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        for name, style in _KINDS.items():
            here = np.array([kind == name for kind in data.kind])
            if here.any():
                change = data.change[here]
                ax.errorbar(
                    change,
                    rows[here],
                    # As lists: numpy below 2.4 warns when matplotlib takes an array of one number.
                    xerr=[(change - data.low[here]).tolist(), (data.high[here] - change).tolist()],
                    label=name,
                    linestyle="none",
                    markersize=4,
                    elinewidth=0.9,
                    capsize=2,
                    capthick=0.9,
                    **style,
                )
        most = letters_beside(ax, 0.5, "ytick.labelsize")
        ax.set_yticks(rows, [plain(label, most) for label in data.short_label])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(rows[-1] + 0.8, 0.2)
        ax.set_xlabel(f"Change of {metric_label(data.metric)}, aligned − base\n(95 % intervals)")
        self._name_families(rows)
        legend_above(ax, f"{data.task}\n{data.method}" if title is None else title)
        return self

    def _name_families(self, rows: FloatArray) -> None:
        """Write each family at the right edge, beside its pairs, with a line before the next."""
        most = letters_beside(self.ax_, 0.25, "small")
        for family in dict.fromkeys(self.data.family):
            own = rows[[name == family for name in self.data.family]]
            self.ax_.annotate(
                plain(family, most),
                (1.01, own.mean()),
                xycoords=self.ax_.get_yaxis_transform(),
                va="center",
                fontsize="small",
                color=GREY,
            )
            if own[0] > rows[0]:
                self.ax_.axhline(own[0] - 0.8, color=GREY, linewidth=0.3)
