"""Files that are written: where they may stand, and that they are there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from calib_harness.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell begins with to be computed


def make_ready(output: Path, suffixes: Sequence[str]) -> Path:
    """Make the folder of a file that is to be written.

    Raises
    ------
    UserError
        If the name does not end in one of `suffixes`, or no file can stand there.
    """
    if output.is_dir():
        raise UserError(f"--output {output} cannot be written (it is a folder); name a file in it.")
    if output.suffix.lower() not in suffixes:
        wanted = ", ".join(suffixes)
        raise UserError(f"--output must end in {wanted}; got {str(output)!r}.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(
            f"--output {output} cannot be written ({output.parent} is no folder)."
        ) from error
    except OSError as error:
        raise UserError(f"--output {output} cannot be written ({error.strerror}).") from error
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        raise UserError(f"--output {output} cannot be written (Permission denied).")
    return output


def csv_text(frame: pd.DataFrame) -> str:
    """Return a frame as CSV; texts that a spreadsheet would take for formulas are quoted.

    Most texts, names of models and tasks, come from logs of others.
    """
    texts = frame.select_dtypes(include=["object", "string"]).columns
    quoted = {
        name: [f"'{v}" if isinstance(v, str) and v.startswith(_FORMULA) else v for v in frame[name]]
        for name in texts
    }
    return frame.assign(**quoted).to_csv(index=False)


def write_whole(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file so that it is there whole or not at all; if `durable` also after a power cut."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with part.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
