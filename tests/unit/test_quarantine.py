"""Suspects run one at a time, and those that wait for their turn hold no slot for long."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from jobs import quarantine
from jobs.attempt import Attempt, Outcome
from jobs.handlers.context import Context
from jobs.lifecycle import Status
from jobs.quarantine import Quarantine
from tests.unit.test_attempt import claim, lanes_for


class Database:
    """Keeps who was noted as the suspect."""

    def __init__(self) -> None:
        self.noted: list[int] = []

    async def all(self, _name: str, params: Any) -> list[Any]:
        self.noted.append(params["task_id"])
        return []


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(quarantine, "_PATIENCE_SECONDS", 0.05)
        yield


def attempt_all(database: Database, seconds: dict[int, float]) -> list[Outcome]:
    """What suspects that take so long come to, when they are started at once."""

    async def handler(context: Context) -> dict[str, Any]:
        await asyncio.sleep(seconds[context.task_id])
        return {}

    async def run() -> list[Outcome]:
        lanes = replace(lanes_for(handler), quarantine=Quarantine(cast(Any, database)))
        return await asyncio.gather(*(Attempt(claim(id=n, is_suspect=True), lanes).run() for n in seconds))

    return asyncio.run(run())


def test_suspects_run_one_after_another() -> None:
    database = Database()
    outcomes = attempt_all(database, {1: 0.01, 2: 0.0, 3: 0.0})
    assert [outcome.status for outcome in outcomes] == [Status.COMPLETED] * 3
    assert database.noted == [1, 2, 3]


def test_a_suspect_whose_turn_does_not_come_waits_outside_and_spends_nothing() -> None:
    database = Database()
    first, *others = attempt_all(database, {1: 0.5, 2: 0.0, 3: 0.0, 4: 0.0})
    assert first.status is Status.COMPLETED
    assert database.noted == [1], "the others are not blamed"
    assert {(outcome.status, outcome.free, outcome.error) for outcome in others} == {(Status.RETRYING, True, None)}
    assert sorted(outcome.delay or 0 for outcome in others) == [1, 2, 3], "they come back one after another"
