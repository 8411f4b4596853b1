"""Members of the process lane: kept while they are good, replaced when not, ended when their task is."""

import asyncio
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
