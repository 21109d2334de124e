"""Find sample logs and their results files, on disk or behind any fsspec URL."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from fsspec.core import url_to_fs

from calib_harness.errors import UserError

logger = logging.getLogger(__name__)

LogsLike: TypeAlias = str | Path | Iterable[str | Path]
DATE = re.compile(r"_(\d{4}-\d{2}-\d{2}T\d{2}[-:]\d{2}[-:]\d{2}(?:\.\d+)?)$")
_DATA_SUFFIX = re.compile(r"\.(jsonl|json)(\.gz)?$")
# What other harnesses call their logs: lighteval, inspect_ai, HELM.
_FOREIGN_NAME = re.compile(
    r"details_.*\.parquet|.*\.eval|\d{4}-\d\d-\d\dT\d\d[-:]\d\d[-:]\d\d.*\.json|scenario_state\.json"
)
_HELM = "scenario_state.json"  # what else lies beside it sums up the same run
# Tables are read where they are named; in a folder they may be anything.
_TABLE_SUFFIX = re.compile(r"\.((csv|tsv)(\.gz)?|parquet)$")
_NO_LOGS = {"attempts.jsonl"}  # a sweep's history of a run, beside the run's logs
# What the various file systems call the things that change when a file does.
_VERSION_KEYS = (
    *("mtime", "ETag", "etag", "Last-Modified", "LastModified", "last_modified", "updated"),
    *("blob_id", "lfs", "sha256", "md5Hash", "content_hash"),
)
_MOST_BYTES = 2**31  # of a file that is read whole
_CHECK_URL = "check the URL, the network and your access"
HOW_TO_LOG = "run lm_eval with --log_samples and --output_path, and give that folder"


@dataclass(frozen=True)
class File:
    """One file of a tree of logs.

    Attributes
    ----------
    fs : fsspec.AbstractFileSystem
    path : str
        As `fs` knows it.
    version : str or None
        Changes whenever the file does; None if its file system cannot tell.
    """

    fs: Any
    path: str
    version: str | None

    @property
    def url(self) -> str:
        """Local path, or URL with protocol."""
        return self.path if _is_local(self.fs) else str(self.fs.unstrip_protocol(self.path))

    @property
    def is_remote(self) -> bool:
        """Whether anything but the local disk holds it; its errors are of any kind then."""
        return not _is_local(self.fs)

    @property
    def folder(self) -> str:
        """Path of the folder it lies in."""
        return posixpath.dirname(self.path)

    @property
    def name(self) -> str:
        """File name without the folder."""
        return posixpath.basename(self.path)

    @property
    def stem(self) -> str:
        """File name without ``.jsonl``, ``.json``, ``.csv`` … and ``.gz``."""
        return _TABLE_SUFFIX.sub("", _DATA_SUFFIX.sub("", self.name))

    @property
    def is_table(self) -> bool:
        """Whether the name is that of a table: ``.csv``, ``.tsv`` or ``.parquet``."""
        return _TABLE_SUFFIX.search(self.name) is not None

    @property
    def date(self) -> str:
        """Date in the file name (ISO 8601), or empty."""
        match = DATE.search(self.stem)
        if not match:
            return ""
        day, _, time = match.group(1).partition("T")
        return f"{day}T{time.replace('-', ':')}"

    @property
    def is_samples(self) -> bool:
        """Whether the name is that of a log: ``samples_*``, any ``.jsonl``, another harness's."""
        return (
            self.name.startswith("samples_")
            or _FOREIGN_NAME.fullmatch(self.name) is not None
            or re.search(r"\.jsonl(\.gz)?$", self.name) is not None
        )

    def open(self) -> IO[bytes]:
        """Open for reading, decompressed."""
        compression = "gzip" if self.name.endswith(".gz") else None
        return cast("IO[bytes]", self.fs.open(self.path, "rb", compression=compression))

    def read(self) -> bytes:
        """Whole content, decompressed, of a file that has to be read whole; an OSError if huge."""
        try:
            with self.open() as stream:
                data = stream.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise OSError(f"it is longer than {_MOST_BYTES // 2**20} MB")
            return data
        except Exception as error:
            if self.is_remote and not isinstance(error, EOFError):
                raise OSError(describe(error)) from error
            raise


def find_files(
    logs: LogsLike, storage_options: Mapping[str, Any] | None = None
) -> tuple[list[File], list[File]]:
    """Find the sample logs and the results files under `logs`.

    Parameters
    ----------
    logs : str, Path or iterable of them
        A file, a folder or an fsspec URL of either.
    storage_options : mapping, optional
        Passed to fsspec (credentials, end points).

    Returns
    -------
    samples, results : list of File
        Sorted by path. Results files beside a single log given by name are included.

    Raises
    ------
    UserError
        If nothing is there, or no sample log is.
    """
    places = [logs] if isinstance(logs, (str, Path)) else list(logs)
    if not places or "" in places:
        raise UserError("LOGS is empty: give at least one file, folder or URL of sample logs.")
    samples: dict[str, File] = {}
    results: dict[str, File] = {}
    for place in places:
        found = _find_in(str(place), dict(storage_options or {}))
        for file in found:
            is_log = file.is_samples or file.is_table or _is_array(file)
            chosen = samples if is_log else results
            chosen[file.url] = file
        if not any(file.url in samples for file in found):
            raise UserError(_nothing_found(str(place), [f for f in found if f.url in results]))
    return _sorted(samples.values()), _sorted(results.values())


