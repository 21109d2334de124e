"""Predictions of OLMES: one JSON line per question, the sums of each choice under model_output."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from calib_harness.predictions.columns import NoSampleLogError, UnusableLogError
from calib_harness.predictions.foreign.scored import Question, contents_of
from calib_harness.predictions.headers import Log
from calib_harness.predictions.records import read_records
from calib_harness.predictions.table import Header, LogContents

_NAME = re.compile(r"(?:task-\d+-)?(?P<task>.+)-predictions")


def read_olmes(log: Log) -> LogContents:
    """Read a task's predictions, and from the metrics beside them model and shots.

    Raises
    ------
    UnusableLogError, OSError
        If they hold no score of each choice.
    """
    requests = _requests(log)
    questions: list[Question] = []
    problems: list[str] = []
    with log.file.open() as stream:
        for record in read_records(stream):
            if record.problem:
                problems.append(f"{record.place} was skipped: {record.problem}")
                continue
            try:
                row = json.loads(record.data)
                if not questions and "model_output" not in row:
                    raise NoSampleLogError("has no model_output, so OLMES did not write it")
                questions.append(_question(row, requests))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UnusableLogError(
                    f"is named as predictions of OLMES and is not written as they are "
                    f"({record.place}: {type(error).__name__} {error})"
                ) from None
    contents = contents_of(olmes_header(log), questions)
    return replace(contents, problems=(*problems, *contents.problems))


def _question(row: dict[str, Any], requests: dict[Any, list[dict[str, Any]]]) -> Question:
    outputs = row["model_output"]
    if len(outputs) < 2 or any("sum_logits" not in output for output in outputs):
        raise UnusableLogError(
            "is of OLMES and holds no score of each choice (a generative task), so no confidence "
            "can be computed"
        )
    asked = requests.get(row["doc_id"], [])
    texts = [str(request.get("continuation", "")) for request in asked]
    sized = len(texts) == len(outputs)
    if not sized:
        texts = [
            f"choice {k} of a question whose requests are not there" for k in range(len(outputs))
        ]
    metrics = row.get("metrics") or {}
    label = row.get("label", metrics.get("correct_choice"))
    gold = label if isinstance(label, list) else [] if label is None else [int(label)]
    name = row["doc_id"] if row.get("native_id") is None else row["native_id"]
    context = str(asked[0].get("context", "")) if asked else ""
    return Question(
        id=str(name),
        text=context or str(name),
        choices=texts,
        scores=[float(output["sum_logits"]) for output in outputs],
        gold=gold,
        acc=metrics.get("acc_raw"),
        sized=sized,
    )


def _requests(log: Log) -> dict[Any, list[dict[str, Any]]]:
    """Return the requests of each question, from the file beside the predictions if it is there."""
    path = log.file.path.replace("-predictions.jsonl", "-requests.jsonl")
    found: dict[Any, list[dict[str, Any]]] = {}
    if path == log.file.path or not log.file.fs.exists(path):
        return found
    with log.file.fs.open(path, "rb") as stream:
        for record in read_records(stream):
            if not record.problem:
                row = json.loads(record.data)
                found.setdefault(row.get("doc_id"), []).append(row.get("request") or {})
    return found


def olmes_header(log: Log) -> Header:
    """Tell what was run by the file's name and the metrics beside it."""
    name = _NAME.fullmatch(log.file.stem)
    header = replace(log.header, task=name["task"] if name else log.header.task)
    path = log.file.path.replace("-predictions.jsonl", "-metrics.json")
    if path == log.file.path or not log.file.fs.exists(path):
        return header
    with log.file.fs.open(path, "rb") as stream:
        metrics = json.load(stream)
    model = metrics.get("model_config") or {}
    task = metrics.get("task_config") or {}
    shots = task.get("num_shots")
    return replace(
        header,
        model=str(model.get("model") or header.model),
        revision=model.get("revision") or None,
        n_shot=shots if isinstance(shots, int) else header.n_shot,
        chat_template=task.get("use_chat_format"),
    )
