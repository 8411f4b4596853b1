"""The reconciler puts right what dead workers and a forgetful Redis leave behind."""

import time
from datetime import datetime
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from jobs.beats import LEASE_SECONDS, WATCH_SECONDS
from jobs.queues import Doorbell
from jobs.reconcile import Reconciler, Report
from jobs.store.database import Database
from scheduler.clock import Clock
from tests.support import hand
from tests.support.waiting import wait_until

WAITING = "pressroom:waiting:default:coroutine:m"


class World:
    """Tasks, workers and the passing of time."""

    def __init__(self, client: FlaskClient, database: Database, bell: Doorbell, raw: "redis.Redis") -> None:
        self.client = client
        self.database = database
        self.redis = raw
        self.now = 100.0
        self.reconciler = Reconciler(database, bell, clock=lambda: self.now)

    def submit(self, **fields: Any) -> int:
        return int(self.client.post("/api/v1/tasks", json={"prompt": "p", "model": "m", **fields}).get_json()["id"])

    def task(self, task_id: int) -> dict[str, Any]:
        task: dict[str, Any] = self.client.get(f"/api/v1/tasks/{task_id}").get_json()
        return task

    def worker(self) -> int:
        return hand.register(self.database)

    def claim(self, worker_id: int, *ids: int) -> None:
        assert len(hand.claim(self.database, worker_id, ids)) == len(ids)
        for task_id in ids:
            self.forget(task_id)

    def forget(self, *ids: int) -> None:
        """Have Redis lose tasks out of their queue."""
        for task_id in ids:
            self.redis.zrem(WAITING, task_id)
            self.redis.lrem("rq:queue:default", 0, str(task_id))

    def run(self, statement: Any, **parameters: Any) -> None:
        with self.database.transaction() as session:
            session.run(statement, parameters)

    def later(self, seconds: float) -> None:
        """Let time pass for announcements and due times."""
        self.run(
            "UPDATE tasks SET announced_at = announced_at - make_interval(secs => %(s)s),"
            " due_at = due_at - make_interval(secs => %(s)s)",
            s=seconds,
        )

    def watch(self, *beating: int) -> Report:
        """Watch for a whole lease, in which only `beating` workers beat; what the last look did."""
        report = self.reconciler.watch_workers()
        for _ in range(int(LEASE_SECONDS / WATCH_SECONDS)):
            self.now += WATCH_SECONDS
            for worker_id in beating:
                assert self.database.all("beat", {"id": worker_id, "running": 0})
            report = self.reconciler.watch_workers()
        return report

    def lose(self, *ids: int, suspect: int | None = None) -> None:
        """Have a worker claim tasks and be lost with them, while it ran `suspect` apart from other suspects."""
        worker_id = self.worker()
        self.claim(worker_id, *ids)
        self.database.all("suspect", {"id": worker_id, "task_id": suspect})
        self.database.all("sign_off", {"id": worker_id})
        self.reconciler.watch_workers()

    def queued(self, queue: str = "default") -> list[int]:
        return [int(entry) for entry in self.redis.lrange(f"rq:queue:{queue}", 0, -1)]


@pytest.fixture
def world(client: FlaskClient, database: Database, doorbell: Doorbell, redis_client: "redis.Redis") -> World:
    return World(client, database, doorbell, redis_client)


def test_when_all_is_well_nothing_is_done(world: World) -> None:
    world.submit()
    running = world.submit()
    world.claim(world.worker(), running)
    world.later(60)
    assert world.reconciler.run_once() == Report()


