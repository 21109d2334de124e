"""A table on a terminal: no wider than the screen; what is left out is named, never cut."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.cells import cell_len
from rich.console import Console

from calib_harness.cli.render import Format, emit, render
from calib_harness.text import visible

# Columns of p-values, whose cells are marked where they are below it.
_P_VALUES = ("p_holm", "p_value")
_SMALL = 0.05
_GAP = 2  # between two columns of a table without lines
_LEAST_NAME = 12  # a name is not shortened below this


def show(
    frames: Mapping[str, pd.DataFrame],
    form: Format,
    output: Path | None,
    *,
    first: Sequence[str] = (),
    words: Sequence[str] = (),
) -> None:
    """Print frames of ready-made strings: fitted to a terminal, whole anywhere else.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        By title.
    form, output
        A format or file asked for gets everything.
    first : sequence of str
        Columns in the order of their importance; those that are not named follow in their own
        order. What does not fit any more is left out and named.
    words : sequence of str
        Paragraphs that stand above the tables.
    """
    if not is_fitted(form, output):
        comments = [f"% {each}" if form is Format.latex else each for each in words]
        emit("\n\n".join([*comments, render(dict(frames), form)]), output)
        return
    width = Console().width
    told = [_wrapped(each, width) for each in words]
    tables = [fitted(title, frame, width, first) for title, frame in frames.items()]
    emit("\n\n".join([*told, *tables]), None)


def is_fitted(form: Format, output: Path | None) -> bool:
    """Whether tables go to a terminal, whose width they have to fit."""
    return form is Format.table and output is None and sys.stdout.isatty()


def fitted(title: str, frame: pd.DataFrame, width: int, first: Sequence[str] = ()) -> str:
    """Return one table no wider than `width`, with what it leaves out told below."""
    shown, constant = _without_constants(frame)
    shown = _marked(shown)
    chosen = _chosen(shown, width, first)
    left_out = [name for name in shown.columns if name not in chosen]
    shown = _shortened(shown[chosen], width)
    lines = [_wrapped(title, width)] if title else []
    if constant:
        every = ", ".join(f"{name} {visible(value)}" for name, value in constant.items())
        lines.append(_wrapped(f"All rows: {every}", width))
    lines.append(render({"": shown}, Format.table))
    if any(name in shown.columns and shown[name].str.endswith("*").any() for name in _P_VALUES):
        lines.append(f"* p < {_SMALL}")
    if left_out:
        names = ", ".join(left_out)
        lines.append(_wrapped(f"Not shown: {names}; --format csv, or a pipe, has all of it", width))
    return "\n".join(lines)


def _without_constants(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Take out the columns that say the same in every row; they are told once."""
    if len(frame) < 2:
        return frame, {}
    same = [name for name in frame.columns if frame[name].nunique(dropna=False) == 1]
    told = {name: str(frame[name].iloc[0]) for name in same}
    rest = frame.drop(columns=same)
    if rest.columns.empty:
        return frame, {}
    return rest, {name: value for name, value in told.items() if value}


def _marked(frame: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in _P_VALUES if name in frame.columns]
    return frame.assign(**{name: [_mark(cell) for cell in frame[name]] for name in names})


def _mark(cell: str) -> str:
    return f"{cell}*" if cell and float(cell) < _SMALL else f"{cell} " if cell else ""


def _widths(frame: pd.DataFrame) -> dict[str, int]:
    return {
        str(name): max([cell_len(str(name)), *(cell_len(str(cell)) for cell in frame[name])])
        for name in frame.columns
    }


def _chosen(frame: pd.DataFrame, width: int, first: Sequence[str]) -> list[str]:
    """Return the columns that fit, in their own order: names of rows, then by importance."""
    widths = _widths(frame)
    wanted = [name for name in first if name in widths]
    wanted += [name for name in frame.columns if name not in wanted]
    room, chosen = width + _GAP, set()
    for name in wanted:
        # Only the name of a row may be shortened, to a third of the screen at most.
        least = widths[name] if name != wanted[0] else min(widths[name], width // 3)
        if least + _GAP <= room:
            chosen.add(name)
            room -= least + _GAP
    return [name for name in frame.columns if name in chosen]


def _shortened(frame: pd.DataFrame, width: int) -> pd.DataFrame:
    """Shorten the longest names in their middle, which tells least, until all fits."""
    widths = _widths(frame)
    over = sum(widths.values()) + _GAP * (len(widths) - 1) - width
    if over <= 0 or not widths:
        return frame
    longest = max(widths, key=lambda name: widths[name])
    room = max(_LEAST_NAME, widths[longest] - over)
    return frame.assign(**{longest: [_middle_out(str(cell), room) for cell in frame[longest]]})


def _middle_out(text: str, room: int) -> str:
    if cell_len(text) <= room:
        return text
    keep = room - 1
    return text[: keep - keep * 2 // 3] + "…" + text[len(text) - keep * 2 // 3 :]


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(text, max(20, width), subsequent_indent="  ", break_on_hyphens=False)
