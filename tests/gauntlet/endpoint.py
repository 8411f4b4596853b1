"""The model endpoint of the gauntlet: counts who is asked how often, and has moods.

`python -m tests.gauntlet.endpoint PORT SEED`. `PUT /mood/NAME` sets one of: well, hang, drop, garbage, busy, broken.
`GET /counts` tells, by what was asked, how often that was `begun` and `answered`, and what was asked `twice` at once.
"""

import asyncio
import json
import random
import re
import sys
from collections import Counter
from typing import Any

from aiohttp import web

TAG = re.compile(r"tag-[0-9a-z-]+")


class Endpoint:
    """Answers `echo: <last message>`, or a JSON document with the tag of what it was asked."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._mood = "well"
        self._begun: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._in_flight: Counter[str] = Counter()
        self._twice: Counter[str] = Counter()

    def application(self) -> web.Application:
        """Its app."""
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_put("/mood/{name}", self._set_mood)
        app.router.add_get("/counts", self._counts)
        return app

    async def _set_mood(self, request: web.Request) -> web.Response:
        self._mood = request.match_info["name"]
        return web.Response()

    async def _counts(self, _request: web.Request) -> web.Response:
        return web.json_response({"begun": self._begun, "answered": self._answered, "twice": self._twice})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked = body["messages"][-1]["content"]
        self._begun[asked] += 1
        # What names no task may well be asked by two of them.
        if self._in_flight[asked] and TAG.search(asked):
            self._twice[asked] += 1
        self._in_flight[asked] += 1
        try:
            return await self._behave(request, body, asked)
        finally:
            self._in_flight[asked] -= 1

    async def _behave(self, request: web.Request, body: dict[str, Any], asked: str) -> web.StreamResponse:
        mood = self._mood
        await asyncio.sleep(self._random.uniform(0.05, 0.8))
        if mood == "hang":
            await asyncio.sleep(3600)
        if mood == "drop":
            assert request.transport
            request.transport.close()
            raise ConnectionResetError
        if mood == "garbage":
            return web.Response(text=self._random.choice(["<html>", '{"choices": [{}]}', "[]", "{", '{"choices": 7}']))
        if mood == "busy":
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "1"})
        if mood == "broken":
            return web.json_response({"error": {"message": "broken"}}, status=self._random.choice([500, 502, 503]))
        text = f"echo: {asked}"
        if "response_format" in body:
            found = TAG.search(asked)
            tag = found[0] if found else "none"
            text = json.dumps(
                {
                    "title": "t", "body": "b", "kind": "k", "language": "en", "summary": tag, "key_points": [],
                    "topics": [],
                }
            )  # fmt: skip
        self._answered[asked] += 1
        return web.json_response(
            {
                "id": "1",
                "object": "chat.completion",
                "model": body["model"],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
            }
        )


if __name__ == "__main__":
    web.run_app(
        Endpoint(int(sys.argv[2])).application(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None,
        handler_cancellation=True, backlog=2048,
    )  # fmt: skip
