"""A proxy in front of a completions server that misbehaves on purpose, and keeps a record.

    python faulty_proxy.py PORT SERVER RECORD MODE [N]

MODE is one of

    pass          none
    drop_echo     only the generated token, as llama.cpp's server
    bos           one more token in front of each prompt
    null          log-probabilities null; with N in every N-th answer only
    forget        one choice fewer than prompts
    every500      every N-th request is answered 500
    hang          every N-th request is answered after 30 s
    slow          each answer comes N tenths of a second late
    half          every N-th answer is cut off in the middle
    die           ends itself after N answers
    restart       after N answers, connections are reset for 2 s

RECORD gets a line for each prompt that the server has scored: a digest of what was asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

_ONE_MORE = 50256  # GPT-2's end of text

# What a request that scores has: of the OpenAI protocol, of vLLM's own.
_SCORING = ("echo", "logprob_token_ids", "token_ids")

#: Stands for named tokens where a prompt is read from vLLM's prefix cache.
CACHED = [-1]


def digest(tokens: list[int], named: list[int] | None = None) -> str:
    """Return a short name of a prompt, and of the next tokens that are asked for by name."""
    return hashlib.sha256(json.dumps([tokens, named]).encode()).hexdigest()[:16]


class Proxy:
    """Hands requests on and answers back, with one fault."""

    def __init__(self, server: str, record: Path, mode: str, n: int) -> None:
        self._server, self._record, self._mode, self._n = server, record, mode, n
        self._count, self._down_until = 0, 0.0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        self._count += 1
        nth = bool(self._n) and self._count % self._n == 0
        if self._mode == "every500" and nth:
            return web.Response(status=500, text="injected")
        if self._mode == "die" and self._count > self._n:
            os._exit(1)
        if self._mode == "restart" and self._count == self._n:
            self._down_until = time.monotonic() + 2
        if time.monotonic() < self._down_until:
            return self._reset(request)
        if self._mode == "slow":
            await asyncio.sleep(self._n / 10)
        if self._mode == "hang" and nth:
            await asyncio.sleep(30)
        body = await request.json() if request.can_read_body else None
        status, answer = await self._ask(request, body)
        if self._mode == "half" and nth:
            return await self._cut_off(request, answer)
        if self._mode in ("null", "forget") and status == 200 and (nth or not self._n):
            answer = self._spoil(answer)
        return web.Response(status=status, body=answer, content_type="application/json")

    async def _ask(self, request: web.Request, body: dict[str, Any] | None) -> tuple[int, bytes]:
        scores = body is not None and any(body.get(key) for key in _SCORING)
        prompts = _prompts(body) if body is not None else []
        named = (body.get("logprob_token_ids") or _way(body)) if body is not None else None
        names = [digest(prompt, named) for prompt in prompts] if scores else []
        if body is not None and self._mode == "drop_echo":
            body.pop("echo", None)
        if body is not None and self._mode == "bos" and prompts:
            more = [[_ONE_MORE, *prompt] for prompt in prompts]
            body.update({"token_ids": more[0]} if _way(body) else {"prompt": more})
        url = self._server + request.path
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, url, json=body) as response,
        ):
            answer = await response.read()
        if response.status == 200 and names:
            with self._record.open("a") as record:
                record.writelines(f"{name}\n" for name in names)
        return response.status, answer

    def _spoil(self, answer: bytes) -> bytes:
        told = json.loads(answer)
        if self._mode == "forget":
            told["choices"] = told["choices"][:-1]
        if told.get("prompt_logprobs"):
            told["prompt_logprobs"] = None if self._mode == "null" else told["prompt_logprobs"][:-1]
        for choice in told["choices"]:
            if self._mode == "null":
                choice["logprobs"] = None
        return json.dumps(told).encode()

    def _reset(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.close()
        return web.Response(status=503)

    async def _cut_off(self, request: web.Request, answer: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(answer))})
        await response.prepare(request)
        await response.write(answer[: len(answer) // 2])
        if request.transport is not None:
            request.transport.close()
        return response


def _way(body: dict[str, Any]) -> list[int] | None:
    """Tell prompts of vLLM's endpoint of tokens from others in the record."""
    return CACHED if "token_ids" in body else None


def _prompts(body: dict[str, Any]) -> list[list[int]]:
    prompt = body.get("token_ids") or body["prompt"]
    if isinstance(prompt, str):
        return []
    return prompt if isinstance(prompt[0], list) else [prompt]


def main() -> None:
    port, server, record, mode, *rest = sys.argv[1:]
    proxy = Proxy(server, Path(record), mode, int(rest[0]) if rest else 0)
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{tail:.*}", proxy.handle)
    web.run_app(app, host="127.0.0.1", port=int(port), print=None)


if __name__ == "__main__":
    main()
