"""What every display has: its numbers, and what `plot` has drawn into."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from calib_harness.figures.selection import common_parts, run_labels
from calib_harness.predictions.table import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from typing_extensions import Self

Numbers = TypeVar("Numbers")


class Display(ABC):
    """A figure whose numbers are computed and which draws them into axes.

    Attributes
    ----------
    ax_, figure_
        What `plot` has drawn into.
    """

    ax_: Axes
    figure_: Figure

    @abstractmethod
    def size(self, width: float = ...) -> tuple[float, float]:
        """Return width and height in inches at which nothing touches anything else."""

    @abstractmethod
    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Self:
        """Draw into `ax`, or into a new figure."""


class DataDisplay(Display, Generic[Numbers]):
    """A display of one object, `data`."""

    def __init__(self, data: Numbers) -> None:
        self.data = data


class CurvesDisplay(Display, Generic[Numbers]):
    """A display of several objects, `curves`, each under its label, with a `title` above them."""

    def __init__(self, curves: Mapping[str, Numbers], *, title: str = "") -> None:
        if not curves:
            raise ValueError("curves must hold at least one run's numbers; got none.")
        self.curves = dict(curves)
        self.title = title

    @classmethod
    def _of_runs(
        cls,
        runs: Sequence[Predictions],
        labels: Sequence[str] | None,
        compute: Callable[[Predictions], Numbers],
    ) -> Self:
        """Compute the numbers of each run; what the runs have in common is the title."""
        names = run_labels(runs, labels)
        curves = {name: compute(run) for name, run in zip(names, runs, strict=True)}
        return cls(curves, title=", ".join(common_parts(runs)))
