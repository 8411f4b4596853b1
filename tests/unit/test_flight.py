"""Attempts that are stopped: what becomes of them, and how soon."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from jobs.attempt import Attempt, Outcome
from jobs.flight import Flight
from jobs.handlers.context import Context
from jobs.lifecycle import Status
from jobs.pools import Mode, Pools
from jobs.slots import SlotBudget
from tests.unit.test_attempt import claim, lanes_for


class Notes:
    """A ledger and a recorder that keep what they are told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.landed: list[tuple[int, int, int]] = []

    def started(self, *_: Any) -> None:
        """So be it."""

    def ended(self, *_: Any) -> None:
        """So be it."""

    def over(self, task_id: int, fence: int) -> None:
        self.landed.append((task_id, fence, len(self.outcomes)))

    def put(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def fly(handler: Any, mode: Mode, act: Callable[[Flight], Awaitable[None]]) -> list[Outcome]:
    """What is recorded of an attempt while `act` is done to it."""
    notes = Notes()

    async def body() -> None:
        slots = {mode: SlotBudget(9, ("low",), {"low": 1.0})}
        ledger = cast(Any, notes)
        flight = Flight(slots, Pools({}), ledger, ledger, lanes_for(handler, mode), notes.over)
        await act(flight)
        while flight.runs:
            await asyncio.wait(flight.attempts())
            await asyncio.sleep(0)

    asyncio.run(body())
    assert notes.landed == [(1, 1, 0)], "its text is told first, also where nothing is recorded"
    return notes.outcomes


class Endless:
    """A handler that calls a model and then has no end."""

    def __init__(self) -> None:
        self.began = asyncio.Event()

    async def __call__(self, context: Context) -> dict[str, Any]:
        context.count({"total_tokens": 3})
        self.began.set()
        await asyncio.sleep(3600)
        return {}


def test_a_thread_that_has_not_begun_never_does() -> None:
    begun: list[bool] = []

    async def cancel_at_once(flight: Flight) -> None:
        flight.start(claim(pool="thread"))
        flight.cancel({1})

    (outcome,) = fly(lambda _: begun.append(True), "thread", cancel_at_once)
    assert (outcome.status, begun) == (Status.CANCELLED, [])


def test_a_task_that_is_still_on_its_way_here_is_cancelled_when_it_comes() -> None:
    endless = Endless()

    async def cancel_before(flight: Flight) -> None:
        cancelling = asyncio.create_task(flight.cancel_here_or_coming({1}))
        await asyncio.sleep(0)
        flight.start(claim())
        await cancelling

    (outcome,) = fly(endless, "coroutine", cancel_before)
    assert outcome.status is Status.CANCELLED


def test_what_a_dropped_attempt_has_cost_is_recorded() -> None:
    endless = Endless()

    async def hand_back(flight: Flight) -> None:
        flight.start(claim(usage={"total_tokens": 40}))
        await endless.began.wait()
        flight.drop_all(Status.PENDING)

    (outcome,) = fly(endless, "coroutine", hand_back)
    assert (outcome.status, outcome.free, outcome.usage) == (Status.PENDING, True, {"total_tokens": 43})


def test_of_a_task_that_is_no_longer_ours_nothing_is_recorded() -> None:
    endless = Endless()

    async def drop(flight: Flight) -> None:
        flight.start(claim())
        await endless.began.wait()
        flight.drop_all(None)

    assert fly(endless, "coroutine", drop) == []


def test_an_attempt_that_goes_wrong_itself_fails_and_frees_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_attempt: Attempt) -> Outcome:
        raise KeyError("a mistake of ours")

    async def start(flight: Flight) -> None:
        flight.start(claim())

    monkeypatch.setattr(Attempt, "run", broken)
    (outcome,) = fly(Endless(), "coroutine", start)
    assert outcome.error
    assert (outcome.status, outcome.error.code) == (Status.FAILED, "handler_error")
