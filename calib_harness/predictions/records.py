"""Cut a sample log into its entries: JSON lines or one JSON array, plain or gzipped."""

from __future__ import annotations

import json
import zlib
from collections.abc import Generator, Iterator
from typing import IO, NamedTuple

import msgspec

_BLOCK = 8 * 2**20
_BROKEN_OFF = (
    "the file breaks off in the middle of it "
    "(a killed run, or an unfinished copy; run or copy it again to have all questions)"
)
_LONGEST = 64 * 2**20
_TOO_LONG = f"it is longer than {_LONGEST // 2**20} MB; nothing after it was read"
_LARGEST = 2**31
_TOO_LARGE = f"the array is longer than {_LARGEST // 2**20} MB; give it as JSON lines"
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


class Record(NamedTuple):
    """One entry's bytes, or what is wrong at this place.

    Attributes
    ----------
    place : str
        ``line 17`` or ``entry 17`` (of an array), counted from 1.
    data : bytes
        Empty if `problem` is set.
    problem : str
    """

    place: str
    data: bytes
    problem: str = ""


def read_records(stream: IO[bytes]) -> Iterator[Record]:
    """Yield the entries of an open log in order; bad places are yielded, not raised."""
    blocks = _blocks(stream)
    first = next(blocks, b"")
    if isinstance(first, str):
        yield Record("line 1", b"", first)
        return
    if first.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
        yield from _array(first, blocks)
    else:
        yield from _lines(first.removeprefix(b"\xef\xbb\xbf"), blocks)


def _blocks(stream: IO[bytes]) -> Iterator[bytes | str]:
    """Read in blocks; a damaged stream ends with a sentence saying so."""
    # read1 hands out what a truncated gzip still holds; read would raise first.
    read = getattr(stream, "read1", stream.read)
    while True:
        try:
            block = read(_BLOCK)
        except (EOFError, zlib.error, OSError) as error:
            yield f"the file cannot be read further ({error}); copy it again to have all questions"
            return
        if not block:
            return
        yield block


def _lines(first: bytes, blocks: Iterator[bytes | str]) -> Iterator[Record]:
    number, rest = 0, first
    for block in blocks:
        if isinstance(block, str):
            yield from _end(rest, number, damage=block)
            return
        complete, newline, tail = block.rpartition(b"\n")
        if not newline:
            rest += block
            if len(rest) > _LONGEST:
                yield Record(f"line {number + 1}", b"", _TOO_LONG)
                return
            continue
        chunk, rest = rest + complete, tail
        number = yield from _cut(chunk, number)
    yield from _end(rest, number)


def _end(rest: bytes, number: int, damage: str = "") -> Iterator[Record]:
    """Cut what follows line `number`; its last line may break off, or the file be damaged there."""
    last = rest.rpartition(b"\n")[2]
    whole = not last.strip() or last.rstrip().endswith(b"}")
    place = yield from _cut(rest if whole else rest.removesuffix(last), number)
    if damage:
        yield Record(f"the rest {'after' if whole else 'from'} line {place}", b"", damage)
    elif not whole:
        yield Record(f"line {place}", b"", _BROKEN_OFF)


def _cut(chunk: bytes, number: int) -> Generator[Record, None, int]:
    """Cut at line feeds only: a prompt may hold every other kind of line end.

    Returns the number of the last line, which may be empty.
    """
    clean = chunk.isascii() or _is_utf8(chunk)
    for line in chunk.split(b"\n"):
        number += 1
        if not clean and not _is_utf8(line):
            yield Record(f"line {number}", b"", _not_utf8(line))
        elif line and not line.isspace():
            yield Record(f"line {number}", line)
    return number


def _array(first: bytes, blocks: Iterator[bytes | str]) -> Iterator[Record]:
    """Cut an array, decoded whole: early lm-eval wrote it so, indented."""
    parts, damage, length = [first.removeprefix(b"\xef\xbb\xbf")], "", 0
    for block in blocks:
        if isinstance(block, str):
            damage = block
            break
        length += len(block)
        if length > _LARGEST:
            yield Record("entry 1", b"", _TOO_LARGE)
            return
        parts.append(block)
    data = b"".join(parts)
    count = 0
    try:
        if not _is_utf8(data):
            raise msgspec.DecodeError(_not_utf8(data))
        for count, raw in enumerate(_ARRAY.decode(data), start=1):
            yield Record(f"entry {count}", bytes(raw))
    except msgspec.DecodeError:
        for record in _salvage(data):
            count += 1
            yield record
    if damage:
        yield Record(f"the rest after entry {count}", b"", damage)


def _salvage(data: bytes) -> Iterator[Record]:
    """Take the entries of a damaged array one by one, up to the damage."""
    text = data.decode("utf-8", errors="surrogateescape")
    decoder = json.JSONDecoder()
    position, number = text.index("[") + 1, 0
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        if position < len(text) and text[position] == "]":
            return
        number += 1
        try:
            _, end = decoder.raw_decode(text, position)
        except (json.JSONDecodeError, RecursionError):
            reason = "the array is cut off or broken here; nothing after it was read"
            yield Record(f"entry {number}", b"", reason)
            return
        entry = text[position:end].encode("utf-8", errors="surrogateescape")
        if _is_utf8(entry):
            yield Record(f"entry {number}", entry)
        else:
            yield Record(f"entry {number}", b"", _not_utf8(entry))
        position = end


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _not_utf8(data: bytes) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = f"byte 0x{data[error.start]:02x} at position {error.start}"
        return f"it is not UTF-8 text ({at}); run or copy it again to have this question"
    return ""