class TestLostWorkers:
    def test_their_tasks_wait_again_with_no_attempt_counted(self, world: World) -> None:
        worker, task_id = world.worker(), world.submit()
        world.claim(worker, task_id)
        assert world.watch().recovered == 1
        task = world.task(task_id)
        assert (task["status"], task["attempt"]) == ("PENDING", 0)
        assert world.queued() == [task_id]
        event = world.client.get(f"/api/v1/tasks/{task_id}/events").get_json()[-1]
        assert (event["from_status"], event["to_status"], event["worker"]) == ("PROCESSING", "PENDING", "w")
        assert event["detail"] == {"reason": "worker_lost"}

    def test_a_task_whose_attempts_are_used_up_fails_as_worker_lost(self, world: World) -> None:
        worker, task_id = world.worker(), world.submit(max_retries=0)
        world.claim(worker, task_id)
        assert world.watch().lost == 1
        task = world.task(task_id)
        assert task["attempt"] == 1
        assert (task["status"], task["error"]["code"]) == ("FAILED", "worker_lost")
        assert task["completed_at"]

    def test_who_loses_worker_after_worker_is_tried_as_often_as_it_may_be(self, world: World) -> None:
        task_id = world.submit(max_retries=3)
        for _ in range(3):
            world.lose(task_id, suspect=task_id)
            assert (world.task(task_id)["status"], world.task(task_id)["attempt"]) == ("PENDING", 0)
        world.lose(task_id, suspect=task_id)
        task = world.task(task_id)
        assert (task["status"], task["error"]["code"], task["attempt"]) == ("FAILED", "worker_lost", 4)

    def test_a_suspect_that_waited_for_its_turn_is_not_blamed(self, world: World) -> None:
        guilty, innocent = world.submit(max_retries=3), world.submit(max_retries=3)
        for _ in range(4):
            world.lose(guilty, innocent, suspect=guilty)
        assert world.task(guilty)["status"] == "FAILED"
        assert (world.task(innocent)["status"], world.task(innocent)["attempt"]) == ("PENDING", 0)

    @pytest.mark.parametrize(("max_retries", "losses"), [(1, 1), (2, 2), (9, 2)])
    def test_a_task_is_a_suspect_after_two_losses_or_before_its_last_try(
        self, world: World, max_retries: int, losses: int
    ) -> None:
        task_id = world.submit(max_retries=max_retries)
        for _ in range(losses):
            (claimed,) = hand.claim(world.database, worker := world.worker(), [task_id])
            assert not claimed["is_suspect"]
            world.database.all("sign_off", {"id": worker})
            world.reconciler.watch_workers()
        (claimed,) = hand.claim(world.database, world.worker(), [task_id])
        assert claimed["is_suspect"]

    def test_an_explicit_retry_forgets_the_losses(self, world: World) -> None:
        task_id = world.submit(max_retries=0)
        world.lose(task_id)
        world.client.post(f"/api/v1/tasks/{task_id}/retry")
        world.lose(task_id)
        assert world.task(task_id)["attempt"] == 1

    def test_after_an_outage_of_the_database_nobody_is_dead_yet(self, world: World) -> None:
        world.claim(world.worker(), task_id := world.submit())
        world.reconciler.watch_workers()
        world.now += 2 * LEASE_SECONDS
        world.reconciler.watch_workers()
        assert world.task(task_id)["status"] == "PROCESSING"

    def test_a_task_to_be_cancelled_is_cancelled(self, world: World) -> None:
        worker, task_id = world.worker(), world.submit()
        world.claim(worker, task_id)
        world.client.post(f"/api/v1/tasks/{task_id}/cancel")
        world.watch()
        assert world.task(task_id)["status"] == "CANCELLED"

    def test_the_dead_are_told_apart_from_the_living(self, world: World) -> None:
        dead, living = world.worker(), world.worker()
        of_dead, of_living = world.submit(), world.submit()
        world.claim(dead, of_dead)
        world.claim(living, of_living)
        world.watch(living)
        assert world.task(of_dead)["status"] == "PENDING"
        assert world.task(of_living)["status"] == "PROCESSING"
        assert not world.database.all("beat", {"id": dead, "running": 1}), "the dead must learn that they are"
        assert world.database.all("beat", {"id": living, "running": 1})

    def test_the_dead_claim_nothing_more(self, world: World) -> None:
        dead, task_id = world.worker(), world.submit()
        world.watch()
        assert hand.claim(world.database, dead, [task_id]) == []
        assert world.task(task_id)["attempt"] == 0

    def test_a_beat_counts_whatever_the_clocks_say(self, world: World) -> None:
        """After an outage of PostgreSQL, or with a clock that jumped, all beats are old: nobody is dead yet."""
        worker, task_id = world.worker(), world.submit()
        world.claim(worker, task_id)
        world.run("UPDATE workers SET last_heartbeat = now() - interval '1 hour'")
        for _ in range(int(LEASE_SECONDS / WATCH_SECONDS)):
            world.reconciler.watch_workers()
            assert world.task(task_id)["status"] == "PROCESSING"
            world.now += WATCH_SECONDS - 0.01
        world.reconciler.watch_workers()
        assert world.task(task_id)["status"] == "PROCESSING"

    def test_tasks_of_a_worker_that_signed_off_are_recovered_at_once(self, world: World) -> None:
        worker, task_id = world.worker(), world.submit()
        world.claim(worker, task_id)
        world.database.all("sign_off", {"id": worker})
        assert world.reconciler.watch_workers().recovered == 1

    def test_rqs_tools_no_longer_show_the_dead(self, world: World) -> None:
        world.worker()
        world.redis.sadd("rq:workers", "rq:worker:w")
        world.redis.sadd("rq:workers:default", "rq:worker:w")
        world.redis.sadd("rq:worker:w:executions", "7:1")
        world.redis.zadd("rq:wip:default", {"7:1": 9e9})
        world.watch()
        assert [key for key in world.redis.scan_iter("*") if "queue" not in key and "job" not in key] == []


