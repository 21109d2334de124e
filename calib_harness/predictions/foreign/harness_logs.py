"""Logs of other harnesses: found by their names, each read by functions of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from calib_harness.predictions.files import File
from calib_harness.predictions.foreign.helm import helm_header, read_helm
from calib_harness.predictions.foreign.inspect_logs import inspect_header, read_inspect
from calib_harness.predictions.foreign.lighteval import lighteval_header, read_lighteval
from calib_harness.predictions.foreign.olmes import olmes_header, read_olmes
from calib_harness.predictions.headers import Log
from calib_harness.predictions.table import Header, LogContents


class Harness(NamedTuple):
    """One harness's logs.

    Attributes
    ----------
    name : re.Pattern
        Of their files.
    header : callable
        What was run, as far as it is told without reading predictions.
    read : callable
        What a log holds.
    """

    name: re.Pattern[str]
    header: Callable[[Log], Header]
    read: Callable[[Log], LogContents]


HARNESSES = (
    Harness(re.compile(r"details_.*\.parquet"), lighteval_header, read_lighteval),
    Harness(re.compile(r".*\.eval"), inspect_header, read_inspect),
    Harness(
        re.compile(r"\d{4}-\d\d-\d\dT\d\d[-:]\d\d[-:]\d\d.*\.json"), inspect_header, read_inspect
    ),
    Harness(re.compile(r"scenario_state\.json"), helm_header, read_helm),
    Harness(re.compile(r"(.*-)?predictions\.jsonl"), olmes_header, read_olmes),
)


def harness_of(file: File) -> Harness | None:
    """Return the harness whose logs are named as a file is; None if there is none."""
    return next((one for one in HARNESSES if one.name.fullmatch(file.name)), None)


def may_be_table(file: File) -> bool:
    """Whether a file's name leaves open that it is a table: no log of lm-eval's, or another's."""
    named_as_log = file.name.startswith("samples_") or harness_of(file) is not None
    return not named_as_log or file.name.endswith("predictions.jsonl")


def with_header(log: Log) -> Log:
    """Return a log with what its harness says was run, so that repetitions and tasks are known.

    A file that is not written as its name says keeps what its name tells; reading it says why.
    """
    harness = harness_of(log.file)
    if harness is None:
        return log
    try:
        return replace(log, header=harness.header(log))
    except Exception:  # whatever a stranger's file does; its reader says what is wrong with it
        return log
