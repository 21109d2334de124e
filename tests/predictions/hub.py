"""A stand-in for the Hugging Face Hub: as much of its API as reading a data set asks for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

#: What the Hub answers for a data set that is not there, or not shown without a token.
_REFUSALS = {"absent": (401, "RepoNotFound"), "gated": (403, "GatedRepo")}
_COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    datasets: Mapping[str, Path] = {}
    gated: frozenset[str] = frozenset()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        api, _, rest = path.partition("/datasets/")
        parts = rest.split("/")
        name = "/".join(parts[:2])
        if name not in self.datasets:
            self._refuse("absent")
        elif name in self.gated:
            self._refuse("gated")
        elif not api:  # datasets/ORG/NAME/resolve/REVISION/PATH
            self._send_file(self.datasets[name] / "/".join(parts[4:]))
        elif parts[2:3] == ["tree"]:
            self._send_json(self._tree(self.datasets[name], "/".join(parts[4:])))
        else:
            self._send_json({"id": name, "sha": _COMMIT, "private": False, "tags": []})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        asked = json.loads(self.rfile.read(length))["paths"]
        name = "/".join(unquote(self.path).split("/")[3:5])
        root = self.datasets[name]
        self._send_json([self._info(root, root / path) for path in asked if (root / path).exists()])

    def _tree(self, root: Path, below: str) -> list[dict]:
        return [self._info(root, path) for path in sorted((root / below).rglob("*"))]

    @staticmethod
    def _info(root: Path, path: Path) -> dict:
        own = {"path": path.relative_to(root).as_posix(), "size": 0, "type": "directory"}
        if path.is_file():
            own |= {"type": "file", "size": path.stat().st_size}
        return own | {"oid": hashlib.sha1(str(path).encode()).hexdigest()}

    def _refuse(self, why: str) -> None:
        status, code = _REFUSALS[why]
        self._send(b"{}", status, {"X-Error-Code": code})

    def _send_json(self, content: object) -> None:
        self._send(json.dumps(content).encode(), 200, {"Content-Type": "application/json"})

    def _send_file(self, path: Path) -> None:
        data = path.read_bytes()
        wanted = self.headers.get("Range")
        if wanted is None:
            self._send(data, 200, {})
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        place = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self._send(part, 206, {"Content-Range": place})

    def _send(self, data: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests' output is theirs."""


@contextmanager
def hub(datasets: Mapping[str, Path], gated: frozenset[str] = frozenset()) -> Iterator[str]:
    """Serve folders as data sets of the Hub; gives the address to use as its end point."""
    handler = type("Handler", (_Handler,), {"datasets": datasets, "gated": gated})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