class TestOutcomes:
    """Only the attempt that owns its task records what it came to."""

    def test_a_stale_attempt_loses_also_beside_the_newer_one(self, world: World) -> None:
        worker, task_id = world.worker(), world.submit()
        world.claim(worker, task_id)
        hand.record(world.database, (task_id, 1, "PENDING"))
        world.claim(worker, task_id)
        recorded = hand.record(world.database, (task_id, 1, "COMPLETED"), (task_id, 2, "COMPLETED"))
        assert [row["id"] for row in recorded] == [task_id]
        assert world.task(task_id)["result"] == {"fence": 2}

    @pytest.mark.parametrize("status", ["RETRYING", "PENDING", "FAILED"])
    def test_a_task_to_be_cancelled_does_not_wait_again(self, status: str, world: World) -> None:
        worker, task_id = world.worker(), world.submit()
        world.claim(worker, task_id)
        world.client.post(f"/api/v1/tasks/{task_id}/cancel")
        hand.record(world.database, (task_id, 1, status))
        task = world.task(task_id)
        assert task["status"] == "CANCELLED"
        assert task["completed_at"]

    def test_an_answer_that_came_before_the_cancel_is_kept(self, world: World) -> None:
        worker, task_id = world.worker(), world.submit()
        world.claim(worker, task_id)
        world.client.post(f"/api/v1/tasks/{task_id}/cancel")
        hand.record(world.database, (task_id, 1, "COMPLETED"))
        assert world.task(task_id)["status"] == "COMPLETED"

    def test_handing_back_spends_no_attempt(self, world: World) -> None:
        worker, task_id = world.worker(), world.submit()
        world.claim(worker, task_id)
        hand.record(world.database, (task_id, 1, "PENDING"))
        assert (world.task(task_id)["status"], world.task(task_id)["attempt"]) == ("PENDING", 0)


