"""Slots are shared so that urgent work always finds some."""

import pytest

from jobs.priority import QUEUES
from jobs.slots import SlotBudget

SHARES = {"high": 1.0, "default": 0.9, "low": 0.7}


def budget(capacity: int = 100) -> SlotBudget:
    return SlotBudget(capacity, QUEUES, SHARES)  # type: ignore[arg-type]


def test_each_queue_may_hold_its_share() -> None:
    assert budget().room() == {"high": 100, "default": 90, "low": 70}


def test_low_work_leaves_slots_for_more_urgent_work() -> None:
    slots = budget()
    for _ in range(70):
        slots.occupy("low")
    assert slots.room() == {"high": 30, "default": 20, "low": 0}
    for _ in range(20):
        slots.occupy("default")
    assert slots.room() == {"high": 10, "default": 0, "low": 0}


def test_urgent_work_takes_slots_from_all() -> None:
    slots = budget()
    for _ in range(95):
        slots.occupy("high")
    assert slots.room() == {"high": 5, "default": 5, "low": 5}


def test_released_slots_are_free_again() -> None:
    slots = budget(10)
    slots.occupy("low")
    slots.release("low")
    assert slots.used == 0
    assert slots.room()["low"] == 7


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_a_small_worker_starves_no_queue(capacity: int) -> None:
    assert all(room >= 1 for room in budget(capacity).room().values())


def test_a_worker_for_low_alone_uses_all_its_slots() -> None:
    assert SlotBudget(10, ("low",), SHARES).room() == {"low": 10}  # type: ignore[arg-type]
