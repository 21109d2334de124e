"""Where finished runs stand: a folder, or any place that fsspec can write to.

A run is finished if its `manifest.json` is whole and every file that it lists is there in its
listed size. In a folder a run arrives by one rename; elsewhere, where there is no such thing, its
manifest arrives last.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from calib_harness.output import write_whole
from calib_harness.sweep.storing.layout import MANIFEST, RUNS, unfinished


class Store(Protocol):
    """Finished runs by name."""

    location: str

    def damage(self, name: str) -> str | None:
        """Return None for a finished run, '' for an absent one, else what is wrong with it."""

    def publish(self, folder: Path, name: str) -> None:
        """Move a run's folder in; it must hold a manifest."""

    def withdraw(self, name: str, folder: Path) -> None:
        """Move a damaged run out to `folder`, so that what is left of it can be used."""

    def read(self, name: str, file: str) -> bytes:
        """Return a file of a finished run."""

    def probe(self) -> None:
        """Raise OSError if nothing can be written here."""


def open_store(output: str) -> Store:
    """Return the store of finished runs under a sweep's output folder or URL."""
    return RemoteStore(output) if "://" in output else FolderStore(Path(output) / RUNS)


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """List a run's files with size and SHA-256 in its manifest, beside some facts about it."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            digest = hashlib.sha256()
            with path.open("rb") as stream:
                while block := stream.read(2**20):
                    digest.update(block)
            size = path.stat().st_size
            files[path.relative_to(folder).as_posix()] = [size, digest.hexdigest()]
    write_whole(folder / MANIFEST, json.dumps({**facts, "files": files}, indent=1))


def _difference(manifest: bytes, sizes: Mapping[str, int]) -> str | None:
    try:
        files = json.loads(manifest)["files"]
        wanted = {name: int(entry[0]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"its {MANIFEST} is damaged"
    for name, size in wanted.items():
        if name not in sizes:
            return f"{name} is missing"
        if sizes[name] != size:
            return f"{name} has {sizes[name]:,} bytes instead of {size:,}"
    return None


class FolderStore:
    """Finished runs in a local or shared folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.location = str(root)

    def damage(self, name: str) -> str | None:
        """See :class:`Store`."""
        folder = self._root / name
        try:
            manifest = (folder / MANIFEST).read_bytes()
        except FileNotFoundError:
            return f"its {MANIFEST} is missing" if folder.is_dir() else ""
        sizes = {}
        for parent, _, files in os.walk(folder):
            for file in files:
                path = os.path.join(parent, file)
                sizes[os.path.relpath(path, folder)] = os.stat(path).st_size
        return _difference(manifest, sizes)

    def publish(self, folder: Path, name: str) -> None:
        """See :class:`Store`."""
        self._root.mkdir(parents=True, exist_ok=True)
        target = self._root / name
        try:
            os.rename(folder, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            arriving = unfinished(self._root.parent, f".arriving-{name}-{os.getpid()}")
            shutil.copytree(folder, arriving)
            os.rename(arriving, target)
            shutil.rmtree(folder)

    def withdraw(self, name: str, folder: Path) -> None:
        """See :class:`Store`."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A run that was finished once has the fuller cache of the two.
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(self._root / name, folder)

    def read(self, name: str, file: str) -> bytes:
        """See :class:`Store`."""
        return (self._root / name / file).read_bytes()

    def probe(self) -> None:
        """See :class:`Store`."""
        self._root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._root.parent, prefix=".writable-") as probe:
            probe.write(bytes(4096))
            probe.flush()


@contextlib.contextmanager
def remote_errors(url: str) -> Iterator[None]:
    """Turn whatever a file system behind a URL raises into an OSError; each has its own errors."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{url}: {type(error).__name__}: {error}") from error


class RemoteStore:
    """Finished runs behind a URL, through fsspec; its methods raise OSError."""

    def __init__(self, url: str) -> None:
        import fsspec

        with remote_errors(url):
            self._fs, root = fsspec.core.url_to_fs(url)
        self._root = f"{root.rstrip('/')}/{RUNS}"
        self.location = f"{url.rstrip('/')}/{RUNS}"

    def damage(self, name: str) -> str | None:
        """See :class:`Store`."""
        folder = f"{self._root}/{name}"
        try:
            with remote_errors(self.location):
                self._fs.invalidate_cache()
                found = self._fs.find(folder, detail=True)
        except FileNotFoundError:
            return ""
        if not found:
            return ""
        # Some file systems list names with a leading slash or a bucket; all end alike.
        sizes = {path.split(f"{name}/", 1)[1]: info["size"] for path, info in found.items()}
        if MANIFEST not in sizes:
            return "its transfer was cut off"
        return _difference(self.read(name, MANIFEST), sizes)

    def publish(self, folder: Path, name: str) -> None:
        """See :class:`Store`."""
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        for path in sorted(paths, key=lambda path: path.name == MANIFEST):
            target = f"{self._root}/{name}/{path.relative_to(folder).as_posix()}"
            with remote_errors(self.location):
                self._fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
                self._fs.put_file(str(path), target)
        shutil.rmtree(folder)

    def withdraw(self, name: str, folder: Path) -> None:
        """See :class:`Store`."""
        with remote_errors(self.location):
            if not folder.exists():
                # Without a rename a transfer may be cut off: what lies here is then the fuller one.
                self._fs.get(f"{self._root}/{name}/", f"{folder}/", recursive=True)
            self._fs.rm(f"{self._root}/{name}", recursive=True)

    def read(self, name: str, file: str) -> bytes:
        """See :class:`Store`."""
        with remote_errors(self.location):
            content: bytes = self._fs.cat_file(f"{self._root}/{name}/{file}")
        return content

    def probe(self) -> None:
        """See :class:`Store`."""
        path = f"{self._root}/.writable-{uuid.uuid4().hex[:8]}"
        with remote_errors(self.location):
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(path, b"x")
            self._fs.rm_file(path)
