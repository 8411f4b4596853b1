"""Which slots a worker offers to which queue."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobs.errors import Unavailable
from jobs.intake import STARVED_SECONDS, Intake
from jobs.pools import Mode, Pools
from jobs.priority import QUEUES
from jobs.queues import Group, Taken
from jobs.slots import SlotBudget

SHARES: Any = {"high": 1.0, "default": 0.9, "low": 0.7}
NOTHING = Taken([], None, [])


class Desk:
    """An intake whose doorbell hands out what a test says, and keeps what was asked for."""

    def __init__(self, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch, capacity: int) -> None:
        self.now = 1000.0
        self.wishes: list[dict[str, Any]] = []
        self.taken = NOTHING
        self.back: list[dict[str, Any]] = []
        self.is_database_away = False
        self._loop = loop
        monkeypatch.setattr("jobs.intake.time", SimpleNamespace(monotonic=lambda: self.now))
        sizes: dict[Mode, int] = {"coroutine": capacity, "thread": 2, "process": 1}
        self.slots = {lane: SlotBudget(size, QUEUES, SHARES) for lane, size in sizes.items()}
        anything = cast(Any, self)
        ignore: Callable[[Any], None] = lambda _: None  # noqa: E731
        self._intake = Intake(anything, anything, self.slots, Pools({}), "w", ignore, self.back.append, ignore)

    async def take(self, wish: dict[str, Any]) -> Taken:
        self.wishes.append(wish)
        return self.taken

    async def wait(self, *_: Any) -> None:
        """At once."""

    async def all(self, *_: Any) -> list[Any]:
        if self.is_database_away:
            raise Unavailable("away")
        return []

    def round(self, *groups: tuple[Any, str, int], again: float | None = None, after: float = 0.0) -> Any:
        """What queues get first in a round in which so many tasks (queue, pool, count) are found."""
        self.now += after
        self.taken = Taken([Group(queue, pool, list(range(count))) for queue, pool, count in groups], again, [])
        self._loop.run(self._intake._round())
        return self.wishes[-1]["first"]


Make = Callable[[int], Desk]


@pytest.fixture
def desk_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes the desk of a worker with so many slots."""
    with asyncio.Runner() as loop:
        yield partial(Desk, loop, monkeypatch)


def test_each_lane_offers_its_own_slots(desk_of: Make) -> None:
    desk = desk_of(100)
    assert desk.round() == {}
    assert desk.wishes[0]["lanes"] == {
        "coroutine": [("high", 64), ("default", 64), ("low", 64)],  # at most 64 at once
        "thread": [("high", 2), ("default", 2), ("low", 1)],
        "process": [("high", 1), ("default", 1), ("low", 1)],
    }


@pytest.mark.parametrize(("capacity", "share"), [(64, 3), (3, 1)])
def test_a_queue_that_got_nothing_for_long_gets_its_share_before_all_others(
    capacity: int, share: int, desk_of: Make
) -> None:
    desk = desk_of(capacity)
    busy = ("high", "coroutine", capacity)
    assert desk.round(busy, after=1) == {}
    assert desk.round(busy, after=STARVED_SECONDS - 2) == {}
    starved = [("default", share), ("low", share)]
    assert desk.round(busy, after=2) == {"coroutine": starved}, "the idle lanes had nothing waiting"
    assert desk.round(("default", "coroutine", share), busy) == {"coroutine": starved}
    assert desk.round(busy) == {"coroutine": starved[1:]}, "until it has it"


def test_empty_rounds_of_idle_lanes_say_nothing_of_a_busy_one(desk_of: Make) -> None:
    desk = desk_of(1)
    desk.slots["coroutine"].occupy("high")
    for _ in range(3):
        assert desk.round(after=STARVED_SECONDS / 2) == {}
        assert "coroutine" not in desk.wishes[-1]["lanes"]
    desk.slots["coroutine"].release("high")
    assert desk.round() == {"coroutine": [(queue, 1) for queue in QUEUES]}


def test_a_share_may_come_in_parts(desk_of: Make) -> None:
    desk = desk_of(64)
    one_of_low = [("low", "coroutine", 1), ("high", "coroutine", 63)]
    got = [dict(desk.round(*one_of_low, after=seconds).get("coroutine", [])) for seconds in (1, 8, 2, 0)]
    assert [first.get("low") for first in got] == [None, None, 1, None], "it had two of three by then"


def test_who_waits_for_a_model_keeps_its_turn(desk_of: Make) -> None:
    desk = desk_of(100)
    desk.round(again=0.1, after=STARVED_SECONDS)
    assert {queue for queue, _ in desk.round(again=0.1)["coroutine"]} == set(QUEUES)
    assert desk.round() != {}
    assert desk.round() == {}, "nothing waits"


def test_where_tasks_take_long_queues_are_served_in_turn(desk_of: Make) -> None:
    desk = desk_of(1)
    served = []
    desk.round(("high", "coroutine", 1), after=1)
    for _ in range(4):
        first = desk.round(again=1.0, after=STARVED_SECONDS)["coroutine"]
        served.append(first[0][0])
        desk.round((first[0][0], "coroutine", 1), after=1)
    assert served == ["default", "low", "high", "default"]


def test_what_could_not_be_claimed_waits_again(desk_of: Make) -> None:
    desk = desk_of(100)
    desk.is_database_away = True
    with pytest.raises(Unavailable):
        desk.round(("high", "thread", 1), ("low", "coroutine:m", 2))
    returned = [(task["id"], task["queue"], task["pool"]) for task in desk.back]
    assert returned == [(0, "high", "thread"), (0, "low", "coroutine:m"), (1, "low", "coroutine:m")]
    assert [budget.used for budget in desk.slots.values()] == [0, 0, 0]
