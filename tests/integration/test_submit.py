"""POST /api/v1/tasks: what is accepted is committed and announced; the rest gets a clear 4xx."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from api import services

GOOD = {"prompt": "请用一句话介绍人工智能", "model": "deepseek-chat", "priority": 1}
KEYS = [
    "id", "prompt", "model", "status", "priority", "created_at", "updated_at", "task_type", "queue",
    "input", "result", "error", "progress", "attempt", "max_retries", "timeout_seconds", "run_at",
    "started_at", "completed_at", "usage", "batch_id", "depends_on", "metadata",
]  # fmt: skip


def test_a_task_is_committed_announced_and_returned(client: FlaskClient, redis_client: "redis.Redis") -> None:
    answer = client.post("/api/v1/tasks", json=GOOD)
    assert answer.status_code == 201
    task = answer.get_json()
    assert set(KEYS) <= set(task)
    assert list(task)[:7] == KEYS[:7]
    assert answer.headers["Location"] == f"/api/v1/tasks/{task['id']}"
    assert task["prompt"] == GOOD["prompt"]
    assert str(GOOD["prompt"]) in answer.get_data(as_text=True), "Chinese text must stay readable"
    assert (task["status"], task["queue"], task["attempt"], task["max_retries"]) == ("PENDING", "low", 0, 3)
    assert task["created_at"].endswith("Z")
    assert client.get(answer.headers["Location"]).get_json() == task
    assert redis_client.lrange("rq:queue:low", 0, -1) == [str(task["id"])]
    events = client.get(f"/api/v1/tasks/{task['id']}/events").get_json()
    assert [(event["from_status"], event["to_status"]) for event in events] == [(None, "PENDING")]


def test_everything_a_caller_may_say_is_kept(client: FlaskClient) -> None:
    wanted = {
        "task_type": "text_generation",
        "prompt": "p",
        "model": "m",
        "priority": 10,
        "input": {"system_prompt": "be brief", "temperature": 0.2, "max_tokens": 5, "messages": []},
        "metadata": {"order": [1, {"deep": "值"}]},
        "timeout_seconds": 7,
        "max_retries": 0,
        "retry": {"strategy": "custom", "delays": [1, 2.5]},
    }
    task = client.post("/api/v1/tasks", json=wanted).get_json()
    for name in ("priority", "input", "metadata", "timeout_seconds", "max_retries"):
        assert task[name] == wanted[name]
    assert task["queue"] == "high"
    assert task["retry"]["delays"] == [1, 2.5]


@pytest.mark.parametrize("when", ["run_at", "delay_seconds"])
def test_a_delayed_task_waits_for_the_clock(when: str, client: FlaskClient, redis_client: "redis.Redis") -> None:
    due = datetime.now(UTC) + timedelta(seconds=60)
    value: Any = due.isoformat() if when == "run_at" else 60
    task = client.post("/api/v1/tasks", json={**GOOD, when: value}).get_json()
    assert abs((datetime.fromisoformat(task["run_at"]) - due).total_seconds()) < 2
    assert redis_client.lrange("rq:queue:low", 0, -1) == []
    (entry,) = redis_client.zrange("rq:scheduler:scheduled_jobs", 0, -1, withscores=True)
    assert entry[0] == str(task["id"])
    assert abs(float(entry[1]) - due.timestamp()) < 2


def test_a_time_in_the_past_is_now(client: FlaskClient, redis_client: "redis.Redis") -> None:
    client.post("/api/v1/tasks", json={**GOOD, "run_at": "2020-01-01T00:00:00Z"})
    assert redis_client.llen("rq:queue:low") == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": "  \n"}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "a\u0000b"}, "prompt"),
        ({"prompt": "x" * 100_001}, "prompt"),
        ({"model": ""}, "model"),
        ({"model": "m" * 201}, "model"),
        ({"priority": 0}, "priority"),
        ({"priority": 11}, "priority"),
        ({"priority": "5"}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 5.5}, "priority"),
        ({"priority": 10**30}, "priority"),
        ({"task_type": "mine_bitcoin"}, "task_type"),
        ({"input": {"temperature": 3}}, "input"),
        ({"input": {"unknown": 3}}, "input"),
        ({"input": []}, "input"),
        ({"metadata": "text"}, "metadata"),
        ({"metadata": {"a": "\u0000"}}, "metadata"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": 90_000}, "timeout_seconds"),
        ({"max_retries": -1}, "max_retries"),
        ({"retry": {"strategy": "hope"}}, "retry"),
        ({"retry": {"strategy": "custom"}}, "retry"),
        ({"retry": {"delays": [1]}}, "retry"),
        ({"retry": {"base_delay": -1}}, "retry"),
        ({"run_at": "tomorrow"}, "run_at"),
        ({"run_at": "9999-12-31T23:59:59-12:00"}, "run_at"),
        ({"run_at": "2030-01-01T00:00:00Z", "delay_seconds": 5}, "run_at"),
        ({"delay_seconds": -1}, "delay_seconds"),
        ({"delay_seconds": 1e300}, "delay_seconds"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_does_not_fit_gets_422_naming_the_field(change: dict[str, Any], field: str, client: FlaskClient) -> None:
    sent = json.dumps({**GOOD, **change})
    answer = client.post("/api/v1/tasks", data=sent, content_type="application/json")
    assert answer.status_code == 422
    body = answer.get_json()
    assert (body["code"], body["status"]) == (422, "Unprocessable Entity")
    assert body["message"]
    assert list(body["errors"]["json"]) == [field]
    assert client.get("/api/v1/tasks").get_json() == []


@pytest.mark.parametrize("missing", ["prompt", "model"])
def test_text_generation_needs_prompt_and_model(missing: str, client: FlaskClient) -> None:
    answer = client.post("/api/v1/tasks", json={name: value for name, value in GOOD.items() if name != missing})
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]["json"]) == [missing]


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (b"", {422}),
        (b"not json", {400}),
        (b"[1, 2]", {422}),
        (b"null", {422}),
        (b'"text"', {422}),
        (b"{", {400}),
        (b'{"prompt": NaN}', {400}),
        (b'{"prompt": Infinity}', {400}),
        (b'{"prompt": "\\ud800", "model": "m"}', {400}),
        (b'{"prompt": "\xff", "model": "m"}', {400}),
        ('{"prompt": "é", "model": "m"}'.encode("latin-1"), {400}),
        ('{"prompt": "x", "model": "m"}'.encode("utf-16"), {400}),
        (b'{"prompt": "\x00", "model": "m"}', {400}),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, {400, 422}),
        (b"[" * 100_000, {400, 422}),
        (b'{"prompt": "x", "model": "m", "metadata": {"a":' + b'{"a":' * 200 + b"1" + b"}" * 201 + b"}", {400, 422}),
        (b'{"prompt": "x", "model": "m", "metadata": {"n": 1e999}}', {400, 422}),
    ],
)
def test_bodies_that_make_no_sense_get_a_4xx(body: bytes, statuses: set[int], client: FlaskClient) -> None:
    answer = client.post("/api/v1/tasks", data=body, content_type="application/json")
    assert answer.status_code in statuses, answer.get_data(as_text=True)
    assert answer.get_json()["code"] == answer.status_code
    assert answer.get_json()["message"]


def test_another_content_type_is_told_so(client: FlaskClient) -> None:
    for content_type in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        answer = client.post("/api/v1/tasks", data=b'{"prompt": "p", "model": "m"}', content_type=content_type)
        assert answer.status_code == 400
        assert "Content-Type: application/json" in answer.get_json()["message"]
    assert client.get("/api/v1/tasks").get_json() == []


@pytest.mark.parametrize(("body", "status"), [(b'{"prompt": "p", "model": "m"}', 201), (b"not json", 400)])
def test_a_body_without_a_content_type_is_read_as_json(body: bytes, status: int, client: FlaskClient) -> None:
    assert client.post("/api/v1/tasks", data=body).status_code == status
    assert client.post("/api/v1/tasks", data=body, headers={"Idempotency-Key": "k"}).status_code == status


def test_a_huge_body_gets_413(client: FlaskClient) -> None:
    large = b"x" * (10 * 1024 * 1024 + 1)
    answer = client.post("/api/v1/tasks", data=large, content_type="application/json")
    assert answer.status_code == 413
    assert answer.get_json()["code"] == 413
    assert client.post("/api/v1/tasks/batch", data=large, content_type="application/json").status_code == 400
    answer = client.post("/api/v1/tasks/batch", data=b"x" * (64 * 1024 * 1024 + 1), content_type="application/json")
    assert answer.status_code == 413


def test_large_integers_in_metadata_do_not_hurt(client: FlaskClient) -> None:
    body = b'{"prompt": "x", "model": "m", "metadata": {"n": 123456789012345678901234567890}}'
    assert client.post("/api/v1/tasks", data=body, content_type="application/json").status_code == 201


def test_when_redis_is_away_the_task_is_accepted_all_the_same(app: Flask, client: FlaskClient) -> None:
    connection = services.get().doorbell.connection
    connection.connection_pool.connection_kwargs["path"] = "/nonexistent/redis.sock"
    connection.connection_pool.connection_kwargs.pop("host", None)
    connection.connection_pool.disconnect()
    answer = client.post("/api/v1/tasks", json=GOOD)
    assert answer.status_code == 201
    assert client.get(answer.headers["Location"]).get_json()["status"] == "PENDING"


class TestIdempotency:
    """The same Idempotency-Key gives back the same task."""

    def post(self, client: FlaskClient, key: str = "k1", **change: Any) -> Any:
        return client.post("/api/v1/tasks", json={**GOOD, **change}, headers={"Idempotency-Key": key})

    def test_a_repeated_request_gives_the_same_task(self, client: FlaskClient) -> None:
        first, second = self.post(client), self.post(client)
        assert (first.status_code, second.status_code) == (201, 200)
        assert second.headers["Idempotent-Replayed"] == "true"
        assert second.get_json()["id"] == first.get_json()["id"]
        assert len(client.get("/api/v1/tasks").get_json()) == 1

    def test_the_order_of_keys_in_the_body_does_not_matter(self, client: FlaskClient) -> None:
        first = self.post(client)
        body = dict(reversed(list(GOOD.items())))
        second = client.post("/api/v1/tasks", json=body, headers={"Idempotency-Key": "k1"})
        assert second.get_json()["id"] == first.get_json()["id"]

    def test_another_body_with_the_same_key_is_refused(self, client: FlaskClient) -> None:
        self.post(client)
        answer = self.post(client, prompt="something else")
        assert answer.status_code == 422
        assert "Idempotency-Key" in answer.get_json()["errors"]["headers"]

    def test_a_request_that_failed_does_not_use_its_key_up(self, client: FlaskClient) -> None:
        assert self.post(client, priority=99).status_code == 422
        assert self.post(client).status_code == 201

    @pytest.mark.parametrize("key", ["", "k" * 256])
    def test_keys_have_a_sensible_length(self, key: str, client: FlaskClient) -> None:
        assert self.post(client, key).status_code == 422

    def test_ten_simultaneous_requests_make_one_task(self, app: Flask) -> None:
        together = threading.Barrier(10)

        def post(_: int) -> tuple[int, int]:
            together.wait()
            answer = self.post(app.test_client())
            return answer.status_code, answer.get_json()["id"]

        with ThreadPoolExecutor(10) as threads:
            answers = list(threads.map(post, range(10)))
        assert sorted(status for status, _ in answers) == [200] * 9 + [201]
        assert len({task_id for _, task_id in answers}) == 1
        assert len(app.test_client().get("/api/v1/tasks").get_json()) == 1

    def test_batches_can_be_repeated_too(self, client: FlaskClient) -> None:
        answers = [
            client.post("/api/v1/tasks/batch", json={"tasks": [GOOD] * 3}, headers={"Idempotency-Key": "b"})
            for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [201, 200]
        assert answers[0].get_json() == answers[1].get_json()
        assert len(client.get("/api/v1/tasks").get_json()) == 3

    def test_a_key_of_a_task_is_not_a_key_of_a_batch(self, client: FlaskClient) -> None:
        self.post(client, "same")
        answer = client.post("/api/v1/tasks/batch", json={"tasks": [GOOD]}, headers={"Idempotency-Key": "same"})
        assert answer.status_code == 422
