"""Tasks that wait for others, unique work, and results that are given again."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from api import services
from jobs.errors import TaskError
from jobs.followups import Followups
from jobs.queues import Doorbell
from jobs.reconcile import Reconciler
from jobs.settings import Settings
from jobs.store.database import Database
from jobs.store.queries import QUERIES
from tests.support import hand
from tests.support.waiting import wait_until


class Family:
    """Submits tasks, and ends them the way a worker does, with what follows."""

    def __init__(self, client: FlaskClient, database: Database, doorbell: Doorbell) -> None:
        self.client = client
        self.database = database
        self.followups = Followups(database, doorbell)

    def submit(self, *parents: int, **fields: Any) -> int:
        body = {"prompt": "p", "model": "m", "depends_on": list(parents), **fields}
        answer = self.client.post("/api/v1/tasks", json=body)
        assert answer.status_code == 201, answer.get_json()
        return int(answer.get_json()["id"])

    def end(self, *ids: int, status: str = "COMPLETED") -> None:
        final = TaskError("provider_error", "no")
        self.followups.after(hand.finish(self.database, *ids, status=status, error=final))

    def rows(self, statement: Any) -> list[Any]:
        with self.database.transaction() as session:
            return session.run(statement)

    def states(self, *ids: int) -> list[str]:
        return [self.task(task_id)["status"] for task_id in ids]

    def task(self, task_id: int) -> dict[str, Any]:
        task: dict[str, Any] = self.client.get(f"/api/v1/tasks/{task_id}").get_json()
        return task


@pytest.fixture
def family(client: FlaskClient, database: Database, doorbell: Doorbell) -> Family:
    return Family(client, database, doorbell)


def queued(redis_client: "redis.Redis") -> list[int]:
    return [int(entry) for entry in redis_client.lrange("rq:queue:default", 0, -1)]


class TestDependsOn:
    def test_a_child_is_blocked_until_its_parent_completes(self, family: Family, redis_client: "redis.Redis") -> None:
        parent = family.submit()
        child = family.submit(parent)
        assert family.task(child)["depends_on"] == [parent]
        assert family.states(child) == ["BLOCKED"]
        assert queued(redis_client) == [parent]
        family.end(parent)
        assert family.states(child) == ["PENDING"]
        assert child in queued(redis_client)
        events = family.client.get(f"/api/v1/tasks/{child}/events").get_json()
        assert [(event["from_status"], event["to_status"]) for event in events] == [
            (None, "BLOCKED"),
            ("BLOCKED", "PENDING"),
        ]

    def test_it_waits_for_all_of_them(self, family: Family) -> None:
        parents = [family.submit() for _ in range(3)]
        child = family.submit(*parents)
        family.end(parents[1])
        family.end(parents[0])
        assert family.states(child) == ["BLOCKED"]
        family.end(parents[2])
        assert family.states(child) == ["PENDING"]

    def test_parents_that_have_completed_before_do_not_hold_it_up(self, family: Family) -> None:
        parent = family.submit()
        family.end(parent)
        assert family.states(family.submit(parent)) == ["PENDING"]

    @pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
    def test_when_a_parent_does_not_complete_its_descendants_fail(self, status: str, family: Family) -> None:
        parent, other = family.submit(), family.submit()
        child = family.submit(parent, other)
        grandchild = family.submit(child)
        if status == "FAILED":
            family.end(parent, status="FAILED")
        else:
            family.client.post(f"/api/v1/tasks/{parent}/cancel")
        assert family.states(child, grandchild) == ["FAILED", "FAILED"]
        error = family.task(child)["error"]
        assert (error["code"], error["retryable"]) == ("dependency_failed", False)
        assert f"Task {parent}" in error["message"]
        family.end(other)
        assert family.states(child) == ["FAILED"]

    def test_a_child_of_a_failed_task_fails_too(self, family: Family) -> None:
        parent = family.submit()
        family.end(parent, status="FAILED")
        assert family.states(family.submit(parent)) == ["FAILED"]

    def test_a_blocked_task_can_be_cancelled(self, family: Family) -> None:
        parent = family.submit()
        child = family.submit(parent)
        assert family.client.post(f"/api/v1/tasks/{child}/cancel").get_json()["status"] == "CANCELLED"
        family.end(parent)
        assert family.states(child) == ["CANCELLED"]

    def test_a_retried_child_waits_for_its_retried_parent(self, family: Family) -> None:
        parent = family.submit()
        child = family.submit(parent)
        family.end(parent, status="FAILED")
        family.client.post(f"/api/v1/tasks/{parent}/retry")
        assert family.client.post(f"/api/v1/tasks/{child}/retry").get_json()["status"] == "BLOCKED"
        family.end(parent)
        assert family.states(child) == ["PENDING"]

    def test_a_child_cannot_be_retried_before_the_parent_that_failed(self, family: Family) -> None:
        parent = family.submit()
        child = family.submit(parent)
        family.end(parent, status="FAILED")
        answer = family.client.post(f"/api/v1/tasks/{child}/retry")
        assert answer.status_code == 409
        assert f"task {parent}, which is FAILED" in answer.get_json()["message"]

    def test_a_parent_and_its_child_that_are_retried_at_once_do_not_wait_for_each_other(
        self, app: Flask, family: Family, configured: Settings
    ) -> None:
        parent = family.submit()
        child = family.submit(parent)
        family.end(parent, status="FAILED")
        family.client.post(f"/api/v1/tasks/{parent}/retry")
        with ThreadPoolExecutor(1) as threads, psycopg.connect(configured.database_url) as other:
            other.execute("SELECT FROM tasks WHERE id = %s FOR UPDATE", [parent])
            retrying = threads.submit(lambda: app.test_client().post(f"/api/v1/tasks/{child}/retry").status_code)
            waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            wait_until(lambda: family.rows(waiting), "the retry waits for the parent")
            other.execute("SELECT FROM tasks WHERE id = %s FOR UPDATE NOWAIT", [child])
            other.commit()
            assert retrying.result(20) == 200
        assert family.states(parent, child) == ["PENDING", "BLOCKED"]

    def test_a_child_that_comes_while_its_parents_children_are_released_is_not_forgotten(
        self, family: Family, configured: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parent = family.submit()
        first = family.submit(parent)
        hand.finish(family.database, parent)
        pause = "WHERE (SELECT pg_sleep(0.7)) IS NOT NULL AND has_children AND"
        slow = QUERIES["lock_parents"].replace("WHERE has_children AND", pause)

        def release() -> None:
            with psycopg.connect(configured.database_url) as other:
                parents = [row[0] for row in other.execute(slow.encode())]
                other.execute(QUERIES["release_children"], {"parents": parents, "limit": 1000})

        with ThreadPoolExecutor(1) as threads:
            releasing = threads.submit(release)
            busy = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            wait_until(lambda: family.rows(busy), "the release has begun")
            with monkeypatch.context() as another_process_has_the_parent:
                another_process_has_the_parent.setattr(Followups, "release", lambda _: set())
                late = family.submit(parent)
            releasing.result(20)
        family.followups.release()
        assert family.states(first, late) == ["PENDING", "PENDING"]

    def test_parents_that_completed_before_a_retry_are_counted_once(self, family: Family) -> None:
        failed, completed = family.submit(), family.submit()
        child = family.submit(failed, completed)
        family.end(failed, status="FAILED")
        hand.finish(family.database, completed)  # and what follows from that comes late
        family.client.post(f"/api/v1/tasks/{failed}/retry")
        assert family.client.post(f"/api/v1/tasks/{child}/retry").get_json()["status"] == "BLOCKED"
        family.followups.release()
        assert family.states(child) == ["BLOCKED"]
        family.end(failed)
        assert family.states(child) == ["PENDING"]

    def test_a_delayed_child_also_waits_for_its_time(self, family: Family, redis_client: "redis.Redis") -> None:
        parent = family.submit()
        child = family.submit(parent, delay_seconds=3600)
        family.end(parent)
        assert family.states(child) == ["PENDING"]
        assert child not in queued(redis_client)

    def test_two_parents_that_end_together_both_count(self, family: Family) -> None:
        parents = [family.submit() for _ in range(50)]
        child = family.submit(*parents)
        claims = hand.claim(family.database, hand.register(family.database), parents)
        moved = hand.record(family.database, *[(row["id"], row["fence"], "COMPLETED") for row in claims])
        family.followups.after(moved)
        assert family.states(child) == ["PENDING"]

    def test_the_reconciler_releases_what_a_dead_worker_left(self, family: Family, doorbell: Doorbell) -> None:
        parent = family.submit()
        child = family.submit(parent)
        hand.finish(family.database, parent)
        assert family.states(child) == ["BLOCKED"]
        Reconciler(family.database, doorbell).run_once()
        assert family.states(child) == ["PENDING"]

    def test_many_children_are_released_in_parts(
        self, family: Family, monkeypatch: pytest.MonkeyPatch, redis_client: "redis.Redis"
    ) -> None:
        monkeypatch.setattr("jobs.followups._AT_ONCE", 7)
        parent = family.submit()
        tasks = [{"prompt": "p", "model": "m", "depends_on": [parent]}] * 40
        family.client.post("/api/v1/tasks/batch", json={"tasks": tasks})
        family.end(parent)
        assert len(queued(redis_client)) == 41

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"depends_on": [4711]}, "depends_on"),
            ({"depends_on": [1, 1]}, "depends_on"),
            ({"depends_on": [0]}, "depends_on"),
            ({"depends_on": ["1"]}, "depends_on"),
            ({"depends_on": 1}, "depends_on"),
            ({"depends_on": [1], "prompt": "{{ oops"}, "prompt"),
            ({"depends_on": [1], "input": {"system_prompt": "{% set a = 1 %}"}}, "input"),
        ],
    )
    def test_what_cannot_be_gets_422(self, fields: dict[str, Any], field: str, family: Family) -> None:
        family.submit()
        answer = family.client.post("/api/v1/tasks", json={"prompt": "p", "model": "m", **fields})
        assert answer.status_code == 422
        assert field in answer.get_json()["errors"]["json"]
        assert family.client.get("/api/v1/tasks").headers["X-Total-Count"] == "1"


class TestBatches:
    def test_a_task_with_an_unknown_parent_is_named(self, family: Family) -> None:
        task = {"prompt": "p", "model": "m"}
        answer = family.client.post("/api/v1/tasks/batch", json={"tasks": [task, {**task, "depends_on": [98765]}]})
        assert answer.status_code == 422
        assert answer.get_json()["errors"]["json"] == {"tasks": {"1": {"depends_on": ["There is no task 98765."]}}}
        assert family.client.get("/api/v1/tasks").get_json() == []

    def test_only_its_failures_run_again_also_those_that_depend_on_each_other(self, family: Family) -> None:
        parent = family.submit()
        tasks = [{"prompt": "p", "model": "m"}] * 2 + [{"prompt": "p", "model": "m", "depends_on": [parent]}]
        batch = family.client.post("/api/v1/tasks/batch", json={"tasks": tasks}).get_json()
        first, second, child = (
            row["id"] for row in family.client.get(f"/api/v1/tasks?batch_id={batch['id']}&sort=id").get_json()
        )
        family.end(first)
        family.end(second, status="FAILED")
        family.end(parent, status="FAILED")
        shown = family.client.get(f"/api/v1/batches/{batch['id']}").get_json()
        assert (shown["status"], shown["counts"]) == ("COMPLETED", {"COMPLETED": 1, "FAILED": 2})
        family.client.post(f"/api/v1/tasks/{parent}/retry")
        again = family.client.post(f"/api/v1/batches/{batch['id']}/retry").get_json()
        assert (again["status"], again["counts"]) == ("PROCESSING", {"COMPLETED": 1, "PENDING": 1, "BLOCKED": 1})
        assert again["completed_at"] is None
        family.end(second)
        family.end(parent)
        family.end(child)
        assert family.client.get(f"/api/v1/batches/{batch['id']}").get_json()["counts"] == {"COMPLETED": 3}
        assert family.client.post(f"/api/v1/batches/{batch['id']}/retry").status_code == 409
        assert family.client.post("/api/v1/batches/4711/retry").status_code == 404

    def test_a_batch_is_closed_when_its_last_task_ends(self, family: Family, database: Database) -> None:
        batch = family.client.post("/api/v1/tasks/batch", json={"tasks": [{"prompt": "p", "model": "m"}] * 2})
        ids = [row["id"] for row in family.client.get("/api/v1/tasks").get_json()]

        def closed() -> bool:
            return bool((database.one("get_batch", {"id": batch.get_json()["id"]}) or {})["completed_at"])

        family.end(ids[0])
        assert not closed()
        family.client.post(f"/api/v1/tasks/{ids[1]}/cancel")
        assert closed()


class TestUniqueKey:
    def test_while_a_task_is_not_finished_it_is_given_back(self, family: Family) -> None:
        body = {"prompt": "p", "model": "m", "unique_key": "report-7"}
        first = family.client.post("/api/v1/tasks", json=body)
        second = family.client.post("/api/v1/tasks", json={**body, "prompt": "another"})
        assert (first.status_code, second.status_code) == (201, 200)
        assert first.get_json()["id"] == second.get_json()["id"]
        assert second.get_json()["prompt"] == "p"
        family.end(first.get_json()["id"])
        assert family.client.post("/api/v1/tasks", json=body).status_code == 201

    def test_a_batch_holds_only_what_is_new(self, family: Family) -> None:
        task = {"prompt": "p", "model": "m"}
        family.client.post("/api/v1/tasks", json={**task, "unique_key": "a"})
        keys = ["a", "b", "b"]
        batch = family.client.post("/api/v1/tasks/batch", json={"tasks": [{**task, "unique_key": key} for key in keys]})
        assert batch.get_json()["total"] == 1
        empty = family.client.post("/api/v1/tasks/batch", json={"tasks": [{**task, "unique_key": "a"}]}).get_json()
        assert (empty["total"], empty["status"], empty["progress"]) == (0, "COMPLETED", 100)

    def test_a_retry_that_would_make_two_is_refused(self, family: Family) -> None:
        body = {"prompt": "p", "model": "m", "unique_key": "k"}
        first = family.client.post("/api/v1/tasks", json=body).get_json()["id"]
        family.client.post(f"/api/v1/tasks/{first}/cancel")
        family.client.post("/api/v1/tasks", json=body)
        answer = family.client.post(f"/api/v1/tasks/{first}/retry")
        assert answer.status_code == 409
        assert "unique_key" in answer.get_json()["message"]

    def test_many_at_once_make_one(self, app: Flask) -> None:
        wanted = {"task_type": "text_generation", "prompt": "p", "model": "m", "unique_key": "k"}
        submitter = services.get().submitter
        with ThreadPoolExecutor(8) as threads:
            rows = list(threads.map(lambda _: submitter.task(wanted).row["id"], range(24)))
        assert len(set(rows)) == 1


CACHED = {"prompt": "p", "model": "m", "input": {"temperature": 0.5}, "cache_ttl": 60}


class TestCache:
    def submit(self, family: Family, **changes: Any) -> dict[str, Any]:
        task: dict[str, Any] = family.client.post("/api/v1/tasks", json={**CACHED, **changes}).get_json()
        return task

    def test_an_equal_task_gets_the_result_at_once(self, family: Family, redis_client: "redis.Redis") -> None:
        first = self.submit(family)
        assert first["status"] == "PENDING"
        family.end(first["id"])
        redis_client.flushdb()
        second = self.submit(family)
        assert (second["status"], second["progress"]) == ("COMPLETED", 100)
        assert second["result"] == family.task(first["id"])["result"]
        assert second["completed_at"]
        assert second["usage"] is None, "nothing was spent"
        assert queued(redis_client) == []
        events = family.client.get(f"/api/v1/tasks/{second['id']}/events").get_json()
        assert [event["detail"] for event in events] == [{"reason": "cached"}]

    @pytest.mark.parametrize(
        "changes",
        [{"prompt": "q"}, {"model": "n"}, {"input": {"temperature": 0.6}}, {"input": {}}, {"cache_ttl": None}],
    )
    def test_what_is_not_equal_runs(self, changes: dict[str, Any], family: Family) -> None:
        family.end(self.submit(family)["id"])
        body = {name: value for name, value in {**CACHED, **changes}.items() if value is not None}
        assert family.client.post("/api/v1/tasks", json=body).get_json()["status"] == "PENDING"

    def test_results_grow_old(self, family: Family, database: Database) -> None:
        first = self.submit(family)
        family.end(first["id"])
        with database.transaction() as session:
            session.run("UPDATE tasks SET completed_at = completed_at - interval '61 seconds'")
        assert self.submit(family)["status"] == "PENDING"

    def test_an_unfinished_task_with_the_key_is_given_back_rather_than_a_result(self, family: Family) -> None:
        family.end(self.submit(family)["id"])
        unfinished = self.submit(family, unique_key="k", prompt="another")
        assert self.submit(family, unique_key="k")["id"] == unfinished["id"]
        family.end(unfinished["id"])
        assert self.submit(family, unique_key="k")["status"] == "COMPLETED"

    def test_failures_are_not_given_again(self, family: Family) -> None:
        family.end(self.submit(family)["id"], status="FAILED")
        assert self.submit(family)["status"] == "PENDING"
