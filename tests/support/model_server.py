"""A model endpoint for tests: a real HTTP server that speaks the OpenAI wire format, and misbehaves on request.

`python -m tests.support.model_server --port 9001 --delay 1.0` starts one by hand.
"""

import argparse
import asyncio
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from jobs.providers.base import EmbeddingRequest
from jobs.providers.offline import OfflineProvider
from tests.support.serving import MOST_BYTES, serving

Kind = Literal["answer", "error", "echo", "drop", "hang", "garbage", "cut"]


@dataclass(frozen=True)
class Behaviour:
    """How to treat one call: answer (after `delay` seconds), an error status, or worse.

    pause: seconds before each piece of a stream. drop: the connection is closed without an answer; hang: nothing
    ever comes; echo: an error that repeats the request's headers; garbage: 200 with what is not JSON; cut: a stream
    that ends in the middle.
    """

    kind: Kind = "answer"
    delay: float = 0.0
    pause: float = 0.0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)


class ModelServer:
    """Answers `echo: <last message>`, or `answer` where set; `script` has the next calls' behaviours, then `usual`.

    With a `capacity`, calls beyond so many at once are refused: 429, `Retry-After: 2`.
    """

    def __init__(self, usual: Behaviour | None = None, padding: int = 0) -> None:
        self.usual = usual or Behaviour()
        self.answer: str | None = None
        self.script: deque[Behaviour] = deque()
        self.calls: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.abandoned = 0
        self.capacity: int | None = None
        self.refused = 0
        self._padding = " " + "x" * padding if padding else ""

    def application(self) -> web.Application:
        """The server's app."""
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_post("/v1/chat/completions", self._called)
        app.router.add_post("/v1/embeddings", self._called)
        return app

    async def _called(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.calls.append(body)
        self.keys.append(request.headers.get("Authorization"))
        behaviour = self.script.popleft() if self.script else self.usual
        if self.capacity is not None and self.in_flight >= self.capacity:
            self.refused += 1
            behaviour = Behaviour("error", status=429, headers={"Retry-After": "2"})
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._behave(request, body, behaviour)
        except (asyncio.CancelledError, ConnectionResetError):
            self.abandoned += 1
            raise
        finally:
            self.in_flight -= 1

    async def _behave(self, request: web.Request, body: dict[str, Any], behaviour: Behaviour) -> web.StreamResponse:
        if behaviour.delay:
            await asyncio.sleep(behaviour.delay)
        if behaviour.kind == "hang":
            await asyncio.sleep(3600)
        if behaviour.kind == "drop":
            assert request.transport
            request.transport.close()
            raise ConnectionResetError
        if behaviour.kind == "garbage":
            return web.Response(text="<html>not what you asked for</html>", content_type="text/html")
        if behaviour.kind == "echo":
            said = {"error": {"message": f"Is this a key? {dict(request.headers)} {request.headers['Authorization']}"}}
            return web.json_response(said, status=behaviour.status)
        if behaviour.kind == "error":
            error = {"error": {"message": "scripted failure", "type": "server_error", "param": None, "code": None}}
            return web.json_response(error, status=behaviour.status, headers=behaviour.headers)
        if "input" in body:
            return await self._embed(body)
        text = self.answer or f"echo: {body['messages'][-1]['content']}{self._padding}"
        if body.get("stream"):
            return await self._stream(request, body["model"], text, behaviour)
        return web.json_response(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "model": body["model"],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                "usage": _usage(text),
            }
        )

    async def _embed(self, body: dict[str, Any]) -> web.Response:
        """As near each other as the offline provider's; the last comes first, for `index` to tell."""
        wanted = EmbeddingRequest(body["model"], body["input"], body.get("dimensions"))
        vectors = (await OfflineProvider().embed(wanted)).vectors
        data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
        usage = {"prompt_tokens": 2 * len(vectors), "total_tokens": 2 * len(vectors)}
        return web.json_response({"object": "list", "data": data[::-1], "model": body["model"], "usage": usage})

    async def _stream(self, request: web.Request, model: str, text: str, behaviour: Behaviour) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def send(**chunk: Any) -> None:
            document = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": model, **chunk}
            await response.write(f"data: {json.dumps(document)}\n\n".encode())

        for start in range(0, len(text), 4):
            await asyncio.sleep(behaviour.pause)
            delta = {"content": text[start : start + 4]}
            await send(choices=[{"index": 0, "delta": delta, "finish_reason": None}])
            if behaviour.kind == "cut" and start > len(text) // 2:
                return response
        await send(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        await send(choices=[], usage=_usage(text))
        await response.write(b"data: [DONE]\n\n")
        return response

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve on a free port from a thread; yields the base URL for LLM_BASE_URL."""
        with serving(self.application()) as url:
            yield f"{url}/v1"


def _usage(text: str) -> dict[str, int]:
    return {"prompt_tokens": 5, "completion_tokens": len(text) // 4, "total_tokens": 5 + len(text) // 4}


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--padding", type=int, default=0, help="bytes added to each answer")
    chosen = parser.parse_args()
    server = ModelServer(Behaviour(delay=chosen.delay), padding=chosen.padding)
    web.run_app(
        server.application(), host="127.0.0.1", port=chosen.port, access_log=None, backlog=4096, print=None,
        handler_cancellation=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
