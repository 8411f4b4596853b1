"""Members of the process lane: kept while they are good, replaced when not, ended when their task is."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

import psutil
import pytest

from jobs.lanes.processes import Processes
from tests.support.contexts import context_for
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDLER_MODULES", "tests.support.lane_handlers")


def play(story: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(story)


async def pid(lane: Processes, what: str = "report") -> int:
    context = context_for(task_type="in_process", input={"what": what, "seconds": 0})
    result = await lane.run(context, {})
    return int(result["pid"])


def test_a_member_is_used_again_until_it_has_done_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.lanes.processes.TASKS_EACH", 2)

    async def story() -> list[int]:
        lane = Processes(memory_limit_mb=4096)
        pids = [await pid(lane) for _ in range(3)]
        await lane.close()
        return pids

    first, second, third = play(story())
    assert first == second
    assert third != first
    wait_until(lambda: not psutil.pid_exists(first), "the replaced one has ended")


def test_a_member_that_has_grown_is_replaced() -> None:
    async def story() -> tuple[int, int]:
        lane = Processes(memory_limit_mb=1)
        pids = await pid(lane), await pid(lane)
        await lane.close()
        return pids

    first, second = play(story())
    assert first != second


def test_cancelling_ends_the_process_with_what_it_started() -> None:
    async def story() -> list[psutil.Process]:
        lane = Processes(memory_limit_mb=4096)
        context = context_for(task_type="in_process", input={"what": "spawn", "seconds": 60})
        attempt = asyncio.create_task(lane.run(context, {}))
        me = psutil.Process()
        while not (family := [process for process in me.children(recursive=True) if process.name() == "sleep"]):
            await asyncio.sleep(0.05)
        members = [process for process in me.children() if "jobs.lanes.member" in " ".join(process.cmdline())]
        attempt.cancel()
        await asyncio.wait({attempt})
        return [*members, *family]

    ended = play(story())
    assert len(ended) >= 2
    gone = lambda: not [p for p in ended if p.is_running() and p.status() != "zombie"]  # noqa: E731
    wait_until(gone, "nothing is left of it")


async def result(lane: Processes, what: str) -> dict[str, Any]:
    answer: dict[str, Any] = await lane.run(context_for(task_type="in_process", input={"what": what, "seconds": 0}), {})
    return answer


def test_a_member_goes_on_when_its_whole_group_is_told_to_end() -> None:
    async def story() -> tuple[int, int]:
        lane = Processes(memory_limit_mb=4096)
        first = await pid(lane)
        for number in (signal.SIGTERM, signal.SIGINT):
            os.killpg(first, number)
        pids = first, await pid(lane)
        await lane.close()
        return pids

    first, second = play(story())
    assert first == second
    wait_until(lambda: not psutil.pid_exists(first), "its worker can end it all the same")


def test_what_was_told_to_end_while_it_came_up_is_started_again() -> None:
    async def story() -> tuple[int, int]:
        lane = Processes(memory_limit_mb=4096)
        attempt = asyncio.create_task(pid(lane))
        me = psutil.Process()
        while not (coming := [child for child in me.children() if "jobs.lanes.member" in child.cmdline()]):
            await asyncio.sleep(0.01)
        coming[0].terminate()
        pids = coming[0].pid, await attempt
        await lane.close()
        return pids

    ended, performed = play(story())
    assert ended != performed


def test_what_a_member_starts_can_be_told_to_end() -> None:
    async def story() -> tuple[Any, Any]:
        lane = Processes(memory_limit_mb=4096)
        async with asyncio.timeout(30):
            found = await result(lane, "terminate"), await result(lane, "pool")
        await lane.close()
        return found

    terminated, pool = play(story())
    assert terminated["code"] == -signal.SIGTERM
    assert pool["sum"] == 3
