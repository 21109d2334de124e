"""Reliability without bins, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from calib_harness.analysis.isotonic import IsotonicCurve, isotonic_curve
from calib_harness.core.smece import SmoothCurve, smooth_curve
from calib_harness.figures.display import CurvesDisplay
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


@dataclass(frozen=True, eq=False)
class Unbinned:
    """Reliability without bins: the best curve that never falls, and a smooth one."""

    isotonic: IsotonicCurve
    smooth: SmoothCurve


def unbinned(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    *,
    n_resamples: int = _SIMULATIONS,
    seed: int = 0,
) -> Unbinned:
    """Return `isotonic_curve` and `smooth_curve` of the same answers; arguments as there."""
    return Unbinned(
        isotonic_curve(confidence, correct, n_resamples=n_resamples, seed=seed),
        smooth_curve(confidence, correct),
    )


class UnbinnedDisplay(CurvesDisplay[Unbinned]):
    """Reliability curves without bins of one or several runs, overlaid.

    The isotonic curve, with its band, and thinner the smooth curve behind the SmoothECE. The
    legend has the parts of the Brier score of (confidence, correct), miscalibration,
    discrimination and uncertainty, and the width of the smooth curve, which is the SmoothECE.

    Parameters
    ----------
    curves : mapping of str to Unbinned
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
    >>> curves = unbinned([0.2, 0.4, 0.6, 0.9], [0, 1, 0, 1], n_resamples=0)
    >>> display = UnbinnedDisplay({"model": curves}).plot(Figure().subplots())
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
        return cls._of_runs(
            runs,
            labels,
            lambda run: unbinned(
                run.confidence[run.usable],
                run.correct[run.usable],
                n_resamples=n_resamples,
                seed=seed,
            ),
        )

    def size(self, width: float = COLUMN) -> tuple[float, float]:
        """Return width and height in inches at which the legend leaves room for the curves."""
        return width, height_with_legend(0.8 * width, len(self.curves))

    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Self:
        """Draw into `ax`, or into a new figure."""
        self.figure_, self.ax_ = axes_for(ax, *self.size())
        self.ax_.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        for number, (label, curves) in enumerate(self.curves.items()):
            style = look(number)
            curve, smooth = curves.isotonic, curves.smooth
            if not np.isnan(curve.low).any():
                ends = curve.low, curve.high
                self.ax_.fill_between(
                    curve.confidence, *ends, color=style.colour, alpha=0.18, linewidth=0, zorder=2
                )
            self.ax_.plot(
                curve.confidence,
                curve.accuracy,
                label=f"{plain(label)} (n = {curve.n})\n{_parts(curves)}",
                color=style.colour,
                linestyle=style.line,
                linewidth=1.2,
                zorder=3,
            )
            self.ax_.plot(
                smooth.confidence, smooth.accuracy, color=style.colour, linewidth=0.6, zorder=3
            )
        self.ax_.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="Confidence", ylabel="Accuracy")
        legend_above(self.ax_, self.title if title is None else title)
        return self


def _parts(curves: Unbinned) -> str:
    curve = curves.isotonic
    return (
        f"MCB {curve.miscalibration:.3f}, DSC {curve.discrimination:.3f}, "
        f"UNC {curve.uncertainty:.3f}, smECE {curves.smooth.width:.3f}"
    )