def _sorted(files: Iterable[File]) -> list[File]:
    """Sort folder by folder: ``m/x`` before ``m-chat/x``."""
    return sorted(files, key=lambda file: file.path.split("/"))


def _nothing_found(place: str, results: list[File]) -> str:
    if results:
        return (
            f"LOGS {place} holds {len(results)} results file(s) but no sample log: "
            f"results alone have no predictions; {HOW_TO_LOG}."
        )
    return f"LOGS {place} holds no sample log (samples_*.jsonl): {HOW_TO_LOG}."


def _find_in(place: str, options: dict[str, Any]) -> list[File]:
    fs, root = _open_file_system(place, options)
    try:
        if _DATA_SUFFIX.search(root) or root.endswith(".eval") or _TABLE_SUFFIX.search(root):
            return _single(fs, root)
        infos = _list_local(fs, root) if _is_local(fs) else fs.find(root, detail=True)
        if not infos and not fs.exists(root):
            raise FileNotFoundError(root)
    except FileNotFoundError:
        raise UserError(f"LOGS {place} {_advice_on_absent(fs)}.") from None
    except Exception as error:
        # What a remote file system raises is its own: httpx's errors, botocore's, ...
        if _is_local(fs) and not isinstance(error, (OSError, ValueError)):
            raise
        advice = "check the path and your permissions" if _is_local(fs) else _CHECK_URL
        raise UserError(f"LOGS {place} cannot be listed ({describe(error)}); {advice}.") from error
    files = []
    for path, info in sorted(infos.items()):
        hidden = any(part.startswith(".") for part in path[len(root) :].split("/"))
        name = posixpath.basename(path)
        is_log = _DATA_SUFFIX.search(path) or _FOREIGN_NAME.fullmatch(name)
        beside_helm = name != _HELM and f"{posixpath.dirname(path)}/{_HELM}" in infos
        if is_log and not hidden and name not in _NO_LOGS and not beside_helm:
            files.append(File(fs, path, _version(fs, path, info)))
    return files


def _list_local(fs: Any, root: str) -> dict[str, Any]:
    """List the files under a folder; name the folders that may not be entered."""
    infos = fs.find(root, detail=True, withdirs=True)
    files = {}
    for path, info in infos.items():
        if info["type"] != "directory":
            files[path] = info
        elif not os.access(path, os.R_OK | os.X_OK):
            if path == root:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            logger.warning("%s was skipped: you may not read this folder", path)
    return files


def _advice_on_absent(fs: Any) -> str:
    if _is_local(fs):
        return "does not exist: give a file, folder or URL"
    if type(fs).__name__ == "HfFileSystem":  # it does not say which
        return "does not exist or is not open to you: check its name and your token ($HF_TOKEN)"
    return f"does not exist or cannot be reached: {_CHECK_URL}"


def _open_file_system(place: str, options: dict[str, Any]) -> tuple[Any, str]:
    try:
        fs, root = url_to_fs(place, **options)
    except (ImportError, ValueError) as error:
        raise UserError(f"LOGS {place} cannot be opened: {error}.") from error
    if type(fs).__name__ == "HTTPFileSystem" and not _DATA_SUFFIX.search(root):
        root = root.rstrip("/") + "/"
    return fs, root


def _single(fs: Any, path: str) -> list[File]:
    """Return a log given by name, with the results files it may belong to."""
    log = File(fs, path, _version(fs, path, fs.info(path)))
    candidates = []
    if log.is_samples:
        names = [f"results_{match.group(1)}.json"] if (match := DATE.search(log.stem)) else []
        for name in (*names, "results.json"):
            sibling = posixpath.join(log.folder, name)
            if fs.exists(sibling):
                candidates.append(File(fs, sibling, _version(fs, sibling, fs.info(sibling))))
                break
    return [log, *candidates]


def _version(fs: Any, path: str, info: Mapping[str, Any]) -> str | None:
    if type(fs).__name__ == "HTTPFileSystem" and "ETag" not in info:
        try:
            info = fs.info(path)  # a listing has no sizes and dates
        except OSError:
            return None
    found = [f"{key}={info[key]}" for key in _VERSION_KEYS if info.get(key) is not None]
    if type(fs).__name__ == "MemoryFileSystem":
        found = [f"created={info.get('created')}"]
    return f"size={info.get('size')} {' '.join(found)}" if found else None


def _is_array(file: File) -> bool:
    """Whether a ``.json`` of another name holds an array, as early sample logs do."""
    if file.name.startswith("results"):
        return False
    try:
        with file.open() as stream:
            return stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
    except (OSError, EOFError):
        return False


def _is_local(fs: Any) -> bool:
    return type(fs).__name__ == "LocalFileSystem"


def describe(error: Exception) -> str:
    """Text of an error, headed by its kind where that is needed; the file is named elsewhere."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return error.strerror
    kind, text = type(error).__name__, str(error).strip().split("\n")[0]
    return text if isinstance(error, OSError) and text else f"{kind}: {text}".rstrip(": ")


def short_hash(text: str) -> str:
    """Sixteen hexadecimal digits that stand for `text`."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
