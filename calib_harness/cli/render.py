"""Frames as text: terminal tables, CSV, JSON, Markdown, LaTeX."""

from __future__ import annotations

import io
import json
import os
import sys
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calib_harness.errors import UserError
from calib_harness.output import csv_text
from calib_harness.text import visible


class Format(str, Enum):
    """How to print a table."""

    table = "table"
    csv = "csv"
    json = "json"
    markdown = "markdown"
    latex = "latex"


_SUFFIXES = {
    ".csv": Format.csv,
    ".json": Format.json,
    ".md": Format.markdown,
    ".tex": Format.latex,
}
_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "τ": r"$\tau$",
}


def choose_format(chosen: Format | None, output: Path | None) -> Format:
    """Return the format asked for, else the one that the output's suffix names."""
    if chosen is not None:
        return chosen
    return _SUFFIXES.get(output.suffix, Format.table) if output else Format.table


def emit(text: str, output: Path | None) -> None:
    """Print, or write to a file.

    Raises
    ------
    UserError
        If the file, or what standard output leads to, cannot be written.
    """
    if output is None:
        _print(text.rstrip("\n"))
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {output} cannot be written ({error.strerror}).") from error


def _print(text: str) -> None:
    """Print all of it now, so that a full disk is told; a reader that has enough is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError(f"the table cannot be printed ({error.strerror}).") from error


def render(frames: dict[str, pd.DataFrame], form: Format) -> str:
    """Render titled frames of ready-made strings for reading."""
    renderers = {
        Format.table: _terminal,
        Format.markdown: _markdown,
        Format.latex: _latex,
    }
    return "\n\n".join(renderers[form](title, frame) for title, frame in frames.items())


def render_data(frames: dict[str, pd.DataFrame], form: Format) -> str:
    """Render frames of numbers for machines: one CSV, or JSON (an object if several)."""
    if form is Format.csv:
        (frame,) = frames.values()
        return csv_text(frame)
    records = {name: _records(frame) for name, frame in frames.items()}
    content: Any = next(iter(records.values())) if len(records) == 1 else records
    return json.dumps(content, indent=1, ensure_ascii=False)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values; what JSON cannot say (NaN, infinity) becomes null."""
    return [
        {str(key): _plain(value) for key, value in row.items()} for row in frame.to_dict("records")
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value


def number(value: Any, digits: int = 3) -> str:
    """Write fixed decimals; nothing for a missing number."""
    if value is None or pd.isna(value):
        return ""
    return f"{value:.{digits}f}"


def with_error(value: Any, stderr: Any, digits: int = 3) -> str:
    """``0.765 ±0.021``, or the number alone."""
    text = number(value, digits)
    error = number(stderr, digits)
    return f"{text} ±{error}" if text and error else text


def p_value(value: Any) -> str:
    """Three decimals, or two significant figures of what would be 0.000."""
    if value is None or pd.isna(value):
        return ""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _numeric_columns(frame: pd.DataFrame) -> list[bool]:
    starts = tuple("0123456789-−.+<")
    return [all(not cell or cell.startswith(starts) for cell in frame[c]) for c in frame.columns]


def _terminal(title: str, frame: pd.DataFrame) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for name, numeric in zip(frame.columns, _numeric_columns(frame), strict=True):
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in frame.itertuples(index=False):
        table.add_row(*(visible(str(cell)) for cell in row))
    # As wide as it needs to be: a cut number is worse than a line that wraps.
    stream = io.StringIO()
    console = Console(file=stream, width=10_000, color_system=None)
    console.print(table, highlight=False, markup=False)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _markdown(title: str, frame: pd.DataFrame) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    rule = ["---:" if numeric else "---" for numeric in _numeric_columns(frame)]
    rows = [line(list(row)) for row in frame.itertuples(index=False)]
    heading = [f"**{title}**", ""] if title else []
    return "\n".join([*heading, line(list(frame.columns)), line(rule), *rows])


def _latex(title: str, frame: pd.DataFrame) -> str:
    def line(cells: list[str]) -> str:
        return " & ".join("".join(_LATEX.get(c, c) for c in str(cell)) for cell in cells) + r" \\"

    align = "".join("r" if numeric else "l" for numeric in _numeric_columns(frame))
    heading = [f"% {title}"] if title else []
    rows = [line(list(row)) for row in frame.itertuples(index=False)]
    head = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", line(list(frame.columns)), r"\midrule"]
    return "\n".join([*heading, *head, *rows, r"\bottomrule", r"\end{tabular}"])
