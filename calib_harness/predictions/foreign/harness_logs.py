"""Logs of other harnesses: found by their names, each read by a function of its own."""

from __future__ import annotations

import re
from collections.abc import Callable

from calib_harness.predictions.files import File
from calib_harness.predictions.foreign.helm import read_helm
from calib_harness.predictions.foreign.inspect_logs import read_inspect
from calib_harness.predictions.foreign.lighteval import read_lighteval
from calib_harness.predictions.foreign.olmes import read_olmes
from calib_harness.predictions.headers import Log
from calib_harness.predictions.table import LogContents

Reader = Callable[[Log], LogContents]

#: File names of other harnesses.
READERS: tuple[tuple[re.Pattern[str], Reader], ...] = (
    (re.compile(r"details_.*\.parquet$"), read_lighteval),
    (re.compile(r".*\.eval$"), read_inspect),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d[-:]\d\d[-:]\d\d.*\.json$"), read_inspect),
    (re.compile(r"scenario_state\.json$"), read_helm),
    (re.compile(r"(.*-)?predictions\.jsonl$"), read_olmes),
)


def reader_of(file: File) -> Reader | None:
    """Return the function that reads a file of another harness; None if it is of none."""
    return next((read for name, read in READERS if name.fullmatch(file.name)), None)
