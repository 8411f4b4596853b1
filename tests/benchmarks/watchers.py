"""What watchers cost: `python -m tests.benchmarks.watchers` starts one web process and prints a table.

For so many event streams open at once: how long creating a task takes (ms: median, 95%, most), and the memory and
threads of the web process. In the last row all of them watch one task whose text comes in all the time.
"""

import asyncio
import contextlib
import statistics
import threading
import time
from collections.abc import Iterator

import psutil

from tests.support.instance import Instance, fresh_directory, running
from tests.support.model_server import Behaviour, ModelServer
from tests.support.waiting import wait_until

_CREATES = 300


class Crowd:
    """Many watchers in one thread, which only count what they are sent."""

    def __init__(self, port: int, paths: list[str]) -> None:
        self.heard = [0] * len(paths)
        self._port = port
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._watchers = [
            asyncio.run_coroutine_threadsafe(self._watch(position, path), self._loop)
            for position, path in enumerate(paths)
        ]

    async def _watch(self, position: int, path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
        while data := await reader.read(65_536):
            self.heard[position] += data.count(b"event: ")
        writer.close()


def creating(instance: Instance) -> list[float]:
    """How long each of many creations took, in ms, sorted."""
    taken = []
    for _ in range(_CREATES):
        began = time.perf_counter()
        instance.submit("hello", priority=1)
        taken.append(1000 * (time.perf_counter() - began))
    return sorted(taken)


@contextlib.contextmanager
def _instance() -> Iterator[tuple[Instance, ModelServer]]:
    model = ModelServer()
    with (
        fresh_directory(on_disk=True) as directory,
        model.serving() as url,
        running(directory / "data", LLM_BASE_URL=url, APP_ENV="development", LOG_LEVEL="WARNING") as instance,
    ):
        yield instance, model


def _row(name: str, instance: Instance) -> None:
    taken = creating(instance)
    web = max(instance.find("gunicorn").children(), key=lambda process: process.memory_info().rss)
    assert isinstance(web, psutil.Process)
    figures = statistics.median(taken), taken[int(0.95 * len(taken))], taken[-1]
    memory = web.memory_info().rss / 2**20
    print(f"{name:<34}" + "".join(f"{figure:8.1f}" for figure in figures) + f"{memory:8.0f}{web.num_threads():8d}")


def main() -> None:
    """Measure and print."""
    print(f"{'watchers':<34}{'median':>8}{'95%':>8}{'most':>8}{'MB':>8}{'threads':>8}")
    with _instance() as (instance, model):
        creating(instance)  # warm
        _row("0", instance)
        waiting = [instance.submit(delay_seconds=3600)["id"] for _ in range(200)]
        crowd = Crowd(instance.port, [f"/api/v1/tasks/{task_id}/events" for task_id in waiting])
        wait_until(lambda: min(crowd.heard) > 0, "all watch")
        _row("200, of 200 waiting tasks", instance)
        model.answer, model.usual = "word " * 4000, Behaviour(pause=0.02)
        talking = instance.submit("talk", stream=True, priority=10, timeout_seconds=600)["id"]
        busy = Crowd(instance.port, [f"/api/v1/tasks/{talking}/events"] * 49)
        wait_until(lambda: min(busy.heard) > 5, "all hear the text")
        _row("249, of them 49 of one that talks", instance)
    with _instance() as (instance, model):
        creating(instance)
        model.answer, model.usual = "word " * 8000, Behaviour(pause=0.02)
        talking = instance.submit("talk", stream=True, priority=10, timeout_seconds=600)["id"]
        busy = Crowd(instance.port, [f"/api/v1/tasks/{talking}/events"] * 200)
        wait_until(lambda: min(busy.heard) > 5, "all hear the text")
        _row("200, all of one that talks", instance)


if __name__ == "__main__":
    main()
