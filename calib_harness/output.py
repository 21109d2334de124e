"""Where a page or a figure is to be written: checked before all the work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from calib_harness.errors import UserError


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
