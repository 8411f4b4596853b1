"""Somebody who is called back, or told of alerts: a real HTTP server that keeps what it got and answers as told."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web


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
        loop = asyncio.new_event_loop()
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/{path:.*}", self._take)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)

        async def start() -> int:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port: int = runner.addresses[0][1]
            return port

        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()
