"""Reliability without bins, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from calib_harness.analysis.isotonic import IsotonicCurve, isotonic_curve
from calib_harness.figures.display import CurvesDisplay
from calib_harness.figures.selection import common_parts, run_labels
from calib_harness.figures.style import (
    COLUMN,
    GREY,
    axes_for,
    height_with_legend,
    legend_above,
    look,
    plain,
)
from calib_harness.predictions.table import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Self

_SIMULATIONS = 200


class UnbinnedDisplay(CurvesDisplay[IsotonicCurve]):
    """Isotonic reliability curves of one or several runs, overlaid, each with its band.

    The legend has the parts of the Brier score of (confidence, correct): miscalibration,
    discrimination and uncertainty.

    Parameters
    ----------
    curves : mapping of str to IsotonicCurve
        By label, in the order in which they are drawn.
    title : str
        Heading of the legend.

    Attributes
    ----------
    ax_, figure_
        What `plot` has drawn into.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> curve = isotonic_curve([0.2, 0.4, 0.6, 0.9], [0, 1, 0, 1], n_resamples=0)
    >>> display = UnbinnedDisplay({"model": curve}).plot(Figure().subplots())
    >>> display.ax_.lines[1].get_ydata().tolist()
    [0.0, 0.5, 0.5, 1.0]
    """

    @classmethod
    def from_predictions(
        cls,
        *runs: Predictions,
        labels: Sequence[str] | None = None,
        n_resamples: int = _SIMULATIONS,
        seed: int = 0,
    ) -> Self:
        """Compute the curves of runs, from the questions of each that can be used.

        Parameters
        ----------
        *runs : Predictions
        labels : sequence of str, optional
            One per run; by default the models' names.
        n_resamples, seed
            As for `isotonic_curve`.
        """
        curves = {
            name: isotonic_curve(
                run.confidence[run.usable],
                run.correct[run.usable],
                n_resamples=n_resamples,
                seed=seed,
            )
            for name, run in zip(run_labels(runs, labels), runs, strict=True)
        }
        return cls(curves, title=", ".join(common_parts(runs)))

    def size(self, width: float = COLUMN) -> tuple[float, float]:
        """Return width and height in inches at which the legend leaves room for the curves."""
        return width, height_with_legend(0.8 * width, len(self.curves))

    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Self:
        """Draw into `ax`, or into a new figure."""
        self.figure_, self.ax_ = axes_for(ax, *self.size())
        self.ax_.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        for number, (label, curve) in enumerate(self.curves.items()):
            style = look(number)
            if not np.isnan(curve.low).any():
                ends = curve.low, curve.high
                self.ax_.fill_between(
                    curve.confidence, *ends, color=style.colour, alpha=0.18, linewidth=0, zorder=2
                )
            self.ax_.plot(
                curve.confidence,
                curve.accuracy,
                label=f"{plain(label)} (n = {curve.n})\n{_parts(curve)}",
                color=style.colour,
                linestyle=style.line,
                linewidth=1.2,
                zorder=3,
            )
        self.ax_.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="Confidence", ylabel="Accuracy")
        legend_above(self.ax_, self.title if title is None else title)
        return self


def _parts(curve: IsotonicCurve) -> str:
    return (
        f"MCB {curve.miscalibration:.3f}, DSC {curve.discrimination:.3f}, "
        f"UNC {curve.uncertainty:.3f}"
    )
