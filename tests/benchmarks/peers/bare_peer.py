"""No queue and nothing stored: what asyncio and aiohttp reach by themselves, on uvloop."""

import asyncio
import os
import time

import aiohttp
import psutil
import uvloop

from tests.benchmarks.peers.calling import BODY, HEADERS, text_of
from tests.benchmarks.peers.driver import Options, answer, options


async def _run(asked: Options) -> dict[str, float]:
    slots, tasks = int(asked["slots"]), int(asked["tasks"])
    left = iter(range(tasks))
    me = psutil.Process(os.getpid())
    connector = aiohttp.TCPConnector(limit=slots)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def slot() -> None:
            for _ in left:
                async with session.post(f"{asked['endpoint']}/chat/completions", data=BODY, headers=HEADERS) as got:
                    text_of(await got.read())

        before, began = sum(me.cpu_times()[:2]), time.perf_counter()
        await asyncio.gather(*(slot() for _ in range(slots)))
        seconds, spent = time.perf_counter() - began, sum(me.cpu_times()[:2]) - before
    return {
        "tasks/s": tasks / seconds,
        "worker CPU a task [ms]": 1000 * spent / tasks,
        "worker memory [MB]": me.memory_info().rss / 2**20,
    }


if __name__ == "__main__":
    answer(**uvloop.run(_run(options())))
