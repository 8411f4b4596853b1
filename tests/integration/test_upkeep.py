"""In a scheduler, the reconciler works beside clock and firings, and holds up neither, however much it has to do."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from jobs.errors import Unavailable
from jobs.queues import Doorbell
from jobs.reconcile import Report
from jobs.settings import Settings
from jobs.store.database import Database
from scheduler.__main__ import Process
from scheduler.upkeep import Upkeep
from tests.support.waiting import wait_until

HOURLY = {
    "name": "Hourly", "task_type": "submit_task", "interval": 1, "interval_unit": "hours",
    "params": {"prompt": "p", "model": "m"},
}  # fmt: skip


class Scripted:
    """Stands for the reconciler: answers are given in turn, the last one again and again."""

    def __init__(self, passes: list[Any], looks: list[bool]) -> None:
        self.passes = passes
        self.looks = looks
        self.done: list[str] = []

    def run_once(self) -> Report:
        self.done.append("pass")
        answer = self.passes.pop(0) if len(self.passes) > 1 else self.passes[0]
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Report)
        return answer

    def look_on(self) -> bool:
        self.done.append("look")
        return self.looks.pop(0)

    def watch_workers(self) -> Report:
        return Report()


@pytest.fixture
def upkeep(configured: Settings, database: Database, doorbell: Doorbell) -> Iterator[Upkeep]:
    made = Upkeep(replace(configured, reconcile_seconds=5.0), database, doorbell)
    yield made
    made.stop()


def script(upkeep: Upkeep, passes: list[Any], looks: list[bool]) -> Scripted:
    upkeep.reconciler = scripted = Scripted(passes, looks)  # type: ignore[assignment]
    return scripted


def test_beats_and_firings_do_not_wait_for_a_pass(
    client: FlaskClient, configured: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, over = threading.Event(), threading.Event()

    def work(_: object) -> Report:
        busy.set()
        assert over.wait(30)
        return Report()

    monkeypatch.setattr("jobs.reconcile.Reconciler.run_once", work)
    process = Process(configured)
    process._database.open()
    process._upkeep.start()
    try:
        assert busy.wait(10)
        client.post("/api/v1/scheduler/tasks", json=HOURLY)
        with database.transaction() as session:
            session.run("UPDATE schedules SET next_slot = now() - interval '1 second'")

        def fired() -> bool:
            process._step()
            return bool(client.get("/api/v1/scheduler/executions?status=COMPLETED").get_json())

        wait_until(fired, "the slot fired", 10)
        assert [row["kind"] for row in database.all("alive", {"lease": 10})] == ["scheduler"]
    finally:
        over.set()
        process._threads.shutdown(wait=True)
        process._upkeep.stop()
        process._database.close()
        process._doorbell.connection.close()


def test_what_a_pass_left_is_done_at_once_and_looking_has_its_pace(upkeep: Upkeep) -> None:
    scripted = script(upkeep, [Report(has_more=True), Report()], [True, False])
    assert upkeep._turn() == 0
    assert upkeep._turn() == 0, "it begins to look"
    assert 0 < upkeep._turn() < 1
    assert scripted.done == ["pass", "pass", "look"]
    wait_until(lambda: upkeep._turn() == 1 and scripted.done[3:] == ["look"], "it has looked at everything")
    upkeep.hurry()
    upkeep._turn()
    assert scripted.done[4:] == ["pass"]


def test_an_outage_is_waited_for(upkeep: Upkeep) -> None:
    scripted = script(upkeep, [Unavailable("away"), Report()], [False])
    upkeep.start()
    wait_until(lambda: len(scripted.done) > 1, "it was tried again")
    assert not upkeep.has_ended


def test_what_nobody_foresaw_is_not_kept_quiet(upkeep: Upkeep) -> None:
    script(upkeep, [ZeroDivisionError()], [])
    upkeep.start()
    wait_until(lambda: upkeep.has_ended, "it has ended")
    with pytest.raises(ZeroDivisionError):
        upkeep.check()
