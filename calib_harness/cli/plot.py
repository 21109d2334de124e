"""Figures from finished logs: ``plot reliability|forest|ranks|risk-coverage``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calib_harness.cli.common import (
    Binning,
    Cache,
    Logs,
    NBins,
    NoCache,
    Seed,
    cache_of,
    show_log,
    split,
)
from calib_harness.errors import UserError

if TYPE_CHECKING:
    from calib_harness.figures.display import CurvesDisplay, Display
    from calib_harness.predictions import Predictions

app = typer.Typer(
    name="plot",
    help="""Figures for papers: PDF, SVG or PNG.

    Example: calib-harness plot ranks out/ --metric ece -o ranks.pdf
    """,
    no_args_is_help=True,
)

_NARROWEST, _WIDEST, _TALLEST = 2.5, 40, 45  # inches
_MOST_PANELS = 40
_NARROWEST_PANEL = 2.3
_MOST_SIMULATIONS = 1000  # of a band

Output = Annotated[Path, typer.Option("-o", "--output", help="File to write: .pdf, .svg or .png.")]
Task = Annotated[str | None, typer.Option("--task", help="Task, or benchmark (arc_easy).")]
Method = Annotated[str | None, typer.Option("--method", help="E.g. choice.")]
Model = Annotated[
    str | None, typer.Option("--model", help="Comma-separated models, overlaid in one panel.")
]
Base = Annotated[str | None, typer.Option("--base", help="Base model of a single pair.")]
Aligned = Annotated[str | None, typer.Option("--aligned", help="Aligned model of it.")]
Pairs = Annotated[
    Path | None, typer.Option("--pairs", help="CSV with columns family, base, aligned.")
]
Metric = Annotated[str, typer.Option("--metric", help="E.g. ece.")]
Width = Annotated[
    float | None,
    typer.Option("--width", help="Inches, e.g. 3.3 (default: by what is drawn)."),
]
Resamples = Annotated[
    int, typer.Option("--resamples", help="Bootstrap resamples; 0: no intervals.")
]


@dataclass(frozen=True)
class _Panels:
    """What `reliability` and `risk-coverage` draw: runs, and which of them share a panel."""

    logs: Logs
    task: Task = None
    method: Method = None
    model: Model = None
    base: Base = None
    aligned: Aligned = None
    pairs: Pairs = None
    cache: Cache = None
    no_cache: NoCache = False

    def read(self) -> list[tuple[Predictions, ...]]:
        """Return the runs of each panel."""
        from calib_harness.figures.selection import of_one_kind, panels, read_runs

        if (self.base is None) != (self.aligned is None):
            raise UserError(
                "give both --base MODEL and --aligned MODEL, or name models by --model."
            )
        if sum(chosen is not None for chosen in (self.model, self.base, self.pairs)) > 1:
            raise UserError("give only one of --model, --base with --aligned, and --pairs.")
        models = split(self.model)
        if models == []:
            raise UserError(f"--model must name at least one model; got {self.model!r}.")
        pair = [self.base, self.aligned] if self.base and self.aligned else None
        cache = cache_of(self.cache, self.no_cache)
        runs = read_runs(self.logs, task=self.task, method=self.method, cache=cache)
        return panels(of_one_kind(runs), models=pair or models, pairs=self.pairs)


def _takes_panels(command: Callable[..., None]) -> Callable[..., None]:
    """Show Typer a command's parameter `chosen: _Panels` as one option per field."""
    fields = inspect.signature(_Panels, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters

    @wraps(command)
    def called(**options: Any) -> None:
        chosen = _Panels(**{name: options.pop(name) for name in fields})
        command(chosen, **options)

    parameters = [*fields.values(), *(own[name] for name in own if name != "chosen")]
    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    called.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    return called


@app.command()
@_takes_panels
def reliability(
    chosen: _Panels,
    output: Output,
    classwise: Annotated[
        bool, typer.Option("--classwise", help="One panel per choice position, as SCE bins.")
    ] = False,
    n_bins: NBins = 15,
    binning: Binning = "uniform",
    resamples: Resamples = 1000,
    seed: Seed = 0,
    width: Width = None,
    unbinned: Annotated[
        bool,
        typer.Option("--unbinned", help="The isotonic curve with its band, instead of bins."),
    ] = False,
) -> None:
    """Accuracy against confidence, bin by bin, beside a calibrated model's.

    One panel per pair (or model); models named together are overlaid.

    Example: calib-harness plot reliability out/ --base M --aligned M-chat -o reliability.pdf
    """
    options: dict[str, Any] = {
        "n_bins": n_bins,
        "binning": binning,
        "n_resamples": resamples,
        "seed": seed,
    }
    _start(output, width, **options)
    from calib_harness.figures.reliability_display import ReliabilityDisplay

    if classwise and unbinned:
        raise UserError("--unbinned is of the top choice: leave --classwise out.")
    groups = chosen.read()
    displays: list[CurvesDisplay[Any]]
    if unbinned:
        from calib_harness.figures.unbinned import UnbinnedDisplay

        simulations: dict[str, Any] = {
            "n_resamples": min(resamples, _MOST_SIMULATIONS),
            "seed": seed,
        }
        displays = [UnbinnedDisplay.from_predictions(*runs, **simulations) for runs in groups]
    elif classwise:
        if len(groups) > 1:
            raise UserError(
                f"--classwise draws one model or pair, and there are {len(groups)}: choose with "
                "--model, or --base and --aligned."
            )
        (runs,) = groups
        displays = [
            ReliabilityDisplay.from_predictions(*runs, position=k, **options)
            for k in range(min(run.scores.shape[1] for run in runs))
        ]
    else:
        displays = [ReliabilityDisplay.from_predictions(*runs, **options) for runs in groups]
    _draw_grid(displays, output, width)


@app.command()
@_takes_panels
def risk_coverage(
    chosen: _Panels,
    output: Output,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    width: Width = None,
) -> None:
    """Error rate among the most confident answers, with AURC.

    Example: calib-harness plot risk-coverage out/ --task sciq --method choice -o curves.pdf
    """
    _start(output, width, n_resamples=resamples, seed=seed)
    from calib_harness.figures.risk_coverage import RiskCoverageDisplay

    groups = chosen.read()
    displays = [
        RiskCoverageDisplay.from_predictions(*runs, n_resamples=resamples, seed=seed)
        for runs in groups
    ]
    _draw_grid(displays, output, width)


@app.command()
def forest(
    logs: Logs,
    output: Output,
    pairs: Pairs = None,
    base: Base = None,
    aligned: Aligned = None,
    task: Task = None,
    method: Method = None,
    metric: Metric = "ece",
    n_bins: NBins = 15,
    binning: Binning = "uniform",
    resamples: Annotated[
        int | None, typer.Option("--resamples", help="Paired resamples over questions.")
    ] = None,
    seed: Seed = 0,
    width: Width = None,
    cache: Cache = None,
    no_cache: NoCache = False,
) -> None:
    """Change of a metric from base to aligned model, with intervals, by family.

    Example: calib-harness plot forest out/ --pairs pairs.csv --metric ece -o forest.pdf
    """
    options: dict[str, Any] = {"n_bins": n_bins, "binning": binning, "seed": seed}
    _start(output, width, metric, **options)
    from calib_harness.analysis import compare
    from calib_harness.figures.forest import ForestDisplay
    from calib_harness.figures.selection import of_one_kind, read_runs

    if pairs is None and (base is None or aligned is None):
        raise UserError("plot forest needs --pairs FILE, or both --base MODEL and --aligned MODEL.")
    runs = read_runs(logs, task=task, method=method, cache=cache_of(cache, no_cache))
    result = compare(
        of_one_kind(runs),
        pairs,
        base=base,
        aligned=aligned,
        metrics=[metric],
        n_resamples=resamples,
        **options,
    )
    display = ForestDisplay.from_changes(result.changes, metric=metric)
    _draw(display, output, width)


@app.command()
def ranks(
    logs: Logs,
    output: Output,
    pairs: Pairs = None,
    method: Method = None,
    metric: Metric = "ece",
    n_bins: NBins = 15,
    binning: Binning = "uniform",
    seed: Seed = 0,
    width: Width = None,
    cache: Cache = None,
    no_cache: NoCache = False,
) -> None:
    """Ranks across tasks, with Kendall's W: of the models, or with --pairs of changes.

    Example: calib-harness plot ranks out/ --method choice --metric ece -o ranks.pdf
    """
    binned: dict[str, Any] = {"n_bins": n_bins, "binning": binning}
    _start(output, width, metric, seed=seed, **binned)
    from calib_harness.analysis import compare
    from calib_harness.analysis.metrics_frame import metrics_frame
    from calib_harness.figures.bump import RanksDisplay
    from calib_harness.figures.selection import of_one_kind, read_runs

    runs = read_runs(logs, method=method, cache=cache_of(cache, no_cache))
    runs = of_one_kind(runs, single_task=False)
    if pairs is not None:
        # Ranks need no intervals of the changes.
        result = compare(runs, pairs, metrics=[metric], seed=seed, detail="changes", **binned)
        display = RanksDisplay.from_frame(result.changes, metric=metric, seed=seed)
    else:
        frame = metrics_frame(runs, metrics=[metric], n_resamples=0, **binned)
        display = RanksDisplay.from_frame(
            frame, metric=metric, unit="model", value="value", seed=seed
        )
    _draw(display, output, width)


def _start(output: Path, width: float | None, metric: str = "ece", **options: Any) -> None:
    """Fail on wrong options or outputs, or without matplotlib, before anything is read."""
    show_log()
    from calib_harness.analysis.metrics_frame import SummaryOptions
    from calib_harness.core.metrics import METRICS
    from calib_harness.figures.selection import only_value
    from calib_harness.figures.style import SUFFIXES, import_matplotlib
    from calib_harness.output import make_ready

    make_ready(output, SUFFIXES)
    if width is not None and not _NARROWEST <= width <= _WIDEST:
        raise UserError(f"--width must be {_NARROWEST} to {_WIDEST} inches; got {width}.")
    only_value(METRICS, "metric", metric)
    SummaryOptions(**options)  # checks them
    import_matplotlib()


def _draw_grid(displays: Sequence[CurvesDisplay[Any]], output: Path, width: float | None) -> None:
    """Draw each display into a panel of its own, two or three side by side."""
    if len(displays) == 1:
        _draw(displays[0], output, width)
        return
    from calib_harness.figures.style import PAGE, new_figure, print_style, save

    across = width or PAGE
    columns = max(1, min(3 if len(displays) > 6 else 2, int(across / _NARROWEST_PANEL)))
    if len(displays) > _MOST_PANELS:
        raise UserError(
            f"{len(displays)} panels are too many for a figure, {_MOST_PANELS} at most: choose "
            "with --model, or with --pairs of fewer lines."
        )
    sizes = [display.size(across / columns) for display in displays]
    heights = [max(h for _, h in sizes[i : i + columns]) for i in range(0, len(sizes), columns)]
    if sum(heights) > _TALLEST:
        raise UserError(
            f"{len(displays)} panels make a figure {sum(heights):.0f} inches tall, and {_TALLEST} "
            "is the most: choose with --model, or with --pairs of fewer lines."
        )
    shared = {display.title for display in displays}
    with print_style(small_legends=columns > 2):
        figure = new_figure(across, sum(heights) + 0.3)
        if len(shared) == 1:
            figure.suptitle(", ".join(shared.pop().split("\n")), fontsize="medium")
            titles: str | None = ""
        else:
            titles = None
        # Each panel is laid out for itself: a long name narrows no other.
        panels = figure.subfigures(len(heights), columns, squeeze=False, height_ratios=heights)
        for panel, display in zip(panels.flat, displays, strict=False):
            display.plot(panel.subplots(), title=titles)
        top = max(display.ax_.get_ylim()[1] for display in displays)
        for display in displays:
            display.ax_.set_ylim(top=top)  # to be compared by eye
        save(figure, output)


def _draw(display: Display, output: Path, width: float | None) -> None:
    from calib_harness.figures.style import new_figure, print_style, save

    with print_style():
        figure = new_figure(*(display.size() if width is None else display.size(width)))
        display.plot(figure.subplots())
        save(figure, output)
