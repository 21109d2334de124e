"""Reliability diagrams, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from calib_harness.analysis.reliability import Reliability, reliability, reliability_at
from calib_harness.core.binning import DEFAULT_N_BINS
from calib_harness.core.checks import check_rows
from calib_harness.core.options import DEFAULT_N_RESAMPLES
from calib_harness.figures.display import CurvesDisplay
from calib_harness.figures.selection import common_parts, run_labels
from calib_harness.figures.style import (
    COLUMN,
    GREY,
    Look,
    axes_for,
    height_with_legend,
    interval,
    legend_above,
    look,
    plain,
    split_below,
    whole_numbers,
)
from calib_harness.predictions.table import Predictions

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from typing_extensions import Self

_PALE: dict[str, Any] = {"alpha": 0.25, "linewidth": 5}
_FEW = 5  # questions of a bin below which its point is hollow
_COUNT_WIDTH = 0.07  # inches that a count needs beside the next
_MOST_WITH_BARS = 3  # bars of more curves would hide each other


class ReliabilityDisplay(CurvesDisplay[Reliability]):
    """Reliability diagram of one or several runs, overlaid.

    Above: the accuracy of each bin at its mean confidence, with its exact interval; the larger a
    point, the more questions, and below five it is hollow; the wide
    pale bars say where a calibrated model's accuracy would lie; the legend has the ECE, its
    interval and the ECE of a calibrated model (null). Of more than three curves neither bars are
    drawn. Below: entries per bin, written out where there is room.

    Parameters
    ----------
    curves : mapping of str to Reliability
        By label, in the order in which they are drawn.
    title : str
        Heading of the legend.

    Attributes
    ----------
    ax_, histogram_ax_, figure_
        What `plot` has drawn into.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> bins = reliability([[0.6, 0.4], [0.8, 0.2]], [0, 1], n_bins=2)
    >>> display = ReliabilityDisplay({"model": bins}).plot(Figure().subplots())
    >>> [int(patch.get_height()) for patch in display.histogram_ax_.patches]
    [2]
    """

    histogram_ax_: Axes

    @classmethod
    def from_predictions(
        cls,
        *runs: Predictions,
        labels: Sequence[str] | None = None,
        position: int | None = None,
        n_bins: int = DEFAULT_N_BINS,
        binning: str = "uniform",
        n_resamples: int = DEFAULT_N_RESAMPLES,
        seed: int = 0,
    ) -> Self:
        """Compute the diagram of runs, from the questions of each that can be used.

        Parameters
        ----------
        *runs : Predictions
        labels : sequence of str, optional
            One per run; by default the models' names.
        position : int, optional
            A choice position, whose probabilities are then binned instead of the confidence.
        n_bins, binning, n_resamples, seed
            As for `reliability`.

        Raises
        ------
        ValueError
            If an option is wrong, or a run has no usable question (or no such position).
        """
        options: dict[str, Any] = {"n_bins": n_bins, "binning": binning}
        options |= {"n_resamples": n_resamples, "seed": seed}
        curves = {}
        for name, run in zip(run_labels(runs, labels), runs, strict=True):
            probs, gold = run.probs[run.usable], run.gold[run.usable]
            if position is None:
                curves[name] = reliability(probs, gold, **options)
            else:
                curves[name] = reliability_at(*check_rows(probs, gold), position, options)
        bins = "bins of equal mass" if binning == "equal_mass" else f"{binning} bins"
        where = f"position {position + 1}, " if position is not None else ""
        return cls(curves, title=f"{', '.join(common_parts(runs))}\n{where}{n_bins} {bins}")

    def size(self, width: float = COLUMN) -> tuple[float, float]:
        """Return width and height in inches at which the legend leaves room for the curves."""
        return width, height_with_legend(0.9 * width, len(self.curves) + 0.5 * self._with_bars)

    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Self:
        """Draw into `ax`, whose lower part becomes the histogram, or into a new figure."""
        self.figure_, ax = axes_for(ax, *self.size())
        self.ax_, self.histogram_ax_ = split_below(ax)
        self.ax_.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        for number, (label, curve) in enumerate(self.curves.items()):
            self._draw_curve(curve, label, look(number))
            self._draw_counts(curve, number)
        self._finish(self.title if title is None else title)
        return self

    @property
    def _with_bars(self) -> bool:
        return len(self.curves) <= _MOST_WITH_BARS

    def _draw_curve(self, curve: Reliability, label: str, style: Look) -> None:
        bars = None
        if self._with_bars:
            ends = curve.null_low, curve.null_high
            self.ax_.vlines(curve.confidence, *ends, colors=style.colour, zorder=2, **_PALE)
            bars = [curve.accuracy - curve.accuracy_low, curve.accuracy_high - curve.accuracy]
        self.ax_.errorbar(
            curve.confidence,
            curve.accuracy,
            yerr=bars,
            label=_legend(label, curve),
            color=style.colour,
            marker=style.marker,
            markevery=[],  # for the legend alone: points are drawn below
            linestyle=style.line,
            markersize=3.5,
            linewidth=0.8,
            elinewidth=0.7,
            capsize=1.8,
            capthick=0.7,
            zorder=3,
            clip_on=False,
        )
        few = curve.n < _FEW
        self.ax_.scatter(
            curve.confidence,
            curve.accuracy,
            s=3 + 27 * curve.n / curve.n.max(),
            marker=style.marker,
            facecolors=np.where(few, "white", style.colour),
            edgecolors=style.colour,
            linewidths=0.8,
            zorder=4,
            clip_on=False,
        )

    def _draw_counts(self, curve: Reliability, number: int) -> None:
        """Draw the histogram of confidence; several runs share the width of a bin."""
        style, width = look(number), 1 / curve.n_bins / len(self.curves)
        full = np.flatnonzero(curve.histogram)
        bars = self.histogram_ax_.bar(
            full / curve.n_bins + number * width,
            curve.histogram[full],
            width,
            align="edge",
            color=style.colour,
            alpha=0.75,
            edgecolor="white",
            linewidth=0.3,
            hatch=style.hatch,
        )
        room = self.ax_.get_window_extent().width / self.figure_.dpi  # inches
        if curve.n_bins * len(self.curves) * _COUNT_WIDTH <= room:
            self.histogram_ax_.bar_label(
                bars, fontsize=4.5, padding=1.5, rotation=90, color=style.colour
            )

    def _finish(self, title: str) -> None:
        of_choices = any(curve.position is not None for curve in self.curves.values())
        self.ax_.set(xlim=(0, 1), ylim=(0, 1))
        self.ax_.set_ylabel("Share that is gold" if of_choices else "Accuracy")
        self.ax_.tick_params(labelbottom=False)
        self.histogram_ax_.set_xlabel("Probability of the choice" if of_choices else "Confidence")
        self.histogram_ax_.set_ylabel("Questions")
        self.histogram_ax_.margins(y=0.35)
        self.histogram_ax_.yaxis.set_major_locator(whole_numbers())
        legend_above(self.ax_, title, [_pale_entry()] if self._with_bars else [])


def _pale_entry() -> Artist:
    from matplotlib.lines import Line2D

    label = "range of a calibrated model (95 %)"
    return Line2D([], [], color=GREY, label=label, solid_capstyle="butt", **_PALE)


def _legend(label: str, curve: Reliability) -> str:
    ece, null = curve.ece, curve.ece_null
    name = "ECE" if curve.position is None else "Error"
    value = f"{name} {interval(ece.value, ece.low, ece.high)}"
    text = f"{plain(label)} (n = {curve.n_entries})\n{value}"
    return text if np.isnan(null.mean) else f"{text}, null {null.mean:.3f}"
