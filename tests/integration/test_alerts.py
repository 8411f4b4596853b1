"""Operators are told what is wrong, once, by one process, and when it is over."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from jobs.settings import Settings
from jobs.store.database import Database
from jobs.webhooks import sender
from scheduler.alerts.watch import Watch
from tests.support.hand import finish, register
from tests.support.receiver import Receiver

TASK = {"prompt": "p", "model": "m"}


class World:
    """Scheduler processes that watch, an operator's webhook, and the passing of time."""

    def __init__(self, client: FlaskClient, database: Database, settings: Settings, receiver: Receiver) -> None:
        self.client = client
        self.database = database
        self.settings = settings
        self.receiver = receiver
        self.now = 100.0
        self.watches = self.processes(2)

    def processes(self, count: int, **change: Any) -> list[Watch]:
        changed = replace(self.settings, **change)
        return [Watch(changed, f"scheduler-{number}", clock=lambda: self.now) for number in range(count)]

    def look(self, *watches: Watch, times: int = 1) -> list[dict[str, Any]]:
        """Have all processes look, at the same time, and tell; returns what the operator got."""
        self.receiver.got.clear()

        async def work() -> None:
            async with AsyncExitStack() as stack:
                for watch in chosen:
                    await stack.enter_async_context(watch.opened())
                for _ in range(times):
                    await asyncio.gather(*(watch.look() for watch in chosen))
                    await asyncio.gather(*(watch.tell() for watch in chosen))

        chosen = watches or tuple(self.watches)
        asyncio.run(work())
        return [got.json for got in self.receiver.got]

    def run(self, statement: Any) -> None:
        with self.database.transaction() as session:
            session.run(statement)

    def later(self, seconds: float) -> None:
        """Let time pass for everything."""
        self.now += seconds
        moved = {
            "tasks": ("announced_at", "ready_at", "completed_at"),
            "workers": ("stopped_at", "last_heartbeat"),
            "executions": ("created_at",),
            "schedules": ("next_slot",),
            "alerts": ("opened_at", "closed_at", "seen_at", "told_at", "next_at"),
        }
        for table, columns in moved.items():
            changes = ", ".join(f"{column} = {column} - interval '{seconds} seconds'" for column in columns)
            self.run(f"UPDATE {table} SET {changes}")

    def submit(self, **fields: Any) -> int:
        return int(self.client.post("/api/v1/tasks", json={**TASK, **fields}).get_json()["id"])

    def fail(self, count: int = 1, **fields: Any) -> list[int]:
        ids = [self.submit(**fields) for _ in range(count)]
        finish(self.database, *ids, status="FAILED")
        self.later(6)  # what has just happened may not be committed everywhere
        return ids

    def alerts(self, query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get(f"/api/v1/alerts?sort=id&{query}").get_json()
        return found


def age(said: dict[str, Any]) -> int:
    """The seconds in a message."""
    return int(re.findall(r"(\d+) s", said["message"])[0])


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def world(client: FlaskClient, database: Database, configured: Settings, receiver: Receiver) -> Iterator[World]:
    with receiver.serving() as url:
        yield World(client, database, replace(configured, alert_webhook_url=f"{url}/robot?key=k"), receiver)


def test_when_all_is_well_nobody_is_told(world: World) -> None:
    finish(world.database, world.submit())
    world.submit()
    world.later(60)
    assert world.look(times=3) == []
    assert world.alerts() == []


class TestConditions:
    def test_a_problem_is_told_once_by_one_process_and_its_end_too(self, world: World) -> None:
        task_id = world.submit(priority=1)
        world.later(301)
        (said,) = world.look(times=3)
        assert world.receiver.got[0].path == "/robot?key=k"
        assert (said["rule"], said["subject"], said["status"]) == ("queue_too_old", "low", "OPEN")
        assert age(said) >= 301
        (alert,) = world.alerts("status=OPEN")
        assert alert["told_at"]
        world.later(60)
        assert world.look() == [], "it still lasts"
        finish(world.database, task_id)
        assert world.look() == [], "it might come back at once"
        world.later(31)
        (said,) = world.look(times=2)
        assert (said["title"], said["status"], said["level"]) == ("Resolved: Queue low is too old", "RESOLVED", "info")
        world.later(3601)
        assert world.look() == []
        assert [row["status"] for row in world.alerts()] == ["RESOLVED"]

    def test_one_that_lasts_is_told_again_every_hour_as_it_is_then(self, world: World) -> None:
        world.submit(priority=1)
        world.later(301)
        world.look()
        world.later(3000)
        assert world.look() == []
        world.later(601)
        (said,) = world.look()
        assert age(said) >= 3902

    def test_of_very_many_that_wait_the_first_ones_are_counted(self, world: World) -> None:
        world.submit(priority=1)
        world.later(400)
        world.run(
            "INSERT INTO tasks (task_type, status, priority, queue, max_retries, timeout_seconds, retry, announced_at,"
            " ready_at) SELECT 'text_generation', 'PENDING', 1, 'low', 3, 300, '{}', at, at"
            " FROM generate_series(1, 10001), LATERAL (SELECT now() - interval '350 seconds') AS t (at)"
        )
        world.submit(priority=9)
        world.later(1)
        (said,) = world.look()
        assert said["subject"] == "low"
        assert said["message"].startswith("Tasks that wait for long: more than 10,000, the oldest one for 40")

    def test_the_age_of_a_queue_that_alarms_is_a_setting(self, world: World) -> None:
        world.submit()
        world.later(60)
        assert len(world.look(*world.processes(1, alert_queue_age_seconds=59))) == 1

    def test_a_failed_backup_is_over_with_the_next_good_one(self, world: World) -> None:
        failed = self.backup(world, "FAILED")
        (said,) = world.look()
        assert (said["rule"], said["message"]) == ("backup_failed", f"Task {failed}: no")
        self.backup(world, "COMPLETED")
        world.later(31)
        assert [said["status"] for said in world.look()] == ["RESOLVED"]

    def backup(self, world: World, status: str) -> int:
        task_id = int(world.client.post("/api/v1/tasks", json={"task_type": "database_backup"}).get_json()["id"])
        finish(world.database, task_id, status=status)
        return task_id

    def test_schedules_that_do_not_fire_are_told_together(self, world: World) -> None:
        for name in ("one", "two"):
            schedule = {"name": name, "task_type": "submit_task", "interval": 1, "interval_unit": "weeks"}
            made = world.client.post("/api/v1/scheduler/tasks", json={**schedule, "params": TASK})
            assert made.status_code == 201
        assert world.look() == []
        world.later(7 * 86_400 + 61)
        (said,) = world.look()
        assert said["rule"] == "schedule_overdue"
        assert said["message"].startswith("Overdue: 2, ")
        assert said["message"].endswith(" s: one, two.")

    def test_one_that_came_and_went_while_the_receiver_was_dead_is_no_news(self, world: World) -> None:
        world.receiver.usual = 500
        task_id = world.submit(priority=1)
        world.later(301)
        world.look()
        finish(world.database, task_id)
        world.later(31)
        world.receiver.usual = 200
        assert world.look(times=2) == []
        assert [(row["status"], row["told_at"]) for row in world.alerts()] == [("RESOLVED", None)]

    def test_one_that_ends_while_it_is_told_is_told_to_have_ended(self, world: World) -> None:
        world.receiver.usual = 500
        task_id = world.submit(priority=1)
        world.later(301)
        world.look()
        world.receiver.usual = 200
        world.later(6)
        (alert,) = world.database.all("claim_alert", {"lease": 60})
        finish(world.database, task_id)
        world.later(31)
        assert world.look() == []
        world.database.all("told_alert", {"id": alert["id"], "status": alert["status"], "repeat": 3600})
        assert [said["status"] for said in world.look(times=2)] == ["RESOLVED"]


class TestEvents:
    def test_a_task_that_failed_for_good_is_told_and_further_ones_are_summed_up(self, world: World) -> None:
        (first,) = world.fail()
        (said,) = world.look(times=2)
        assert (said["rule"], said["status"]) == ("task_failed", "NOTED")
        assert said["message"] == f"1 text_generation (provider_error). The newest is task {first}."
        newest = world.fail(20)[-1]
        assert world.look() == []
        world.later(300)
        (said,) = world.look(times=2)
        assert said["title"] == "Tasks failed for good: 20"
        assert f"task {newest}." in said["message"]
        world.later(301)
        assert world.look() == [], "what happened is over"

    def test_what_happened_while_no_scheduler_ran_is_told_later(self, world: World) -> None:
        world.fail()
        world.look()
        world.fail()
        world.later(86_400)
        assert [said["title"] for said in world.look()] == ["Tasks failed for good: 1"]

    def test_a_worker_that_was_lost_is_told_one_that_signed_off_is_not(self, world: World) -> None:
        lost, gone = register(world.database, "lost"), register(world.database, "gone")
        world.database.all("give_up_workers", {"ids": [lost]})
        world.database.all("sign_off", {"id": gone})
        world.later(6)
        (said,) = world.look()
        assert (said["rule"], said["message"]) == ("worker_lost", "worker lost. What they held goes to others.")

    def test_missed_slots_are_told_paused_ones_are_not(self, world: World) -> None:
        world.run(
            "INSERT INTO executions (schedule_id, schedule_name, task_type, params, timezone, scheduled_for, trigger,"
            " status, reason, completed_at)"
            " SELECT 1, reason, 't', '{}', 'UTC', day, 'schedule', 'SKIPPED', reason, now()"
            " FROM (VALUES ('misfire_policy', timestamptz '2026-01-01 08:00Z'), ('paused', '2026-01-02 08:00Z'))"
            " AS slot (reason, day)"
        )
        world.later(6)
        (said,) = world.look()
        assert said["rule"] == "schedule_missed"
        assert said["message"].startswith("misfire_policy, from 2026-01-01 08:00:00 UTC on")


class TestReceivers:
    @pytest.mark.parametrize("trouble", [500, 0])
    def test_one_that_is_dead_or_hangs_is_tried_again(
        self, trouble: int, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sender, "TIMEOUT_SECONDS", 1.0)
        world.receiver.usual = trouble
        world.fail()
        assert len(world.look(times=3)) == 1, "not at once"
        world.later(6)
        world.receiver.usual = 200
        assert len(world.look()) == 1
        world.later(400)
        assert world.look() == []
        assert world.alerts()[0]["told_at"]

    def test_one_that_says_no_with_a_200_is_tried_again(self, world: World) -> None:
        world.receiver.answer = b'{"errcode": 45009, "errmsg": "api freq out of limit"}'
        (wecom,) = world.processes(1, alert_format="wecom")
        world.fail()
        (said,) = world.look(wecom)
        assert said["msgtype"] == "markdown"
        world.later(6)
        world.receiver.answer = b'{"errcode": 0}'
        assert len(world.look(wecom)) == 1
        world.later(60)
        assert world.look(wecom) == []

    def test_without_one_alerts_are_kept_all_the_same(self, world: World) -> None:
        (silent,) = world.processes(1, alert_webhook_url=None)
        world.fail()
        assert world.look(silent) == []
        assert [row["rule"] for row in world.alerts("rule=task_failed")] == ["task_failed"]
        assert world.look() == [], "what nobody was to be told then is not told when somebody may be"
        assert world.client.get("/api/v1/alerts?rule=nonsense").status_code == 422


class TestServers:
    def test_redis_that_stays_away_is_told_once_and_that_it_is_back(self, world: World) -> None:
        (watch,) = world.processes(1, redis_url="redis://127.0.0.1:1/0")
        assert world.look(watch) == []
        world.now += 5
        assert world.look(watch) == [], "it may be starting again"
        world.now += 6
        (said,) = world.look(watch, times=2)
        assert (said["rule"], said["level"]) == ("redis_unreachable", "critical")
        world.later(31)
        assert [said["status"] for said in world.look()] == ["RESOLVED"]

    def test_a_database_that_stays_away_is_told_without_it_by_one_process_and_that_it_is_back(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = world.settings
        for watch in world.watches:
            watch._settings = replace(here, database_url="postgresql://127.0.0.1:1/x")
        with monkeypatch.context() as patched:
            patched.setattr("jobs.store.database._POOL_WAIT_SECONDS", 0.1)
            assert world.look() == []
            world.now += 11
            (said,) = world.look(times=2)
        assert (said["rule"], said["status"]) == ("database_unreachable", "OPEN")
        for watch in world.watches:
            watch._settings = here
        world.now += 60
        assert world.look() == []
        (alert,) = world.alerts()
        assert (alert["rule"], alert["status"]) == ("database_unreachable", "OPEN")
        world.later(31)
        (said,) = world.look(times=2)
        assert (said["title"], said["status"]) == ("Resolved: The database cannot be reached", "RESOLVED")

    def test_the_thread_ends_when_told_to(self, world: World) -> None:
        watch = world.watches[0]
        watch.start()
        watch.stop()
        assert not watch._thread.is_alive()
