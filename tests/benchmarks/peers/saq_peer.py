"""SAQ: coroutines in one process, on uvloop; jobs live in Redis."""

import asyncio
import sys
from typing import Any

import aiohttp
import redis.asyncio
import uvloop
from saq import Worker
from saq.queue.redis import RedisQueue

from tests.benchmarks.peers.calling import BODY, HEADERS, text_of
from tests.benchmarks.peers.driver import answer, options, performed, python
from tests.benchmarks.peers.tally import Tally

_tally = Tally()


def _queue() -> RedisQueue:
    return RedisQueue(redis.asyncio.Redis.from_url(options().redis_url, max_connections=1000), name="bench")


async def call(context: dict[str, Any]) -> str:
    """One model call."""
    _tally.begin()
    async with context["session"].post(context["url"], data=BODY, headers=HEADERS) as got:
        text = text_of(await got.read())
    _tally.end()
    return text


async def _submit(tasks: int) -> None:
    queue = _queue()
    await queue.connect()
    for start in range(0, tasks, 500):
        await asyncio.gather(*(queue.enqueue("call", timeout=60) for _ in range(min(500, tasks - start))))
    await queue.disconnect()


async def _work() -> None:
    async def begin(context: dict[str, Any]) -> None:
        context["session"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        context["url"] = f"{options()['endpoint']}/chat/completions"

    await Worker(_queue(), [call], concurrency=options()["slots"], startup=begin).start()


if __name__ == "__main__":
    if sys.argv[1] == "work":
        uvloop.run(_work())
    else:
        uvloop.run(_submit(options()["tasks"]))
        answer(**performed([python("tests.benchmarks.peers.saq_peer", "work")]))
