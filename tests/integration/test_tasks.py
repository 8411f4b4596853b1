"""Lists, cancelling, retrying and batches over HTTP; outcomes are put into the database by hand."""

import json
import re
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from jobs.errors import TaskError
from jobs.lifecycle import Status
from jobs.store import listing
from jobs.store.database import Database
from tests.support import hand


def submit(client: FlaskClient, prompt: str = "p", **fields: Any) -> int:
    answer = client.post("/api/v1/tasks", json={"prompt": prompt, "model": "m", **fields})
    assert answer.status_code == 201
    return int(answer.get_json()["id"])


def claim(database: Database, *ids: int) -> None:
    """What a worker does first."""
    assert len(hand.claim(database, hand.register(database, "w1"), ids)) == len(ids)


def end(database: Database, task_id: int, status: Status) -> None:
    """What a worker does last."""
    error = TaskError("provider_error", "no").as_json() if status is Status.FAILED else None
    with database.transaction() as session:
        session.run(
            "UPDATE tasks SET status = %(status)s, worker_id = NULL, completed_at = now(), error = %(error)s"
            " WHERE id = %(id)s",
            {"id": task_id, "status": status.value, "error": None if error is None else json.dumps(error)},
        )


class TestList:
    def test_newest_first_with_total(self, client: FlaskClient) -> None:
        ids = [submit(client) for _ in range(3)]
        answer = client.get("/api/v1/tasks")
        assert [task["id"] for task in answer.get_json()] == ids[::-1]
        assert answer.headers["X-Total-Count"] == "3"
        assert "Link" not in answer.headers

    @pytest.mark.parametrize("sort", listing.TASKS.sorts)
    def test_every_order_pages_without_gap_or_double(self, sort: str, client: FlaskClient) -> None:
        for number in range(11):
            submit(client, priority=1 + number % 3)
        whole = client.get("/api/v1/tasks", query_string={"sort": sort}).get_json()
        key = sort.removeprefix("-")
        values = [(task[key], task["id"]) for task in whole]
        assert values == sorted(values, reverse=sort.startswith("-"))
        paged: list[Any] = []
        url = f"/api/v1/tasks?sort={sort}&limit=4"
        while True:
            answer = client.get(url)
            paged += answer.get_json()
            assert answer.headers["X-Total-Count"] == "11"
            following = re.search(r'<([^>]+)>; rel="next"', answer.headers.get("Link", ""))
            if not following:
                break
            url = following[1]
        assert paged == whole

    def test_skip_and_limit(self, client: FlaskClient) -> None:
        ids = [submit(client) for _ in range(5)][::-1]
        answer = client.get("/api/v1/tasks?skip=1&limit=2")
        assert [task["id"] for task in answer.get_json()] == ids[1:3]
        assert 'rel="prev"' in answer.headers["Link"]
        assert 'rel="first"' in answer.headers["Link"]
        assert client.get("/api/v1/tasks?skip=99").get_json() == []

    def test_each_filter(self, client: FlaskClient, database: Database) -> None:
        low, high, failed = submit(client, priority=1), submit(client, priority=9), submit(client)
        claim(database, failed)
        end(database, failed, Status.FAILED)
        batch = client.post("/api/v1/tasks/batch", json={"tasks": [{"prompt": "p", "model": "m"}]}).get_json()["id"]
        created = client.get(f"/api/v1/tasks/{high}").get_json()["created_at"]

        def found(**query: Any) -> set[int]:
            answer = client.get("/api/v1/tasks", query_string=query)
            assert answer.status_code == 200, answer.get_json()
            assert int(answer.headers["X-Total-Count"]) == len(answer.get_json())
            return {task["id"] for task in answer.get_json()}

        assert found(status="FAILED") == {failed}
        assert found(status="pending,failed") == {low, high, failed, failed + 1}
        assert found(priority=9) == {high}
        assert found(queue="low") == {low}
        assert found(task_type="text_generation", queue="high") == {high}
        assert found(task_type="other") == set()
        assert found(batch_id=batch) == {failed + 1}
        assert found(account_id=5) == set()
        assert found(created_after=created) == {high, failed, failed + 1}
        assert found(created_before=created) == {low}

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"status": "DONE"}, "status"),
            ({"priority": "high"}, "priority"),
            ({"queue": "urgent"}, "queue"),
            ({"batch_id": "0"}, "batch_id"),
            ({"batch_id": str(2**63)}, "batch_id"),
            ({"created_after": "yesterday"}, "created_after"),
            ({"sort": "prompt"}, "sort"),
            ({"limit": "0"}, "limit"),
            ({"limit": "1001"}, "limit"),
            ({"skip": "-1"}, "skip"),
            ({"skip": "x"}, "skip"),
            ({"cursor": "nonsense"}, "cursor"),
            ({"cursor": "WyItaWQiLCJ4IiwieSJd"}, "cursor"),
            ({"cursor": "WyItaWQiLDEsdHJ1ZV0"}, "cursor"),
            ({"cursor": "WyItaWQiLDFlMzAwLDFd"}, "cursor"),
            ({"cursor": "WzEsMiwzXQ", "skip": "1"}, "skip"),
            ({"task_type": "a\x00b"}, "task_type"),
            ({"colour": "red"}, "colour"),
        ],
    )
    def test_a_wrong_query_gets_422_naming_the_field(
        self, query: dict[str, str], field: str, client: FlaskClient
    ) -> None:
        answer = client.get("/api/v1/tasks", query_string=query)
        assert answer.status_code == 422
        assert list(answer.get_json()["errors"]["query"]) == [field]

    def test_totals_beyond_the_exact_range_are_estimates(
        self, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listing, "EXACT_TOTAL", 3)
        for _ in range(4):
            submit(client)
        answer = client.get("/api/v1/tasks?limit=1")
        assert int(answer.headers["X-Total-Count"]) >= 4
        assert answer.headers["X-Total-Count-Exact"] == "false"


