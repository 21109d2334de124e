"""How every figure looks: sizes for print, colours and marks for every reader, plain files.

Colours are those of Okabe and Ito (2008), which colour-blind readers tell apart; line styles and
markers say the same again, for greyscale. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib_harness.errors import UserError
from calib_harness.output import make_ready

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Width of a figure of one column, and of a whole page, in inches.
COLUMN, PAGE = 3.3, 7.0
SUFFIXES = (".pdf", ".svg", ".png")

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#767676"

_SETTINGS: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "calib-harness",
}
# What would make two files of the same figure differ.
_METADATA: dict[str, dict[str, Any]] = {
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
    ".png": {},
}


# Where capitals or spaces alone would not do.
_METRIC_LABELS = {
    "acc": "accuracy",
    "ece_rms": "RMS ECE",
    "ece_debiased": "debiased ECE",
    "ece_null": "ECE of the calibrated null",
    "sce_ova": "one-vs-all SCE",
    "smece": "smECE",
    "brier_score": "Brier score",
}


@dataclass(frozen=True)
class Look:
    """Colour, marker and line style of one series."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[float, ...]]
    hatch: str = ""


_LOOKS = (
    Look(BLUE, "o", "-"),
    Look(VERMILION, "s", "--", "////"),
    Look(GREEN, "^", "-.", "...."),
    Look(PURPLE, "D", ":", "xxxx"),
    Look(ORANGE, "v", (0, (5, 1, 1, 1, 1, 1)), "++++"),
    Look(SKY, "P", (0, (1, 1)), "oooo"),
    Look(BLACK, "X", (0, (8, 2)), "----"),
)


def look(number: int) -> Look:
    """Return the look of series `number`; after the last colour, markers and lines shift."""
    count = len(_LOOKS)
    colour, shift = _LOOKS[number % count], number // count
    mark = _LOOKS[(number + shift) % count]
    return Look(colour.colour, mark.marker, mark.line, mark.hatch)


def print_style(*, small_legends: bool = False) -> AbstractContextManager[None]:
    """Return the context in which the command line draws and saves: small type, thin lines."""
    import_matplotlib()
    from matplotlib import rc_context

    size = 6 if small_legends else 7
    return rc_context(_SETTINGS | {"legend.fontsize": size, "legend.title_fontsize": size})


def import_matplotlib() -> None:
    """Raise a UserError that says what to install if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(
            "figures need matplotlib, which is not installed: pip install 'calib-harness[plot]'."
        ) from error


def axes_for(ax: Axes | None, width: float, height: float) -> tuple[Figure, Axes]:
    """Return `ax` with its figure, or a new pyplot figure of that size in inches.

    A figure of one's own that nothing lays out (plain ``plt.subplots()``) is laid out from now
    on ("constrained"): legends stand above their axes, and would be cut off.
    """
    import_matplotlib()
    if ax is None:
        from matplotlib import pyplot

        return pyplot.subplots(figsize=(width, height), layout="constrained")
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("ax must belong to a figure; got one that was removed.")
    if figure.get_layout_engine() is None:
        figure.set_layout_engine("constrained")
    return figure, ax


def height_with_legend(drawing: float, entries: float) -> float:
    """Return the height in inches of a drawing with a title and two-line entries above it."""
    return drawing + 0.3 + 0.29 * entries


def letters_beside(ax: Axes, share: float, size: str) -> int:
    """Return about how many letters have room beside `ax`, not yet laid out.

    Parameters
    ----------
    ax : Axes
    share : float
        Of its present width that is given to the letters.
    size : str
        Their size as a key of rcParams, or a relative one such as ``small``.
    """
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    figure = ax.get_figure(root=True)
    given: Any = rcParams
    points = FontProperties(size=given.get(size, size)).get_size_in_points()
    inches = ax.get_window_extent().width / figure.dpi if figure is not None else 0.0
    return max(8, int(share * inches * 72 / (0.56 * points)))


def split_below(ax: Axes, share: float = 0.27) -> tuple[Axes, Axes]:
    """Give the lower part of `ax` to new axes that share its horizontal one."""
    figure = ax.figure
    place = ax.get_subplotspec()
    if place is None:  # placed by hand
        box = ax.get_position()
        lower = figure.add_axes((box.x0, box.y0, box.width, box.height * share), sharex=ax)
        ax.set_position(
            (box.x0, box.y0 + box.height * (share + 0.05), box.width, box.height * (0.95 - share))
        )
        return ax, lower
    parts = place.subgridspec(2, 1, height_ratios=(1 - share, share), hspace=0.0)
    ax.set_subplotspec(parts[0])
    return ax, figure.add_subplot(parts[1], sharex=ax)


def whole_numbers() -> Any:
    """Return a locator that puts few ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=3, integer=True)


def legend_above(ax: Axes, title: str, more: Sequence[Artist] = ()) -> None:
    """Put the legend of `ax`, then `more` entries, above it, where it hides nothing."""
    ax.legend(
        handles=[*ax.get_legend_handles_labels()[0], *more],
        title="\n".join(plain(line, 52) for line in title.split("\n")),
        loc="lower left",
        bbox_to_anchor=(-0.1, 1.0),
        frameon=False,
        borderpad=0,
        borderaxespad=0.8,
        alignment="left",
        handlelength=2.0,
        handletextpad=0.5,
    )


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, that no window shows."""
    import_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, output: Path) -> None:
    """Write a figure; the same figure always gives the same bytes.

    Raises
    ------
    UserError
        If the suffix is none of `SUFFIXES`, the labels leave no room for anything else or the
        file cannot be written.
    """
    suffix = make_ready(output, SUFFIXES).suffix.lower()
    try:
        with print_style(), warnings.catch_warnings():
            warnings.filterwarnings("error", "constrained_layout not applied")
            figure.savefig(output, format=suffix[1:], metadata=_METADATA[suffix])
    except OSError as error:
        raise UserError(f"--output {output} cannot be written ({error.strerror}).") from error
    except UserWarning as error:
        raise UserError(
            f"a figure {figure.get_figwidth():.3g} inches wide has no room for its labels: "
            "give more by --width, or shorter names."
        ) from error


def plain(text: str, most: int = 32) -> str:
    r"""Return text as matplotlib shows it literally: no mathematics, no control characters.

    Longer text than `most` characters loses its middle.

    Examples
    --------
    >>> plain("a$b$"), plain("organisation/model-7b", 11)
    ('a\\$b\\$', 'organ…el-7b')
    """
    shown = "".join(c if c.isprintable() else " " for c in text)
    if len(shown) > most:
        tail = (most - 1) // 2
        shown = f"{shown[: most - 1 - tail]}…{shown[-tail:]}"
    # Legends leave out labels that start with an underscore.
    hidden = "\u200a" if shown.startswith("_") else ""
    return hidden + shown.replace("$", r"\$")


def metric_label(name: str) -> str:
    """Return a metric's name as a paper writes it.

    Examples
    --------
    >>> metric_label("ece"), metric_label("brier_score")
    ('ECE', 'Brier score')
    """
    return _METRIC_LABELS.get(name, name.upper() if len(name) <= 5 else name.replace("_", " "))


def signed(value: float) -> str:
    """Write two decimals with a minus sign as axes have it, not a hyphen."""
    return f"{value:.2f}".replace("-", "\u2212")


def interval(value: float, low: float, high: float) -> str:
    """Write ``0.123 [0.098, 0.150]``, or the value alone if its interval is unknown."""
    if low != low or high != high:
        return f"{value:.3f}"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
