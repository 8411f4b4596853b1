"""Somebody who is called back, or told of alerts: a real HTTP server that keeps what it got and answers as told."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from tests.support.serving import MOST_BYTES, serving


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return orjson.loads(self.body)


class Receiver:
    """Answers each call with the next of `script`, then `usual`: a status, or one with headers; 0 is never."""

    def __init__(self) -> None:
        self.usual = 200
        self.script: deque[int | tuple[int, dict[str, str]]] = deque()
        self.answer = b""
        self.got: list[Got] = []

    async def _take(self, request: web.Request) -> web.Response:
        # Header names as they are looked up by standardwebhooks.
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append(Got(request.path_qs, headers, await request.read()))
        told = self.script.popleft() if self.script else self.usual
        status, more = told if isinstance(told, tuple) else (told, {})
        if not status:
            await asyncio.sleep(3600)
        return web.Response(status=status, headers=more, body=self.answer)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve on a free port of 127.0.0.1 from a thread; yields the base URL."""
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_post("/{path:.*}", self._take)
        with serving(app) as url:
            yield url