@pytest.mark.parametrize("task_id", ["0", "-1", "abc", "1.5", "99999999999999999999", "9223372036854775807", "%00"])
@pytest.mark.parametrize("path", ["/api/v1/tasks/{}", "/api/v1/tasks/{}/events", "/api/v1/batches/{}"])
def test_ids_that_cannot_be_get_404(path: str, task_id: str, client: FlaskClient) -> None:
    answer = client.get(path.format(task_id))
    assert answer.status_code == 404
    assert answer.get_json()["code"] == 404


@pytest.mark.parametrize("method", ["put", "delete", "patch"])
def test_tasks_are_neither_replaced_nor_deleted(method: str, client: FlaskClient) -> None:
    task_id = submit(client)
    answer = getattr(client, method)(f"/api/v1/tasks/{task_id}")
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
    assert answer.get_json()["code"] == 405


class TestCancel:
    def test_a_waiting_task_is_cancelled_at_once(self, client: FlaskClient) -> None:
        task_id = submit(client)
        answer = client.post(f"/api/v1/tasks/{task_id}/cancel")
        assert answer.status_code == 200
        assert answer.get_json()["status"] == "CANCELLED"
        assert answer.get_json()["completed_at"]
        events = client.get(f"/api/v1/tasks/{task_id}/events").get_json()
        assert (events[-1]["from_status"], events[-1]["to_status"]) == ("PENDING", "CANCELLED")

    def test_for_a_running_task_the_wish_is_noted_and_its_worker_told(
        self, client: FlaskClient, database: Database, redis_client: "redis.Redis"
    ) -> None:
        task_id = submit(client)
        claim(database, task_id)
        listener: Any = redis_client.pubsub()  # type: ignore[no-untyped-call]
        listener.subscribe("rq:pubsub:w1")
        listener.get_message(timeout=5)
        answer = client.post(f"/api/v1/tasks/{task_id}/cancel")
        assert answer.status_code == 200
        assert answer.get_json()["status"] == "PROCESSING"
        assert answer.get_json()["cancel_requested"] is True
        message = listener.get_message(timeout=5)
        listener.close()
        assert message
        assert f"[{task_id}]" in message["data"]

    @pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELLED"])
    def test_what_has_ended_cannot_be_cancelled(self, status: str, client: FlaskClient, database: Database) -> None:
        task_id = submit(client)
        claim(database, task_id)
        end(database, task_id, Status(status))
        answer = client.post(f"/api/v1/tasks/{task_id}/cancel")
        assert answer.status_code == 409
        assert status in answer.get_json()["message"]

    def test_what_is_not_there_cannot_be_cancelled(self, client: FlaskClient) -> None:
        assert client.post("/api/v1/tasks/4711/cancel").status_code == 404


