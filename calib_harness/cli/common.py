"""What commands on finished logs share: options, the log on standard error, lists."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, overload

import typer

from calib_harness.cli.render import Format
from calib_harness.errors import ArgumentError, UserError
from calib_harness.text import visible

if TYPE_CHECKING:
    from calib_harness.predictions.load import CacheLike

Logs = Annotated[
    list[str],
    typer.Argument(help="Logs: files, folders, URLs."),
]
Metrics = Annotated[
    str | None, typer.Option("--metrics", help="Comma-separated names, e.g. ece,sce,auroc.")
]
Methods = Annotated[
    str | None, typer.Option("--methods", help="Comma-separated names, e.g. choice.")
]
Tasks = Annotated[str | None, typer.Option("--tasks", help="Comma-separated task names.")]
NBins = Annotated[int, typer.Option("--n-bins", help="Number of bins M.")]
Binning = Annotated[str, typer.Option("--binning", help="uniform, equal_mass, adaptive.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the bootstrap.")]
AllRuns = Annotated[bool, typer.Option("--all-runs", help="Keep repeated runs, not the newest.")]
Pool = Annotated[
    str | None,
    typer.Option(
        "--pool",
        help="Groups or patterns as one task: mmlu, ...",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option("--columns", help="Of tables: gold=answer,scores=lp_a|lp_b, ..."),
]
Scores = Annotated[
    str | None,
    typer.Option("--scores", help="Of tables: sum, min, mean, logit, prob, ..."),
]
About = Annotated[
    str | None,
    typer.Option("--about", help="Of tables: model=org/m,task=arc, ..."),
]
# The same where tables are the exception: docs/how-to/tables.md tells of them, help does not.
QuietColumns = Annotated[str | None, typer.Option("--columns", hidden=True)]
QuietScores = Annotated[str | None, typer.Option("--scores", hidden=True)]
QuietAbout = Annotated[str | None, typer.Option("--about", hidden=True)]
Form = Annotated[
    Format | None,
    typer.Option(
        "--format",
        metavar="<name>",
        help="table, csv, json, markdown or latex.",
    ),
]
Output = Annotated[Path | None, typer.Option("--output", help="Write here instead of printing.")]
Cache = Annotated[
    Path | None, typer.Option("--cache", help="Folder for read logs (default: user's cache).")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Keep no copy of read logs.")]


#: Arguments of the library and what sets them here, where it is not the same word.
_FLAGS = {
    name: f"--{name.replace('_', '-')}"
    for name in (
        *("metrics", "methods", "tasks", "n_bins", "binning", "seed", "level", "fit_on"),
        *("pairs", "chain", "base", "aligned", "by", "output", "pool"),
        *("columns", "scores", "about"),
        *("method", "apply"),
    )
} | {"n_resamples": "--resamples", "n_jobs": "--jobs"}
_FIRST_WORD = re.compile(r"^\w+")


def as_typed(sentence: str) -> str:
    """Return an error's sentence with the argument that it starts with as typed here.

    Examples
    --------
    >>> as_typed("n_resamples must be 0 or at least 2; got 1.")
    '--resamples must be 0 or at least 2; got 1.'
    >>> as_typed("--tasks: no task is called x")
    '--tasks: no task is called x'
    """
    return _FIRST_WORD.sub(lambda word: _FLAGS.get(word[0], word[0]), sentence, count=1)


def cache_of(cache: Path | None, no_cache: bool) -> CacheLike:
    """Return what the loaders take for --cache and --no-cache: a folder, none, the user's own."""
    return False if no_cache else cache


def mapping_of(text: str | None, name: str) -> dict[str, str]:
    """Split an option of the form KEY=VALUE,KEY=VALUE."""
    pairs = [part.partition("=") for part in split(text) or []]
    for key, sign, value in pairs:
        if not (key.strip() and sign and value.strip()):
            raise ArgumentError(f"{name} must be KEY=VALUE,KEY=VALUE; got {key + sign + value!r}.")
    return {key.strip(): value.strip() for key, _, value in pairs}


def workers(jobs: int | None) -> int:
    """Return how many threads or processes --jobs asks for: by default one per core."""
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs must be at least 1; got {jobs}.")
    return jobs or os.cpu_count() or 1


def show_log(level: int = logging.INFO) -> None:
    """Print what the package logs from a level on, once, on standard error."""
    logger = logging.getLogger("calib_harness")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Visible("%(levelname)s: %(message)s"))
        handler.addFilter(_first_time())
        logger.addHandler(handler)
        logger.setLevel(level)


class _Visible(logging.Formatter):
    """Shows messages, which quote names from logs, so that they cannot rewrite a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _first_time() -> Callable[[logging.LogRecord], bool]:
    """Make a filter that lets each message through once."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        new = message not in seen
        seen.add(message)
        return new

    return is_new


@overload
def split(text: str) -> list[str]: ...
@overload
def split(text: str | None) -> list[str] | None: ...
def split(text: str | None) -> list[str] | None:
    """Split a comma-separated option; what is named twice counts once."""
    if text is None:
        return None
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
