"""Which slots a worker offers to which queue."""

import asyncio
from typing import Any, cast

import pytest

from jobs.intake import Intake
from jobs.pools import Mode, Pools
from jobs.priority import QUEUES
from jobs.queues import Group, Taken
from jobs.slots import SlotBudget

SHARES: Any = {"high": 1.0, "default": 0.9, "low": 0.7}


class Counter:
    """Hands nothing out, and keeps what was asked for."""

    def __init__(self) -> None:
        self.wishes: list[dict[str, Any]] = []

    async def take(self, wish: dict[str, Any]) -> Taken:
        self.wishes.append(wish)
        return Taken([Group("default", "coroutine", [1])], None, [])

    async def all(self, *_: Any) -> list[Any]:
        return []


def rounds(count: int, capacity: int = 100) -> list[dict[str, Any]]:
    counter = Counter()
    anything = cast(Any, counter)

    async def play() -> None:
        sizes: dict[Mode, int] = {"coroutine": capacity, "thread": 2, "process": 1}
        slots = {lane: SlotBudget(size, QUEUES, SHARES) for lane, size in sizes.items()}
        desk = Intake(anything, anything, slots, Pools({}), "w", lambda _: None, lambda _: None)
        for _ in range(count):
            await desk._round()

    asyncio.run(play())
    return counter.wishes


def test_each_lane_offers_its_own_slots() -> None:
    (wish,) = rounds(1)  # at most 64 at once
    assert wish["lanes"] == {
        "coroutine": [("high", 64), ("default", 64), ("low", 64)],
        "thread": [("high", 2), ("default", 2), ("low", 1)],
        "process": [("high", 1), ("default", 1), ("low", 1)],
    }
    assert wish["first"] == {}


@pytest.mark.parametrize(("capacity", "share"), [(100, 5), (3, 1)])
def test_a_queue_that_got_nothing_for_long_gets_some_slots_before_all_others(
    capacity: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [wish["first"] for wish in rounds(3, capacity)] == [{}, {}, {}]
    monkeypatch.setattr("jobs.intake.STARVED_SECONDS", 0.0)
    assert rounds(1, capacity)[0]["first"] == dict.fromkeys(QUEUES, share)