class TestForgetfulRedis:
    def test_everything_is_announced_again_after_redis_was_emptied(self, world: World) -> None:
        ids = [world.submit(priority=priority) for priority in (9, 5, 5, 1)]
        world.later(10)
        world.redis.flushdb()
        assert world.reconciler.run_once().unheard == 4
        assert (world.queued("high"), world.queued(), world.queued("low")) == ([ids[0]], ids[1:3], [ids[3]])
        assert world.reconciler.run_once().unheard == 0

    def test_what_was_announced_just_now_is_left_alone(self, world: World) -> None:
        world.submit()
        world.redis.flushdb()
        assert world.reconciler.run_once().unheard == 0

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_an_entry_that_was_lost_is_announced_again(self, place: int, world: World) -> None:
        ids = [world.submit() for _ in range(3)]
        world.later(10)
        lost = ids.pop(place)
        world.forget(lost)
        ids.append(world.submit())
        assert world.reconciler.run_once().unheard == 1
        assert world.queued() == [*ids, lost]

    def test_a_loss_far_behind_is_found_between_passes(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("jobs.rollcall._PAGE", 7)
        ids = [world.submit() for _ in range(20)]
        world.later(10)
        world.forget(ids[16])
        assert world.reconciler.run_once().unheard == 0
        looks = 0
        while world.reconciler.look_on():
            looks += 1
        assert world.queued()[-1] == ids[16]
        assert looks <= 1, "a page at a time"
        world.forget(ids[2])
        world.reconciler.run_once()
        while world.reconciler.look_on():
            pass
        assert world.queued()[-1] == ids[2], "it begins anew behind the last page"

    def test_a_long_queue_holds_up_no_other(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("jobs.rollcall._PAGE", 7)
        for _ in range(50):
            world.submit(priority=1)
        ids = {priority: world.submit(priority=priority) for priority in (9, 5)}
        world.later(10)
        world.reconciler.run_once()
        assert world.reconciler.look_on()
        assert world.reconciler.look_on(), "the long one is still being looked through"
        world.redis.delete("pressroom:waiting:high:coroutine:m", "rq:queue:high")
        assert world.reconciler.run_once().unheard == 1
        assert world.queued("high") == [ids[9]]
        world.forget(ids[5])
        world.reconciler.run_once()
        assert world.queued() == [ids[5]]

    def test_a_pass_ends_though_redis_lost_more_than_it_has_time_for(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("jobs.rollcall._PAGE", 7)
        monkeypatch.setattr("jobs.rollcall._FEW", 1)
        monkeypatch.setattr("jobs.reconcile._PATIENCE_SECONDS", 0)
        world.client.post("/api/v1/tasks/batch", json={"tasks": [{"prompt": "p", "model": "m"}] * 20})
        world.later(10)
        world.redis.flushdb()
        reports = [world.reconciler.run_once() for _ in range(4)]
        assert [report.unheard for report in reports] == [7, 7, 6, 0]
        assert [report.has_more for report in reports] == [True, True, True, False]

    def test_a_task_that_went_to_the_end_again_does_not_make_the_others_look_lost(self, world: World) -> None:
        first = world.submit()
        for _ in range(20):
            world.submit()
        world.later(10)
        world.client.post(f"/api/v1/tasks/{first}/cancel")
        world.client.post(f"/api/v1/tasks/{first}/retry")
        assert world.reconciler.run_once().unheard == 0
        assert len(world.queued()) == 21

    def test_many_are_announced_in_chunks(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("jobs.rollcall._PAGE", 7)
        monkeypatch.setattr("jobs.rollcall._FEW", 1)
        tasks = [{"prompt": "p", "model": "m"}] * 50
        world.client.post("/api/v1/tasks/batch", json={"tasks": tasks})
        world.later(10)
        world.redis.flushdb()
        assert world.reconciler.run_once().unheard == 50
        assert len(world.queued()) == 50


class TestDueTimes:
    def clock(self, world: World) -> Clock:
        return Clock(world.redis, interval=1, name="c")

    def test_a_due_task_is_announced_once(self, world: World) -> None:
        task_id = world.submit(delay_seconds=30)
        assert world.queued() == []
        self.clock(world).enqueue_jobs(world.reconciler.announce_due)
        assert world.queued() == []
        world.later(31)
        assert world.reconciler.run_once().due == 1
        assert world.reconciler.run_once().due == 0
        assert world.queued() == [task_id]

    def test_the_clock_announces_in_time(self, world: World) -> None:
        task_id = world.submit(delay_seconds=0.3)
        clock = self.clock(world)

        def turn() -> bool:
            clock.enqueue_jobs(world.reconciler.announce_due)
            return world.queued() == [task_id]

        wait_until(turn, "the clock announced the task", 5)
        assert world.redis.zcard(clock.scheduled_jobs_key) == 0

    def test_due_times_that_redis_forgot_come_back(self, world: World) -> None:
        task_id = world.submit(delay_seconds=30)
        world.redis.flushdb()
        world.reconciler.run_once()
        assert world.redis.zrange("rq:scheduler:scheduled_jobs", 0, -1) == [str(task_id)]

    def test_a_clock_ahead_of_the_database_loses_nothing_and_does_not_run_hot(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task_id = world.submit(delay_seconds=30)
        real = time.time
        monkeypatch.setattr("scheduler.clock.time.time", lambda: real() + 60)
        clock, asked, waited = self.clock(world), list[int](), list[float]()
        monkeypatch.setattr(clock, "wait", waited.append)

        def on_due() -> datetime | None:
            asked.append(1)
            return world.reconciler.announce_due()

        for _ in range(3):
            clock.enqueue_jobs(on_due)
            clock.pause()
        assert world.queued() == []
        assert world.redis.zrange("rq:scheduler:scheduled_jobs", 0, -1) == [str(task_id)]
        assert len(asked) == 1, "nothing was due by PostgreSQL's clock, nor is now"
        assert waited == [1, 1, 1]

    def test_a_clock_behind_that_of_the_database_is_not_late(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = time.time
        monkeypatch.setattr("scheduler.clock.time.time", lambda: real() - 60)
        clock = self.clock(world)
        clock.enqueue_jobs(world.reconciler.announce_due)
        task_id = world.submit(delay_seconds=0.2)

        def turn() -> bool:
            clock.enqueue_jobs(world.reconciler.announce_due)
            return world.queued() == [task_id]

        wait_until(turn, "the clock announced the task", 5)

    def test_what_is_due_all_the_time_does_not_fill_the_clock_each_time(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        filled: list[int] = []
        monkeypatch.setattr(world.reconciler, "fill_clock", lambda: filled.append(1))
        clock = self.clock(world)
        for _ in range(5):
            task_id = world.submit(delay_seconds=30)
            world.later(31)
            world.redis.zadd("rq:scheduler:scheduled_jobs", {str(task_id): 1})
            clock.enqueue_jobs(world.reconciler.announce_due)
        assert len(world.queued()) == 5
        assert filled == []

    def test_a_clock_that_had_no_room_for_all_is_filled_when_it_has_run_out(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("jobs.reconcile._LIMIT", 5)
        for _ in range(5):
            world.submit(delay_seconds=0.5)
        later = {str(world.submit(delay_seconds=30)) for _ in range(3)}
        world.redis.flushdb()
        world.reconciler.fill_clock()
        clock = self.clock(world)
        assert world.redis.zcard(clock.scheduled_jobs_key) == 5

        def turn() -> bool:
            clock.enqueue_jobs(world.reconciler.announce_due)
            return len(world.queued()) == 5

        wait_until(turn, "the first five were announced", 5)
        assert set(world.redis.zrange(clock.scheduled_jobs_key, 0, -1)) == later

    def test_many_that_are_due_at_once_are_announced_bit_by_bit(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("jobs.reconcile._LIMIT", 7)
        monkeypatch.setattr("jobs.reconcile._PATIENCE_SECONDS", 0)
        tasks = [{"prompt": "p", "model": "m", "delay_seconds": 30}] * 20
        world.client.post("/api/v1/tasks/batch", json={"tasks": tasks})
        world.later(31)
        clock = self.clock(world)
        world.redis.zadd(clock.scheduled_jobs_key, {"1": 1})
        counts = []
        for _ in range(3):
            clock.enqueue_jobs(world.reconciler.announce_due)
            counts.append((len(world.queued()), world.redis.zscore(clock.scheduled_jobs_key, "1") is None))
        assert counts == [(7, False), (14, False), (20, True)], "the clock goes on ringing until all are announced"

    def test_the_clock_carries_only_what_is_due_soon(self, world: World) -> None:
        world.submit(delay_seconds=3600)
        soon = world.submit(delay_seconds=30)
        carried = "rq:scheduler:scheduled_jobs"
        assert world.redis.zrange(carried, 0, -1) == [str(soon)]
        world.later(3550)
        world.redis.delete(carried)
        world.reconciler.run_once()
        assert world.redis.zcard(carried) == 1, "the reconciler adds the rest in time"


class TestLock:
    """Only one of many schedulers acts, and nobody takes another's lock away."""

    def test_one_at_a_time(self, world: World) -> None:
        first = Clock(world.redis, interval=1, name="first")
        second = Clock(world.redis, interval=1, name="second")
        assert first.acquire_lock()
        assert first.acquire_lock(), "the owner renews"
        assert not second.acquire_lock()
        second.remove_lock()
        assert not second.acquire_lock(), "a lock is only released by its owner"
        first.remove_lock()
        assert second.acquire_lock()

    def test_it_expires_with_its_owner(self, world: World) -> None:
        Clock(world.redis, interval=1, name="first").acquire_lock()
        assert 0 < int(world.redis.ttl(Clock.scheduler_lock_key)) <= 10
