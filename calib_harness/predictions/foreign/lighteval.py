"""Details of lighteval: one Parquet file per task, in ``details/ORG/MODEL/DATE``."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from calib_harness.predictions.columns import UnusableLogError
from calib_harness.predictions.foreign.scored import Question, contents_of
from calib_harness.predictions.headers import Log
from calib_harness.predictions.table import Header, LogContents

_NAME = re.compile(
    r"details_(?:[^|]*\|)?(?P<task>[^|]+)(?:\|(?P<shots>\d+))?(?:\|\d+)?_(?P<date>\d{4}-.*)"
)
_NO_SCORES = (
    "is of lighteval and holds no log-probability of each choice (a generative task), so no "
    "confidence can be computed"
)


def read_lighteval(log: Log) -> LogContents:
    """Read the details of a task.

    Raises
    ------
    UnusableLogError, OSError
        If they hold no score of each choice.
    """
    try:
        with log.file.open() as stream, pq.ParquetFile(stream) as parquet:
            rows = parquet.read().to_pylist()
    except pa.ArrowException as error:
        raise UnusableLogError(f"cannot be read ({str(error).splitlines()[0]})") from None
    if rows and not {"doc", "model_response"} <= set(rows[0]):
        raise UnusableLogError(
            "is named as details of lighteval and lacks their columns doc and model_response "
            "(lighteval 0.10 and later)"
        )
    questions = [_question(row, number) for number, row in enumerate(rows)]
    return contents_of(lighteval_header(log), questions)


def lighteval_header(log: Log) -> Header:
    """Tell what was run by the names of folder and file."""
    header = log.header
    parts = [part for part in log.file.folder.split("/") if part]
    name = _NAME.fullmatch(log.file.stem)
    if len(parts) >= 3 and "details" in parts[:-2]:
        model = "/".join(parts[len(parts) - parts[::-1].index("details") : -1])
        header = replace(header, model=model)
    if name:
        shots = name["shots"]
        header = replace(
            header, task=name["task"], date=name["date"], n_shot=int(shots) if shots else None
        )
    return header


def _question(row: dict[str, Any], number: int) -> Question:
    doc, response = row["doc"], row["model_response"]
    choices, scores = doc.get("choices") or [], response.get("logprobs") or []
    if len(choices) < 2 or len(scores) != len(choices):
        raise UnusableLogError(_NO_SCORES)
    gold = doc.get("gold_index")
    metric = row.get("metric") or {}
    return Question(
        id=str(doc.get("id") if doc.get("id") not in (None, "") else number),
        text=str(doc.get("query")),
        choices=[str(choice) for choice in choices],
        scores=[float("nan") if score is None else float(score) for score in scores],
        gold=gold if isinstance(gold, list) else [] if gold is None else [gold],
        acc=next((metric[name] for name in ("acc", "loglikelihood_acc") if name in metric), None),
        truncated=response.get("truncated_tokens_count"),
    )
