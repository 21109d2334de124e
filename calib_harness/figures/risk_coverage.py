"""Risk-coverage curves: the error rate among the most confident answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from calib_harness.core.accuracy import aurc, risks
from calib_harness.core.checks import FloatArray, check_count, check_rows
from calib_harness.core.confidence import top_label
from calib_harness.core.inference import bootstrap
from calib_harness.core.options import DEFAULT_N_RESAMPLES
from calib_harness.core.resampling import Estimate
from calib_harness.figures.display import CurvesDisplay
from calib_harness.figures.style import (
    COLUMN,
    axes_for,
    height_with_legend,
    interval,
    legend_above,
    look,
    plain,
)
from calib_harness.predictions.table import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The error rate among the k most confident answers, for every k.

    Attributes
    ----------
    coverage : ndarray, shape (n,)
        k / n for k = 1..n.
    risk : ndarray, shape (n,)
        Share of wrong answers among the k most confident; within equal confidences, its mean
        over all orders. The mean of `risk` is the AURC, its last element the error rate.
    aurc : Estimate
        As in the metrics table; NaN errors without resamples.
    """

    coverage: FloatArray
    risk: FloatArray
    aurc: Estimate


def risk_coverage(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_resamples: int = DEFAULT_N_RESAMPLES,
    seed: int = 0,
) -> RiskCoverage:
    """Order answers by confidence and count the wrong ones (Geifman et al. 2019).

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.
    n_resamples : int
        For the interval of the AURC; 0 leaves it out.
    seed : int

    Returns
    -------
    RiskCoverage

    Raises
    ------
    ValueError
        If an option is wrong, or a row is no distribution or has no gold choice.

    Examples
    --------
    The most confident answer is wrong; of the two next, equally confident, one is.

    >>> probs = [[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]]
    >>> curve = risk_coverage(probs, [1, 0, 1], n_resamples=0)
    >>> curve.risk.round(3).tolist()  # 1/1, (1 + 1/2)/2, 2/3
    [1.0, 0.75, 0.667]
    """
    p, g = check_rows(probs, gold)
    confidence, prediction = top_label(p)
    risk = risks(confidence, (prediction == g).astype(np.float64))
    if check_count("n_resamples", n_resamples, least=0):
        area = bootstrap(["aurc"], p, g, n_resamples=n_resamples, rng=seed)["aurc"]
    else:
        area = Estimate(aurc(p, g), np.nan, np.nan, np.nan)
    return RiskCoverage(np.arange(1, len(p) + 1) / len(p), risk, area)


class RiskCoverageDisplay(CurvesDisplay[RiskCoverage]):
    """Risk-coverage curves of one or several runs, overlaid; the legend has their AURC.

    Parameters
    ----------
    curves : mapping of str to RiskCoverage
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
    >>> curve = risk_coverage([[0.9, 0.1], [0.6, 0.4]], [0, 1], n_resamples=0)
    >>> display = RiskCoverageDisplay({"model": curve}).plot(Figure().subplots())
    >>> display.ax_.lines[0].get_ydata().tolist()
    [0.0, 0.5]
    """

    @classmethod
    def from_predictions(
        cls,
        *runs: Predictions,
        labels: Sequence[str] | None = None,
        n_resamples: int = DEFAULT_N_RESAMPLES,
        seed: int = 0,
    ) -> Self:
        """Compute the curves of runs, from the questions of each that can be used.

        Parameters
        ----------
        *runs : Predictions
        labels : sequence of str, optional
            One per run; by default the models' names.
        n_resamples, seed
            As for `risk_coverage`.
        """
        return cls._of_runs(
            runs,
            labels,
            lambda run: risk_coverage(
                run.probs[run.usable], run.gold[run.usable], n_resamples=n_resamples, seed=seed
            ),
        )

    def size(self, width: float = COLUMN) -> tuple[float, float]:
        """Return width and height in inches at which the legend leaves room for the curves."""
        return width, height_with_legend(0.7 * width, len(self.curves))

    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Self:
        """Draw into `ax`, or into a new figure."""
        self.figure_, self.ax_ = axes_for(ax, *self.size())
        for number, (label, curve) in enumerate(self.curves.items()):
            style = look(number)
            area = interval(curve.aurc.value, curve.aurc.low, curve.aurc.high)
            self.ax_.plot(
                curve.coverage,
                curve.risk,
                label=f"{plain(label)} (n = {len(curve.risk)})\nAURC {area}",
                color=style.colour,
                linestyle=style.line,
                linewidth=1.1,
                marker=style.marker,
                markersize=3.5,
                # Ten marks along the curve, not on top of those of the other curves.
                markevery=(0.02 * number, 0.1),
            )
        self.ax_.set(xlim=(0, 1), xlabel="Coverage (most confident first)", ylabel="Error rate")
        self.ax_.set_ylim(bottom=0)
        legend_above(self.ax_, self.title if title is None else title)
        return self