class TestRetry:
    @pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
    def test_failed_and_cancelled_tasks_run_again_from_the_start(
        self, status: str, client: FlaskClient, database: Database, redis_client: "redis.Redis"
    ) -> None:
        task_id = submit(client, priority=1)
        claim(database, task_id)
        end(database, task_id, Status(status))
        redis_client.flushdb()
        task = client.post(f"/api/v1/tasks/{task_id}/retry").get_json()
        assert (task["status"], task["attempt"], task["error"]) == ("PENDING", 0, None)
        assert task["completed_at"] is None
        assert redis_client.lrange("rq:queue:low", 0, -1) == [str(task_id)]
        events = client.get(f"/api/v1/tasks/{task_id}/events").get_json()
        assert (events[-1]["from_status"], events[-1]["to_status"]) == (status, "PENDING")

    def test_a_delayed_task_still_waits_for_its_time(self, client: FlaskClient, redis_client: "redis.Redis") -> None:
        task_id = submit(client, delay_seconds=50)
        client.post(f"/api/v1/tasks/{task_id}/cancel")
        assert client.post(f"/api/v1/tasks/{task_id}/retry").get_json()["status"] == "PENDING"
        assert redis_client.llen("rq:queue:default") == 0
        assert redis_client.zscore("rq:scheduler:scheduled_jobs", str(task_id))

    def test_others_are_not_retried(self, client: FlaskClient, database: Database) -> None:
        waiting, running, done = submit(client), submit(client), submit(client)
        claim(database, running, done)
        end(database, done, Status.COMPLETED)
        for task_id in (waiting, running, done):
            assert client.post(f"/api/v1/tasks/{task_id}/retry").status_code == 409
        assert client.post("/api/v1/tasks/4711/retry").status_code == 404


TASK = {"prompt": "p", "model": "m"}


class TestBatch:
    def test_tasks_are_submitted_together(self, client: FlaskClient, redis_client: "redis.Redis") -> None:
        tasks = [{**TASK, "prompt": f"p{number}", "priority": 1 + number % 10} for number in range(100)]
        answer = client.post("/api/v1/tasks/batch", json={"tasks": tasks})
        assert answer.status_code == 201
        batch = answer.get_json()
        assert answer.headers["Location"] == f"/api/v1/batches/{batch['id']}"
        assert batch["status"] == "PROCESSING"
        assert (batch["total"], batch["counts"], batch["progress"]) == (100, {"PENDING": 100}, 0)
        assert batch["completed_at"] is None
        listed = client.get(f"/api/v1/tasks?batch_id={batch['id']}&sort=id").get_json()
        assert [task["prompt"] for task in listed] == [task["prompt"] for task in tasks]
        assert [redis_client.llen(f"rq:queue:{queue}") for queue in ("high", "default", "low")] == [30, 40, 30]

    def test_one_wrong_task_keeps_all_of_them_out(self, client: FlaskClient) -> None:
        tasks = [TASK, {**TASK, "priority": 99}, TASK]
        answer = client.post("/api/v1/tasks/batch", json={"tasks": tasks})
        assert answer.status_code == 422
        assert list(answer.get_json()["errors"]["json"]["tasks"]) == ["1"]
        assert client.get("/api/v1/tasks").get_json() == []

    @pytest.mark.parametrize("tasks", [[], None, {}, [TASK] * 10_001])
    def test_one_to_ten_thousand(self, tasks: Any, client: FlaskClient) -> None:
        answer = client.post("/api/v1/tasks/batch", json={"tasks": tasks})
        assert answer.status_code == 422
        assert list(answer.get_json()["errors"]["json"]) == ["tasks"]

    def test_progress_counts_and_errors(self, client: FlaskClient, database: Database) -> None:
        url = client.post("/api/v1/tasks/batch", json={"tasks": [TASK] * 4}).headers["Location"]
        ids = sorted(task["id"] for task in client.get("/api/v1/tasks").get_json())
        claim(database, *ids[:3])
        end(database, ids[0], Status.COMPLETED)
        end(database, ids[1], Status.FAILED)
        batch = client.get(url).get_json()
        assert batch["counts"] == {"COMPLETED": 1, "FAILED": 1, "PENDING": 1, "PROCESSING": 1}
        assert batch["progress"] == 50
        assert [(error["task_id"], error["error"]["code"]) for error in batch["errors"]] == [(ids[1], "provider_error")]
        end(database, ids[2], Status.COMPLETED)
        claim(database, ids[3])
        end(database, ids[3], Status.COMPLETED)
        batch = client.get(url).get_json()
        assert (batch["status"], batch["progress"]) == ("COMPLETED", 100)
        assert batch["completed_at"]
        assert client.post(f"{url}/cancel").status_code == 409

    def test_cancel_ends_what_has_not_ended(self, client: FlaskClient, database: Database) -> None:
        url = client.post("/api/v1/tasks/batch", json={"tasks": [TASK] * 3}).headers["Location"]
        first = min(task["id"] for task in client.get("/api/v1/tasks").get_json())
        claim(database, first)
        end(database, first, Status.COMPLETED)
        batch = client.post(f"{url}/cancel").get_json()
        assert (batch["status"], batch["counts"]) == ("CANCELLED", {"COMPLETED": 1, "CANCELLED": 2})
