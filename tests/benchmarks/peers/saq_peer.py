"""SAQ: coroutines in one process, on uvloop; jobs live in Redis."""

import asyncio
from typing import Any

import aiohttp
import redis.asyncio
import uvloop
from saq import Worker
from saq.queue.redis import RedisQueue

from tests.benchmarks.peers.calling import BODY, HEADERS, text_of
from tests.benchmarks.peers.driver import Options, answer, asked, inherited, performed, python
from tests.benchmarks.peers.tally import Tally

_tally = Tally()


def _queue(options: Options) -> RedisQueue:
    return RedisQueue(redis.asyncio.Redis.from_url(options.redis_url, max_connections=1000), name="bench")


async def call(context: dict[str, Any]) -> str:
    """One model call."""
    _tally.begin()
    async with context["session"].post(context["url"], data=BODY, headers=HEADERS) as got:
        text = text_of(await got.read())
    _tally.end()
    return text


async def noop(_: dict[str, Any]) -> None:
    """Nothing."""
    _tally.begin()
    _tally.end()


async def _submit(load: str, options: Options) -> None:
    queue = _queue(options)
    await queue.connect()
    name = "call" if load == "llm" else "noop"
    for start in range(0, options["tasks"], 500):
        count = min(500, options["tasks"] - start)
        await asyncio.gather(*(queue.enqueue(name, timeout=60) for _ in range(count)))
    await queue.disconnect()


async def _work() -> None:
    options = inherited()

    async def begin(context: dict[str, Any]) -> None:
        context["session"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        context["url"] = f"{options['endpoint']}/chat/completions"

    await Worker(_queue(options), [call, noop], concurrency=options["slots"], startup=begin).start()


def _main() -> None:
    load, options = asked()
    if load == "work":
        uvloop.run(_work())
        return
    uvloop.run(_submit(load, options))
    answer(**performed([python("tests.benchmarks.peers.saq_peer", "work", "{}")], options))


if __name__ == "__main__":
    _main()
