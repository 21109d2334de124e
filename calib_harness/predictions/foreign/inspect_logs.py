"""Logs of inspect_ai (``.eval``, ``.json``): multiple choice with log-probabilities of tokens."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any

import msgspec
import numpy as np
import pyarrow as pa

from calib_harness.core.confidence import LETTERS
from calib_harness.predictions.columns import UnusableLogError
from calib_harness.predictions.foreign.scored import Question, confidences_of, contents_of
from calib_harness.predictions.headers import Log
from calib_harness.predictions.table import Header, LogContents


class _Head(msgspec.Struct):
    """What a log says of the whole run; the samples after it are skipped."""

    eval: dict[str, Any]


_HEAD = msgspec.json.Decoder(_Head)
_ZSTANDARD = 93  # method of the zip format
_MOST_BYTES = 2**30  # of one sample, unpacked
_RIGHT = {"C": 1.0, "I": 0.0}


def read_inspect(log: Log) -> LogContents:
    """Read an evaluation: letters among the alternatives of the answer's token, or a confidence.

    A question has scores if the log holds an alternative for each of its letters at the place
    where the answer was generated; else the sample's scores may hold a ``confidence``. That the
    letters mean the choices in the order given is checked on the logged correctness: a solver
    that shuffles them logs the letters as shown.

    Raises
    ------
    UnusableLogError, OSError
        If it holds neither.
    """
    try:
        header = inspect_header(log)
        read = [(_question(sample), _confidence(sample)) for sample in _samples(log)]
        known = [question for question, _ in read if question is not None]
        if known:
            contents = contents_of(header, known)
            absent = len(read) - len(known)
            said = (
                f"{absent} of {len(read)} samples were skipped: they hold no log-probability of "
                "each letter",
            )
            return replace(contents, problems=(*contents.problems, *(said if absent else ())))
        rated = [confidence for _, confidence in read]
        if any(not math.isnan(confidence) for _, confidence, _ in rated):
            ids, confidence, correct = zip(*rated, strict=True)
            return confidences_of(header, ids, confidence, correct)
    except (ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, OSError) as error:
        raise UnusableLogError(
            f"is named as a log of inspect_ai and is not written as they are "
            f"({type(error).__name__} {error})"
        ) from None
    raise UnusableLogError(
        "is of inspect_ai and holds neither log-probabilities of its letters (run it with "
        "--logprobs --top-logprobs 20) nor a confidence of its answers"
    )


def inspect_header(log: Log) -> Header:
    """Tell what was run: by one member of an archive, or the first key of a JSON file."""
    with log.file.open() as stream:
        if stream.read(2) == b"PK":
            archive = zipfile.ZipFile(stream)
            return _header(log, _head(archive, stream))
    data = log.file.read()
    try:
        return _header(log, msgspec.to_builtins(_HEAD.decode(data)))
    except msgspec.DecodeError:  # it holds NaN, as of a standard error, which is no JSON
        return _header(log, json.loads(data))


def _samples(log: Log) -> Iterator[dict[str, Any]]:
    """Yield the samples of a zip archive, one in memory at a time, or of one JSON object."""
    with log.file.open() as stream:
        if stream.read(2) == b"PK":
            archive = zipfile.ZipFile(stream)
            for info in archive.infolist():
                if info.filename.startswith("samples/") and info.filename.endswith(".json"):
                    yield json.loads(_member(archive, stream, info))
            return
    yield from json.loads(log.file.read())["samples"] or []


def _head(archive: zipfile.ZipFile, stream: IO[bytes]) -> dict[str, Any]:
    names = archive.namelist()
    head = "header.json" if "header.json" in names else "_journal/start.json"
    found: dict[str, Any] = json.loads(_member(archive, stream, archive.getinfo(head)))
    return found


def _member(archive: zipfile.ZipFile, stream: IO[bytes], info: zipfile.ZipInfo) -> bytes:
    """Return a file of an archive, which may be compressed by Zstandard: zipfile knows no such."""
    if info.file_size > _MOST_BYTES:
        raise UnusableLogError(f"holds {info.filename}, which unpacks to {info.file_size} bytes")
    if info.compress_type != _ZSTANDARD:
        return archive.read(info)
    stream.seek(info.header_offset + 26)
    n_name, n_extra = struct.unpack("<HH", stream.read(4))
    stream.seek(n_name + n_extra, io.SEEK_CUR)
    return bytes(pa.decompress(stream.read(info.compress_size), info.file_size, codec="zstd"))


def _header(log: Log, head: dict[str, Any]) -> Header:
    run = head["eval"]
    return replace(
        log.header,
        model=str(run["model"]),
        task=str(run["task"]),
        date=str(run.get("created", ""))[:19],
        task_version=str(run.get("task_version", "")) or None,
    )


def _question(sample: dict[str, Any]) -> Question | None:
    choices = sample.get("choices") or []
    letters = LETTERS[: len(choices)]
    found = _letter_scores(sample, letters)
    if len(letters) < 2 or found is None:
        return None
    answer, scores = found
    target = sample["target"]
    names = target if isinstance(target, list) else list(str(target))  # "AC": A and C
    text = sample["input"]
    return Question(
        id=f"{sample['id']} {sample.get('epoch', 1)}",
        text=text if isinstance(text, str) else json.dumps(text),
        choices=list(letters),
        scores=scores,
        gold=[letters.index(name) for name in names] if set(names) <= set(letters) else [],
        answer=letters.index(answer),
        acc=_RIGHT.get(str(((sample.get("scores") or {}).get("choice") or {}).get("value"))),
    )


def _letter_scores(
    sample: dict[str, Any], letters: tuple[str, ...]
) -> tuple[str, list[float]] | None:
    """Return the letter that was generated last, and the log-probability of each letter there.

    A letter's probability is the sum of its tokens', with and without a space before it.
    """
    answers = (sample.get("output") or {}).get("choices") or []
    tokens = ((answers[0].get("logprobs") or {}).get("content") or []) if answers else []
    for token in reversed(tokens):  # what the model says last is its answer
        answer = token["token"].strip()
        if answer in letters:
            found: dict[str, list[float]] = {}
            for other in token.get("top_logprobs") or []:
                found.setdefault(other["token"].strip(), []).append(float(other["logprob"]))
            if not set(letters) <= set(found):
                return None
            return answer, [float(np.logaddexp.reduce(found[letter])) for letter in letters]
    return None


def _confidence(sample: dict[str, Any]) -> tuple[str, float, float]:
    """Name, confidence and correctness of a sample, from the first score that tells both."""
    name = f"{sample['id']} {sample.get('epoch', 1)}"
    for score in (sample.get("scores") or {}).values():
        confidence = (score.get("metadata") or {}).get("confidence")
        value = score.get("value")
        hit = _RIGHT.get(value) if isinstance(value, str) else value
        if isinstance(confidence, (int, float)) and hit in (0, 1):
            return name, float(confidence), float(hit)
    return name, math.nan, math.nan
